//! Forbids the busiest expert of each routed layer in turn, and prints what that does to the loss.
//!
//! A ban acts between scores and choice: the router takes the next best, and everything downstream follows. The difference is that of
//! one text; `moescope knockout` compares with random experts of like load and gives intervals.
//!
//! `cargo run --example ban_an_expert [MODEL]`

use std::error::Error;
use std::path::{Path, PathBuf};

use moescope::base::{Edit, HookPoint, Request, RouteEdit, Site, Subject, Tokens};
use moescope::model::{Model, ModelSubject};

/// One expert that was forbidden.
pub(crate) struct Ban {
    pub(crate) layer: usize,
    pub(crate) expert: u32,
    /// Mean loss without it, less the mean loss with it, nats per token.
    pub(crate) cost: f64,
}

/// The cost of the busiest expert of each routed layer over one sequence.
pub(crate) fn bans(folder: &Path, ids: &[u32]) -> Result<Vec<Ban>, Box<dyn Error>> {
    let mut subject = ModelSubject::new(Model::open(folder)?);
    let tokens = Tokens::new(ids.to_vec(), 1, ids.len())?;
    let layers = subject.shape().routed_layers();
    let chosen: Vec<HookPoint> =
        layers.iter().map(|layer| HookPoint::block(Site::RouterIndices, *layer)).collect();
    let whole = subject.run(&Request { record: &chosen, ..Request::of(&tokens) })?;
    let mut bans = Vec::new();
    for (layer, point) in layers.into_iter().zip(&chosen) {
        let expert = busiest(whole.values[point].integer().unwrap_or_default());
        let edits = [Edit::Route { layer: layer as u32, change: RouteEdit::Ban { experts: vec![expert] } }];
        let without = subject.run(&Request { edits: &edits, ..Request::of(&tokens) })?;
        bans.push(Ban { layer, expert, cost: mean(&without.loss) - mean(&whole.loss) });
    }
    Ok(bans)
}

/// The expert that occurs most often, the first of several.
fn busiest(choices: &[i64]) -> u32 {
    let count = |expert: i64| choices.iter().filter(|other| **other == expert).count();
    let most = choices.iter().copied().max_by_key(|expert| (count(*expert), -expert));
    most.unwrap_or_default() as u32
}

fn mean(loss: &[f32]) -> f64 {
    loss.iter().map(|nats| f64::from(*nats)).sum::<f64>() / loss.len() as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/qwen3_moe");
    let folder = std::env::args().nth(1).map_or_else(|| PathBuf::from(tiny), PathBuf::from);
    let ids: Vec<u32> = (0..24).map(|place| 3 + place * place * 7 % 89).collect();
    for Ban { layer, expert, cost } in bans(&folder, &ids)? {
        println!("layer {layer} without expert {expert:3}: {cost:+.4} nats per token");
    }
    Ok(())
}
