//! Writes the tiny models of `fixtures/transformers_opens`, which transformers then opens (`expect.py` there).
//!
//! Run as `cargo run -p moescope-model --example transformers_opens -- FOLDER`.

use std::path::PathBuf;

use moescope_base::Seed;
use moescope_model::{Description, FeedForward, Granularity, Model, Router, RouterKind};

fn description(feed_forward: Vec<FeedForward>) -> Description {
    Description {
        vocab: 64,
        d_model: 16,
        heads: 4,
        key_value_heads: 2,
        head_dim: 8,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-6,
        max_positions: 64,
        tied_embeddings: false,
        qk_norm: true,
        variation: Default::default(),
        feed_forward,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("give the folder to write to")?);
    let dense = FeedForward::Dense { width: 32 };
    let fine = Granularity::warsaw(32, 4, 4)?;
    let renormalised = FeedForward::Routed(fine.routed(Router::learned(true)));
    let raw = FeedForward::Routed(fine.routed(Router::learned(false)));
    let frozen = Router { kind: RouterKind::Frozen, ..Router::learned(false) };
    let frozen = FeedForward::Routed(Granularity::warsaw(32, 4, 1)?.routed(frozen));
    let mixed = Description { tied_embeddings: true, ..description(vec![dense.clone(), raw]) };
    let models = [
        ("dense", description(vec![dense; 2])),
        ("moe", description(vec![renormalised; 2])),
        ("mixed", mixed),
        ("frozen", description(vec![frozen; 2])),
    ];
    for (index, (name, description)) in models.into_iter().enumerate() {
        Model::initialise(description, Seed(index as u64 + 1))?.save(&folder.join(name))?;
    }
    Ok(())
}
