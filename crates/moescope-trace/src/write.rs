//! Writing a trace: `routing.parquet`, `decisions.parquet`, `tokens.parquet`, `tensors.safetensors`, and at last `manifest.json`.

use std::io::Write;
use std::path::Path;

use moescope_host::{make_folder, replace};

use crate::columns::{self, Cells};
use crate::manifest::{Manifest, ManifestLayer, SCHEMA, token_hash};
use crate::{LayerRouting, Recording, RoutingTrace, TokenTable, TraceError, write_recording};

const ROUTING_FIELDS: [&str; 5] = [
    "REQUIRED INT32 token (INTEGER(32,false));",
    "REQUIRED INT32 layer (INTEGER(32,false));",
    "REQUIRED INT32 slot (INTEGER(32,false));",
    "REQUIRED INT32 expert (INTEGER(32,false));",
    "REQUIRED FLOAT weight;",
];

const DECISION_FIELDS: [&str; 5] = [
    "REQUIRED INT32 token (INTEGER(32,false));",
    "REQUIRED INT32 layer (INTEGER(32,false));",
    "REQUIRED FLOAT entropy;",
    "REQUIRED FLOAT margin;",
    "REQUIRED FLOAT relative_margin;",
];

const TOKEN_FIELDS: [&str; 7] = [
    "REQUIRED INT32 token (INTEGER(32,false));",
    "REQUIRED INT32 id (INTEGER(32,false));",
    "REQUIRED INT32 next_id (INTEGER(32,false));",
    "REQUIRED BYTE_ARRAY domain (STRING);",
    "REQUIRED INT32 document (INTEGER(32,false));",
    "REQUIRED INT32 position (INTEGER(32,false));",
    "REQUIRED BYTE_ARRAY class (STRING);",
];

/// Writes a routing trace and, where there is one, a recording into a folder.
///
/// Every file is written under another name first; the manifest comes last, so a folder that has one is whole.
///
/// # Errors
/// [`TraceError::Host`] when something cannot be written.
pub fn write_trace(
    folder: &Path,
    trace: &RoutingTrace,
    recording: Option<&Recording>,
    model_hash: &str,
    code_version: &str,
) -> Result<Manifest, TraceError> {
    make_folder(folder)?;
    let layers = trace.layers();
    columns::write(&folder.join("routing.parquet"), &ROUTING_FIELDS, layers.iter().map(routing_cells))?;
    columns::write(&folder.join("decisions.parquet"), &DECISION_FIELDS, layers.iter().map(decision_cells))?;
    columns::write(&folder.join("tokens.parquet"), &TOKEN_FIELDS, [token_cells(trace.tokens())])?;
    if let Some(recording) = recording {
        write_recording(&folder.join("tensors.safetensors"), recording, &[])?;
    }
    let manifest = Manifest {
        schema: SCHEMA,
        model_hash: model_hash.into(),
        token_hash: token_hash(&trace.tokens().ids),
        code_version: code_version.into(),
        tokens: trace.tokens().len(),
        layers: layers
            .iter()
            .map(|l| ManifestLayer { layer: l.layer, experts: l.experts, per_token: l.per_token })
            .collect(),
        domain_names: trace.tokens().domain_names.clone(),
        class_names: trace.tokens().class_names.clone(),
    };
    let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data") + "\n";
    replace(&folder.join("manifest.json"), |file| file.write_all(text.as_bytes()))?;
    Ok(manifest)
}

fn routing_cells(layer: &LayerRouting) -> Vec<Cells> {
    let slots = layer.choices.len() as u32;
    let per_token = layer.per_token as u32;
    vec![
        Cells::Unsigned((0..slots).map(|slot| slot / per_token).collect()),
        Cells::Unsigned(vec![layer.layer as u32; slots as usize]),
        Cells::Unsigned((0..slots).map(|slot| slot % per_token).collect()),
        Cells::Unsigned(layer.choices.clone()),
        Cells::Real(layer.weights.clone()),
    ]
}

fn decision_cells(layer: &LayerRouting) -> Vec<Cells> {
    let tokens = layer.entropy.len();
    vec![
        Cells::Unsigned((0..tokens as u32).collect()),
        Cells::Unsigned(vec![layer.layer as u32; tokens]),
        Cells::Real(layer.entropy.clone()),
        Cells::Real(layer.margin.clone()),
        Cells::Real(layer.relative_margin.clone()),
    ]
}

fn token_cells(table: &TokenTable) -> Vec<Cells> {
    let names = |indices: &[u16], names: &[String]| {
        Cells::Text(indices.iter().map(|index| names[*index as usize].clone()).collect())
    };
    vec![
        Cells::Unsigned((0..table.len() as u32).collect()),
        Cells::Unsigned(table.ids.clone()),
        Cells::Unsigned(table.next_ids.clone()),
        names(&table.domains, &table.domain_names),
        Cells::Unsigned(table.documents.clone()),
        Cells::Unsigned(table.positions.clone()),
        names(&table.classes, &table.class_names),
    ]
}
