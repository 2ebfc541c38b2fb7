//! What a trace on disk says about itself.

use serde::{Deserialize, Serialize};

/// Version of the format that this code writes and reads.
pub(crate) const SCHEMA: u32 = 1;

/// What a trace was made from and with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub schema: u32,
    /// Hash of the model, as its reader gives it.
    pub model_hash: String,
    /// Hash of the token ids, in order: hexadecimal BLAKE3 of their little-endian bytes.
    pub token_hash: String,
    /// Version of the code that wrote the trace.
    pub code_version: String,
    /// Number of tokens.
    pub tokens: usize,
    /// Routed layers, in order.
    pub layers: Vec<ManifestLayer>,
    /// Names of the domains, in the order of their indices.
    pub domain_names: Vec<String>,
    /// Names of the token classes, in the order of their indices.
    pub class_names: Vec<String>,
}

/// One routed layer of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestLayer {
    /// Block.
    pub layer: usize,
    /// Number of experts.
    pub experts: usize,
    /// Experts of each token.
    pub per_token: usize,
}

/// Hexadecimal BLAKE3 of token ids in little-endian order.
pub fn token_hash(ids: &[u32]) -> String {
    let mut hasher = blake3::Hasher::new();
    ids.iter().for_each(|id| {
        hasher.update(&id.to_le_bytes());
    });
    hasher.finalize().to_hex().to_string()
}
