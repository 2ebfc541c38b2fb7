//! A recording of activations, read part by part.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use moescope_base::{HookPoint, ValueData, nearest_name};
use serde::Deserialize;

use super::manifest::{ActivationManifest, KIND, Kept, SCHEMA};
use super::resume::{BEGUN, DOCUMENTS, EXPERTS, WHOLE, part};
use super::rows::Rows;
use super::run::DocumentLabel;
use crate::columns::ColumnReader;
use crate::{TensorReader, TraceError, read_recorded};

/// Rows of one site, with where each comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteRows {
    /// Lengths of the axes of a row: those of the site without batch and position, or without the rows of an expert.
    pub shape: Vec<usize>,
    /// The rows one after the other, in the order of the text.
    pub data: ValueData,
    /// Number of the document of each row.
    pub documents: Vec<u32>,
    /// Position of the token in the document.
    pub positions: Vec<u32>,
    /// Id of the token.
    pub token_ids: Vec<u32>,
}

/// A finished recording of activations on disk.
#[derive(Debug)]
pub struct ActivationFolder {
    folder: PathBuf,
    manifest: ActivationManifest,
}

/// Reads a manifest of this kind and version.
pub(super) fn read_manifest(path: &Path) -> Result<ActivationManifest, TraceError> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
        kind: Option<String>,
    }
    let text = std::fs::read_to_string(path).map_err(|source| TraceError::File {
        action: "read",
        path: path.into(),
        source,
    })?;
    let unreadable = |source| TraceError::Manifest { path: path.into(), source };
    let version: Version = serde_json::from_str(&text).map_err(unreadable)?;
    if version.kind.as_deref() != Some(KIND) {
        return Err(TraceError::Inconsistent {
            what: path.display().to_string(),
            found: version.kind.map_or_else(|| "routes".into(), |kind| format!("the kind `{kind}`")),
            wanted: format!("the kind `{KIND}`"),
        });
    }
    if version.schema != SCHEMA {
        return Err(TraceError::Schema { path: path.into(), found: version.schema, wanted: SCHEMA });
    }
    serde_json::from_str(&text).map_err(unreadable)
}

impl ActivationFolder {
    /// Opens a recording by its manifest; nothing else is read yet.
    ///
    /// # Errors
    /// [`TraceError::Unfinished`] for one that was interrupted; [`TraceError::File`], [`TraceError::Manifest`], [`TraceError::Schema`].
    pub fn open(folder: &Path) -> Result<ActivationFolder, TraceError> {
        let (whole, begun) = (folder.join(WHOLE), folder.join(BEGUN));
        if !whole.exists() && begun.exists() {
            return Err(TraceError::Unfinished { folder: folder.into() });
        }
        Ok(ActivationFolder { folder: folder.into(), manifest: read_manifest(&whole)? })
    }

    /// What was recorded, from what and with what.
    pub fn manifest(&self) -> &ActivationManifest {
        &self.manifest
    }

    /// The documents by number.
    ///
    /// # Errors
    /// [`TraceError::File`] or [`TraceError::Parquet`] for a file that is absent or damaged.
    pub fn documents(&self) -> Result<Vec<DocumentLabel>, TraceError> {
        let path = self.folder.join(DOCUMENTS);
        let reader = ColumnReader::open(&path)?;
        let texts =
            |name| reader.text(0, name).map_err(|source| TraceError::Parquet { path: path.clone(), source });
        let (domains, names) = (texts("domain")?, texts("name")?);
        Ok(domains.into_iter().zip(names).map(|(domain, name)| DocumentLabel { domain, name }).collect())
    }

    /// Number of parts.
    pub fn parts(&self) -> usize {
        self.manifest.windows_run.div_ceil(self.manifest.part_windows.max(1))
    }

    /// All rows of a site, those of all parts. See [`part`](Self::part) for one that does not fit into memory.
    ///
    /// # Errors
    /// [`TraceError::Tensor`] for a site that was not recorded, with the nearest one that was; or if a file is damaged.
    pub fn rows(&self, point: HookPoint) -> Result<SiteRows, TraceError> {
        self.require(point)?;
        if point.site().in_expert() && self.manifest.kept != Kept::Whole {
            return self.sampled_expert(point);
        }
        let mut parts = (0..self.parts()).map(|part| self.part(part, point));
        let mut all = parts.next().ok_or_else(|| TraceError::NotRecorded { name: point.to_string() })??;
        for part in parts {
            let part = part?;
            match (&mut all.data, part.data) {
                (ValueData::Real(all), ValueData::Real(more)) => all.extend(more),
                (ValueData::Integer(all), ValueData::Integer(more)) => all.extend(more),
                _ => return Err(TraceError::NotRecorded { name: point.to_string() }),
            }
            all.documents.extend(part.documents);
            all.positions.extend(part.positions);
            all.token_ids.extend(part.token_ids);
        }
        Ok(all)
    }

    /// The rows of a site in one part. The sampled rows of single experts are in no part.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn part(&self, index: usize, point: HookPoint) -> Result<SiteRows, TraceError> {
        self.require(point)?;
        let path = self.folder.join(part(index));
        match self.manifest.kept {
            Kept::Whole => whole_rows(&path, point),
            Kept::Sample { .. } => sampled_rows(&path, &point.to_string(), "rows"),
        }
    }

    /// Layers of whose router something was recorded, ascending.
    pub fn router_layers(&self) -> BTreeSet<usize> {
        let points = self.manifest.hooks.iter().filter_map(|hook| hook.name.parse::<HookPoint>().ok());
        points.filter(|point| point.site().in_router()).filter_map(|point| point.layer()).collect()
    }

    /// The relative margins of a layer's choices, in the order of the rows of all parts: see [`relative_margins`](crate::relative_margins).
    ///
    /// # Errors
    /// [`TraceError::Tensor`] where nothing of the layer's router was recorded, or if a file is damaged.
    pub fn relative_margins(&self, layer: usize) -> Result<Vec<f32>, TraceError> {
        let name = format!("blocks.{layer}.mlp.router.relative_margin");
        let mut all = Vec::new();
        for index in 0..self.parts() {
            let (_, numbers) = TensorReader::open(&self.folder.join(part(index)))?.reals(&name)?;
            all.extend(numbers);
        }
        Ok(all)
    }

    fn sampled_expert(&self, point: HookPoint) -> Result<SiteRows, TraceError> {
        let name = point.to_string();
        sampled_rows(&self.folder.join(EXPERTS), &name, &name)
    }

    /// Refuses a site that was not recorded.
    fn require(&self, point: HookPoint) -> Result<(), TraceError> {
        let name = point.to_string();
        let hooks = || self.manifest.hooks.iter().map(|hook| hook.name.as_str());
        if hooks().any(|hook| hook == name) {
            return Ok(());
        }
        let near = nearest_name(&name, hooks()).map(|near| format!("; the nearest is `{near}`"));
        Err(TraceError::Tensor {
            path: self.folder.clone(),
            found: format!("absent among {} sites{}", self.manifest.hooks.len(), near.unwrap_or_default()),
            wanted: format!("a recording with `--hooks {name}`"),
            name,
        })
    }
}

/// Rows that stand under `name`, and whose origins stand under `origin`.
fn sampled_rows(path: &Path, name: &str, origin: &str) -> Result<SiteRows, TraceError> {
    let reader = TensorReader::open(path)?;
    let (shape, data) = match reader.is_integer(name) {
        true => reader.integers(name).map(|(shape, numbers)| (shape, ValueData::Integer(numbers)))?,
        false => reader.reals(name).map(|(shape, numbers)| (shape, ValueData::Real(numbers)))?,
    };
    let column = |what: &str| unsigned(&reader, &format!("{origin}.{what}"), shape[0]);
    Ok(SiteRows {
        documents: column("document")?,
        positions: column("position")?,
        token_ids: column("token_id")?,
        shape: shape[1..].to_vec(),
        data,
    })
}

/// As many numbers as there are rows.
fn unsigned(reader: &TensorReader, name: &str, rows: usize) -> Result<Vec<u32>, TraceError> {
    let (shape, numbers) = reader.integers(name)?;
    let narrow = numbers.iter().map(|number| u32::try_from(*number).ok());
    match narrow.collect::<Option<Vec<u32>>>() {
        Some(numbers) if numbers.len() == rows => Ok(numbers),
        _ => Err(reader.complain(name, format!("of shape {shape:?}"), format!("{rows} numbers from 0 up"))),
    }
}

/// The rows of a part that has the form of `moescope record`.
fn whole_rows(path: &Path, point: HookPoint) -> Result<SiteRows, TraceError> {
    let value = read_recorded(path, point)?;
    let reader = TensorReader::open(path)?;
    let (shape, ids) = reader.integers("input_ids")?;
    let [batch, positions] = shape[..] else {
        return Err(reader.complain("input_ids", format!("of shape {shape:?}"), "two axes, [batch, pos]"));
    };
    let of = unsigned(&reader, "window.document", batch)?;
    let start = unsigned(&reader, "window.start", batch)?;
    let mut rows = Rows::none_of(&value);
    let tokens: Vec<u32> = match value.rows() {
        Some(tokens) => {
            rows.data = value.data().clone();
            tokens.to_vec()
        }
        None => {
            (0..batch * positions).for_each(|token| rows.push_token(&value, token));
            (0..(batch * positions) as u32).collect()
        }
    };
    if let Some(token) = tokens.iter().find(|token| **token as usize >= batch * positions) {
        return Err(reader.complain(
            &format!("{point}.rows"),
            format!("with token {token}"),
            "tokens of the part",
        ));
    }
    let place = |token: &u32| (*token as usize / positions, *token as usize % positions);
    Ok(SiteRows {
        documents: tokens.iter().map(|token| of[place(token).0]).collect(),
        positions: tokens.iter().map(|token| start[place(token).0] + place(token).1 as u32).collect(),
        token_ids: tokens.iter().map(|token| ids[*token as usize] as u32).collect(),
        shape: rows.shape,
        data: rows.data,
    })
}
