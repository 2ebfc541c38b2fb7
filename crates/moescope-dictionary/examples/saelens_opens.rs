//! Writes one dictionary of each kind that SAELens has a name for: `cargo run --example saelens_opens -- fixtures/dictionaries/ours`.
//!
//! `fixtures/dictionaries/expect.py` opens them with SAELens and keeps what comes out, so that the tests need no Python.

use std::path::PathBuf;

use moescope_dictionary::{Dictionary, DictionaryError, Parts, Place, Rule};
use moescope_engine::Tensor;

fn main() -> Result<(), DictionaryError> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "dictionaries".into()));
    let thresholds = numbers(&[7], 9)?;
    let thresholds = Tensor::new([7], thresholds.data().iter().map(|x| x.abs()).collect())?;
    let jump = Rule::JumpRelu { thresholds };
    for (name, rule, transcodes) in [
        ("standard", Rule::Relu, false),
        ("topk", Rule::TopK { k: 2 }, false),
        ("jumprelu", jump.clone(), false),
        ("transcoder", Rule::Relu, true),
        ("jumprelu_transcoder", jump, true),
    ] {
        let target = if transcodes { 3 } else { 4 };
        let parts = Parts {
            rule,
            encoder: numbers(&[7, 4], 1)?,
            encoder_bias: numbers(&[7], 2)?,
            decoder: numbers(&[target, 7], 3)?,
            bias: numbers(&[target], 4)?,
            centred: !transcodes,
        };
        let place = Place {
            model: "tiny".into(),
            hook: "blocks.0.hook_resid_post".into(),
            target_hook: transcodes.then(|| "blocks.1.hook_mlp_out".into()),
        };
        Dictionary::new(parts, place)?.save(&folder.join(name), &serde_json::Value::Null)?;
    }
    Ok(())
}

/// Numbers in `-2..2` without order.
fn numbers(shape: &[usize], salt: usize) -> Result<Tensor, DictionaryError> {
    let count: usize = shape.iter().product();
    let number = |i: usize| (((i + 1) * 7919 + salt * 104_729) % 1009) as f32 / 252.25 - 2.0;
    Ok(Tensor::new(shape, (0..count).map(number).collect())?)
}
