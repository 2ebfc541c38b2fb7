//! What it costs to record every residual stream and every router value.

use moescope_base::{HookPoint, Request, Seed, Site, Subject};
use moescope_model::{Description, Model, ModelSubject};

use super::laps::{Lap, WARM_UP, Watch, noise};
use super::{BenchArgs, median};
use crate::failure::Failure;

/// The sites that are recorded, of every block that has them.
const SITES: [Site; 8] = [
    Site::ResidPre,
    Site::ResidMid,
    Site::ResidPost,
    Site::RouterLogits,
    Site::RouterScores,
    Site::RouterSelect,
    Site::RouterIndices,
    Site::RouterWeights,
];

/// By how much recording lengthens a forward pass with losses, as a share of it: median over median of passes that take turns.
///
/// What is recorded is copied into memory; writing it to a disk is not counted.
///
/// # Errors
/// As the passes themselves.
pub(super) fn overhead(args: &BenchArgs, description: &Description) -> Result<f64, Failure> {
    let mut subject = ModelSubject::new(Model::initialise(description.clone(), Seed(1))?);
    let tokens = noise(args).tokens(0);
    let all = subject.shape().hook_points();
    let points: Vec<HookPoint> = all.into_iter().filter(|point| SITES.contains(&point.site())).collect();
    let mut pass = |record: &[HookPoint]| -> Result<Lap, Failure> {
        let mut watch = Watch::start();
        drop(subject.run(&Request { record, ..Request::of(&tokens) })?);
        Ok(watch.lap())
    };
    let (mut plain, mut recorded) = (Vec::new(), Vec::new());
    for _ in 0..WARM_UP + args.reps {
        plain.push(pass(&[])?.cpu);
        recorded.push(pass(&points)?.cpu);
    }
    let counted = WARM_UP as usize..;
    Ok(median(&recorded[counted.clone()]) / median(&plain[counted]) - 1.0)
}
