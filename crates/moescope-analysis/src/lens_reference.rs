//! Logit lens and direct logit attribution beside those that torch computes from the same weights.
//!
//! `fixtures/lenses/expect.py` made the numbers, with transformers alone: a dense model with LayerNorm and biases, and a routed one whose
//! experts were run one by one.

use std::path::{Path, PathBuf};

use moescope_base::{Seed, Tokens};
use moescope_model::{Model, ModelSubject};
use serde_json::Value;

use crate::Sample;
use crate::logit_attribution::logit_attribution;
use crate::logit_lens::logit_lens;
use crate::planted_model::resampling;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// The numbers of a checkpoint, the model, and its text: every sequence a document.
fn reference(name: &str) -> (Value, ModelSubject, Sample) {
    let text = std::fs::read_to_string(fixtures().join(format!("lenses/{name}.json"))).unwrap();
    let wanted: Value = serde_json::from_str(&text).unwrap();
    let ids: Vec<u32> =
        wanted["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let positions = wanted["positions"].as_u64().unwrap() as usize;
    let tokens = Tokens::new(ids.clone(), ids.len() / positions, positions).unwrap();
    let model = Model::open(&fixtures().join("checkpoints").join(name)).unwrap();
    (wanted, ModelSubject::new(model), Sample::one_document_each(tokens, 0))
}

/// Within 1e-4 of the wanted number; of numbers below 0.01, within 1e-6.
fn near(found: f64, wanted: &Value, what: &str) {
    let wanted = wanted.as_f64().unwrap();
    assert!((found - wanted).abs() <= 1e-4 * wanted.abs().max(1e-2), "{what}: {found}, torch has {wanted}");
}

#[test]
fn the_logit_lens_is_that_of_torch() {
    for name in ["qwen3_moe", "gpt2"] {
        let (wanted, mut subject, sample) = reference(name);
        let found = logit_lens(&mut subject, &[sample], Seed(1)).unwrap();
        let layers = wanted["lens"].as_array().unwrap();
        assert_eq!(found.layers.len(), layers.len());
        for (found, wanted) in found.layers.iter().zip(layers) {
            near(
                found.divergence.mean,
                &wanted["divergence"],
                &format!("{name}, divergence {}", found.layer),
            );
            near(found.agreement.mean, &wanted["agreement"], &format!("{name}, agreement {}", found.layer));
        }
    }
}

#[test]
fn what_heads_experts_and_the_rest_add_to_the_logit_is_what_torch_finds() {
    for name in ["qwen3_moe", "gpt2"] {
        let (wanted, mut subject, sample) = reference(name);
        let found = logit_attribution(&mut subject, &[sample], Seed(1), resampling(1)).unwrap();
        near(found.logit.estimate, &wanted["logit"], &format!("{name}, the logit"));
        near(found.base, &wanted["bias"], &format!("{name}, the bias"));
        let parts = wanted["parts"].as_object().unwrap();
        for (part, wanted) in parts {
            let own = found.parts.iter().find(|own| own.part.name() == *part);
            // An expert that no token chose adds nothing and is not there.
            near(own.map_or(0.0, |own| own.mean.estimate), wanted, &format!("{name}, {part}"));
        }
        for own in found.parts.iter().filter(|own| !parts.contains_key(&own.part.name())) {
            near(
                own.mean.estimate,
                &Value::from(0.0),
                &format!("{name}, {}, which torch lacks", own.part.name()),
            );
        }
    }
}
