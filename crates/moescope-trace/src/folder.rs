//! The trace on disk, read piece by piece.

use std::path::{Path, PathBuf};

use moescope_base::{HookPoint, Value, ValueData};
use serde::Deserialize;

use crate::columns::{Cells, ColumnReader};
use crate::manifest::{Manifest, SCHEMA, token_hash};
use crate::tensor_reader::TensorReader;
use crate::{LayerRouting, RoutingTrace, TokenTable, TraceError};

/// A trace on disk, read piece by piece.
#[derive(Debug)]
pub struct TraceFolder {
    folder: PathBuf,
    manifest: Manifest,
}

impl TraceFolder {
    /// Opens a trace by its manifest; nothing else is read yet.
    ///
    /// # Errors
    /// [`TraceError::File`], [`TraceError::Manifest`], or [`TraceError::Schema`] for another version of the format.
    pub fn open(folder: &Path) -> Result<TraceFolder, TraceError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let path = folder.join("manifest.json");
        let text = std::fs::read_to_string(&path).map_err(|source| TraceError::File {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let unreadable = |source| TraceError::Manifest { path: path.clone(), source };
        let version: Version = serde_json::from_str(&text).map_err(unreadable)?;
        if version.schema != SCHEMA {
            return Err(TraceError::Schema { path, found: version.schema, wanted: SCHEMA });
        }
        let manifest = serde_json::from_str(&text).map_err(unreadable)?;
        Ok(TraceFolder { folder: folder.into(), manifest })
    }

    /// What the trace was made from and with.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What is known about each token.
    ///
    /// # Errors
    /// If the file is damaged or does not fit the manifest.
    pub fn tokens(&self) -> Result<TokenTable, TraceError> {
        let path = self.folder.join("tokens.parquet");
        let reader = ColumnReader::open(&path)?;
        let table = (|| {
            Ok(TokenTable {
                ids: reader.unsigned(0, "id")?,
                next_ids: reader.unsigned(0, "next_id")?,
                domains: indices(&reader.text(0, "domain")?, &self.manifest.domain_names)?,
                documents: reader.unsigned(0, "document")?,
                positions: reader.unsigned(0, "position")?,
                classes: indices(&reader.text(0, "class")?, &self.manifest.class_names)?,
                domain_names: self.manifest.domain_names.clone(),
                class_names: self.manifest.class_names.clone(),
            })
        })();
        let table = table.map_err(|source| TraceError::Parquet { path, source })?;
        match token_hash(&table.ids) == self.manifest.token_hash {
            true => Ok(table),
            false => Err(TraceError::Inconsistent {
                what: "tokens.parquet".into(),
                found: format!("the hash {}", token_hash(&table.ids)),
                wanted: format!("{}, as in the manifest", self.manifest.token_hash),
            }),
        }
    }

    /// The routes of one layer; the others are not read.
    ///
    /// # Errors
    /// [`TraceError::NotRecorded`] for a layer that the trace lacks, or if a file is damaged.
    pub fn layer(&self, layer: usize) -> Result<LayerRouting, TraceError> {
        let group = self.manifest.layers.iter().position(|l| l.layer == layer);
        let Some(group) = group else {
            return Err(TraceError::NotRecorded { name: format!("blocks.{layer}.mlp.router.hook_indices") });
        };
        let sizes = self.manifest.layers[group];
        let column = |file: &str, name: &str| {
            let path = self.folder.join(file);
            let reader = ColumnReader::open(&path)?;
            if group >= reader.groups() {
                return Err(TraceError::Inconsistent {
                    what: file.into(),
                    found: format!("{} layers", reader.groups()),
                    wanted: format!("{}, as in the manifest", self.manifest.layers.len()),
                });
            }
            let cells = match name {
                "expert" => reader.unsigned(group, name).map(Cells::Unsigned),
                _ => reader.real(group, name).map(Cells::Real),
            };
            cells.map_err(|source| TraceError::Parquet { path, source })
        };
        let reals = |file: &str, name: &str| match column(file, name)? {
            Cells::Real(numbers) => Ok::<_, TraceError>(numbers),
            _ => Ok(Vec::new()),
        };
        let choices = match column("routing.parquet", "expert")? {
            Cells::Unsigned(choices) => choices,
            _ => Vec::new(),
        };
        let margin = reals("decisions.parquet", "margin")?;
        let path = self.folder.join("decisions.parquet");
        // Traces of earlier versions do not have it.
        let relative_margin = match ColumnReader::open(&path)?.has(group, "relative_margin") {
            true => reals("decisions.parquet", "relative_margin")?,
            false => vec![f32::NAN; margin.len()],
        };
        Ok(LayerRouting {
            layer,
            experts: sizes.experts,
            per_token: sizes.per_token,
            choices,
            weights: reals("routing.parquet", "weight")?,
            entropy: reals("decisions.parquet", "entropy")?,
            margin,
            relative_margin,
        })
    }

    /// The whole routing trace, checked.
    ///
    /// # Errors
    /// If a file is damaged or the parts do not fit together.
    pub fn routing(&self) -> Result<RoutingTrace, TraceError> {
        let layers =
            self.manifest.layers.iter().map(|l| self.layer(l.layer)).collect::<Result<Vec<_>, _>>()?;
        RoutingTrace::new(self.tokens()?, layers)
    }

    /// One recorded value; the others are not read.
    ///
    /// # Errors
    /// [`TraceError::NotRecorded`] when it is not there, or if the file is damaged.
    pub fn value(&self, point: HookPoint) -> Result<Value, TraceError> {
        let name = point.to_string();
        let path = self.folder.join("tensors.safetensors");
        if !path.exists() {
            return Err(TraceError::NotRecorded { name });
        }
        let reader = TensorReader::open(&path)?;
        if !reader.names().any(|found| found == name) {
            return Err(TraceError::NotRecorded { name });
        }
        let (shape, data) = match reader.is_integer(&name) {
            true => reader.integers(&name).map(|(shape, numbers)| (shape, ValueData::Integer(numbers)))?,
            false => reader.reals(&name).map(|(shape, numbers)| (shape, ValueData::Real(numbers)))?,
        };
        let rows = match point.site().in_expert() {
            true => Some(reader.integers(&format!("{name}.rows"))?.1.iter().map(|r| *r as u32).collect()),
            false => None,
        };
        Value::new(point, shape, data, rows)
            .map_err(|error| reader.complain(&name, error.to_string(), "the axes of its site"))
    }
}

/// Places of texts in a list of names.
fn indices(texts: &[String], names: &[String]) -> parquet::errors::Result<Vec<u16>> {
    let place = |text: &String| {
        names.iter().position(|name| name == text).map(|index| index as u16).ok_or_else(|| {
            parquet::errors::ParquetError::General(format!("`{text}` is not among the manifest's names"))
        })
    };
    texts.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Recording, record_routing, record_tensors};
    use crate::testing::{Planted, batch};
    use crate::write::write_trace;
    use moescope_base::Site;

    fn written(folder: &Path) -> (RoutingTrace, Recording) {
        let trace =
            record_routing(&mut Planted::new(), [batch(&[0, 1, 2, 3]), batch(&[3, 1, 1, 0])]).unwrap();
        let points = [HookPoint::expert(Site::ExpertPost, 1, 2), HookPoint::block(Site::RouterIndices, 1)];
        let (tokens, _) = batch(&[0, 1, 2, 3]);
        let recording = record_tensors(&mut Planted::new(), &tokens, &points, &[], &[]).unwrap();
        write_trace(folder, &trace, Some(&recording), "model", "0.1.0").unwrap();
        (trace, recording)
    }

    #[test]
    fn a_trace_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (trace, recording) = written(folder.path());
        let read = TraceFolder::open(folder.path()).unwrap();
        assert_eq!(read.routing().unwrap(), trace);
        assert_eq!(read.manifest().model_hash, "model");
        assert_eq!(read.manifest().token_hash, token_hash(&[0, 1, 2, 3, 3, 1, 1, 0]));
        for (point, value) in &recording.values {
            assert_eq!(&read.value(*point).unwrap(), value);
        }
        let absent = HookPoint::block(Site::ResidPre, 0);
        let error = read.value(absent).unwrap_err().to_string();
        assert!(error.contains("--hooks blocks.0.hook_resid_pre"), "{error}");
        assert!(read.layer(0).is_err());
    }

    #[test]
    fn a_trace_of_before_near_ties_is_read_without_them() {
        let folder = tempfile::tempdir().unwrap();
        let (trace, _) = written(folder.path());
        let fields = [
            "REQUIRED INT32 token (INTEGER(32,false));",
            "REQUIRED INT32 layer (INTEGER(32,false));",
            "REQUIRED FLOAT entropy;",
            "REQUIRED FLOAT margin;",
        ];
        let layer = &trace.layers()[0];
        let unsigned = |number: u32| Cells::Unsigned(vec![number; 8]);
        let real = |numbers: &[f32]| Cells::Real(numbers.to_vec());
        let cells = vec![unsigned(0), unsigned(1), real(&layer.entropy), real(&layer.margin)];
        crate::columns::write(&folder.path().join("decisions.parquet"), &fields, [cells]).unwrap();
        let read = TraceFolder::open(folder.path()).unwrap().layer(1).unwrap();
        assert_eq!(read.margin, layer.margin);
        assert!(read.relative_margin.len() == 8 && read.relative_margin.iter().all(|m| m.is_nan()));
    }

    #[test]
    fn writing_twice_gives_the_same_bytes() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        written(one.path());
        written(two.path());
        for name in
            ["routing.parquet", "decisions.parquet", "tokens.parquet", "tensors.safetensors", "manifest.json"]
        {
            let bytes = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
            assert_eq!(bytes(one.path()), bytes(two.path()), "{name}");
        }
    }

    #[test]
    fn damage_is_an_error_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path());
        for name in ["routing.parquet", "tokens.parquet", "decisions.parquet"] {
            let path = folder.path().join(name);
            let bytes = std::fs::read(&path).unwrap();
            for length in [0, 3, bytes.len() / 2, bytes.len() - 1] {
                std::fs::write(&path, &bytes[..length]).unwrap();
                assert!(
                    TraceFolder::open(folder.path()).unwrap().routing().is_err(),
                    "{name} cut to {length}"
                );
            }
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(TraceFolder::open(folder.path()).unwrap().routing().is_ok());
    }

    #[test]
    fn another_schema_or_other_tokens_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path());
        let path = folder.path().join("manifest.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"schema\": 1", "\"schema\": 2")).unwrap();
        assert!(matches!(TraceFolder::open(folder.path()).unwrap_err(), TraceError::Schema { found: 2, .. }));
        std::fs::write(&path, text.replace(&token_hash(&[0, 1, 2, 3, 3, 1, 1, 0]), "0")).unwrap();
        assert!(TraceFolder::open(folder.path()).unwrap().tokens().unwrap_err().to_string().contains("hash"));
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(TraceFolder::open(folder.path()).unwrap_err(), TraceError::Manifest { .. }));
    }
}
