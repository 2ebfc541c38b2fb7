//! What no other family expresses: hash, random and committee routers, sigmoid scores, scores after selection, selection biases,
//! top-k activation, layers of different sizes. Tensor names are those of Qwen3-MoE; the layers are spelled out under
//! `feed_forward`, and `qk_norm` is `none`, `heads` or `wide`.

use serde_json::{Map, Value, json};

use super::{Family, PLAIN, QkNorm};
use crate::ModelError;
use crate::description::{Description, FeedForward};
use crate::folder::Configuration;

/// Only this crate opens such folders; every key that matters is written out, so the defaults are rarely read.
pub(super) const FAMILY: Family = Family {
    model_type: "moescope",
    architecture: "MoescopeForCausalLM",
    qk_norm: QkNorm::Configured,
    reads: &["feed_forward", "qk_norm", "variation"],
    routed: true,
    feed_forward,
    vary,
    ..PLAIN
};

/// The variation in the form in which it serialises; absent where there is none.
fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let Some(value) = configuration.get("variation") else { return Ok(()) };
    description.variation = serde_json::from_value(value.clone())
        .map_err(|source| ModelError::Json { path: configuration.path().into(), source })?;
    Ok(())
}

/// One entry for each block, in the form in which a description serialises.
fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let Some(value) = configuration.get("feed_forward") else {
        return Err(configuration.complain("feed_forward", "absent", "a list with one entry for each layer"));
    };
    let read: Vec<FeedForward> = serde_json::from_value(value.clone())
        .map_err(|source| ModelError::Json { path: configuration.path().into(), source })?;
    match read.len() == layers {
        true => Ok(read),
        false => {
            let found = format!("a list of {}", read.len());
            Err(configuration.complain(
                "feed_forward",
                found,
                format!("an entry for each of {layers} layers"),
            ))
        }
    }
}

/// How the configuration says that queries and keys are normalised.
pub(super) fn qk_norm(configuration: &Configuration) -> Result<QkNorm, ModelError> {
    match configuration.text_if("qk_norm")? {
        Some("none") => Ok(QkNorm::None),
        Some("heads") => Ok(QkNorm::Heads),
        Some("wide") => Ok(QkNorm::Wide),
        other => {
            let found = other.unwrap_or("absent");
            Err(configuration.complain("qk_norm", found, "`none`, `heads` or `wide`"))
        }
    }
}

/// The family's own keys; it can express every model.
pub(super) fn express(description: &Description) -> Map<String, Value> {
    let wide = description.variation.attention.wide_qk_norm;
    let qk_norm = match (description.qk_norm, wide) {
        (false, _) => "none",
        (true, false) => "heads",
        (true, true) => "wide",
    };
    let mut keys = Map::new();
    keys.insert("qk_norm".into(), json!(qk_norm));
    keys.insert("feed_forward".into(), json!(description.feed_forward));
    if !description.variation.is_plain() {
        keys.insert("variation".into(), json!(description.variation));
    }
    keys
}
