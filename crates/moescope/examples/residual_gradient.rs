//! Prints, for each block, how strongly each position of the residual stream that enters it moves a difference of two logits.
//!
//! Gradients flow through the chosen experts and their weights, never through the choice of experts, which has no derivative.
//!
//! `cargo run --example residual_gradient [MODEL]`

use std::error::Error;
use std::path::{Path, PathBuf};

use moescope::base::{HookPoint, LogitTerm, Objective, Request, Site, Subject, Tokens};
use moescope::model::{Model, ModelSubject};

/// Lengths of the gradients of `logit(better) - logit(worse)` at the last position: `[block][position]`, logits per unit of the stream.
pub(crate) fn lengths(
    folder: &Path,
    ids: &[u32],
    [better, worse]: [u32; 2],
) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let mut subject = ModelSubject::new(Model::open(folder)?);
    let tokens = Tokens::new(ids.to_vec(), 1, ids.len())?;
    let blocks = 0..subject.shape().layers();
    let gradients: Vec<HookPoint> = blocks.map(|block| HookPoint::block(Site::ResidPre, block)).collect();
    let position = ids.len() - 1;
    let terms = [
        LogitTerm { token: better, position, factor: 1.0 },
        LogitTerm { token: worse, position, factor: -1.0 },
    ];
    let objective = Objective::Logits(&terms);
    let seen = subject.run(&Request { gradients: &gradients, objective, ..Request::of(&tokens) })?;
    let length = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let rows = |point: &HookPoint| {
        let gradient = &seen.gradients[point]; // [batch, pos, d_model]
        gradient.real().map(|all| all.chunks(gradient.columns()).map(length).collect())
    };
    gradients.iter().map(rows).collect::<Option<_>>().ok_or_else(|| "gradients are real".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/qwen3_moe");
    let folder = std::env::args().nth(1).map_or_else(|| PathBuf::from(tiny), PathBuf::from);
    let lengths = lengths(&folder, &[3, 14, 15, 92, 65, 35, 89], [5, 8])?;
    for (block, positions) in lengths.iter().enumerate() {
        println!("into block {block}: {positions:.3?}");
    }
    Ok(())
}
