//! The tokens that the answers of an expert make likelier.

use std::collections::BTreeMap;

use moescope_base::{FeedForwardShape, HookPoint, Request, Site};

use crate::AnalysisError;
use crate::instrument::Material;
use crate::next_token::{less, most_probable};

/// Sequences whose answers are looked at, at most; whole batches.
const SEQUENCES: usize = 64;

/// Ids of the tokens with the largest logits along what each expert of a layer adds on average, beyond what all add: `[expert][rank]`.
///
/// The difference of means is read by the final norm and the unembedding like a residual stream, less what these say of no stream at all: a norm
/// or unembedding with a bias promotes its own tokens whatever is written. Empty for an expert that no looked-at
/// token chooses. It shows a direction alone: later layers may take it away.
///
/// # Errors
/// If the subject cannot answer.
pub(super) fn promoted_tokens(
    material: &mut Material<'_>,
    layer: usize,
    count: usize,
) -> Result<Vec<Vec<u32>>, AnalysisError> {
    let FeedForwardShape::Routed { experts, .. } = material.subject.shape().feed_forward[layer] else {
        return Ok(Vec::new());
    };
    let width = material.subject.shape().d_model;
    let points: Vec<HookPoint> =
        (0..experts).map(|expert| HookPoint::expert(Site::ExpertOutWeighted, layer, expert)).collect();
    let mut sums: BTreeMap<HookPoint, (usize, Vec<f64>)> =
        points.iter().map(|point| (*point, (0, vec![0.0; width]))).collect();
    for sample in material.some_samples("promoted tokens", SEQUENCES)? {
        let seen = material.subject.run(&Request { record: &points, ..Request::of(sample.tokens()) })?;
        for (point, (rows, sum)) in &mut sums {
            let value = seen.values.get(point).ok_or(AnalysisError::NotRecorded { point: *point })?;
            for row in value.real().unwrap_or(&[]).chunks_exact(width) {
                *rows += 1;
                sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += f64::from(*number));
            }
        }
    }
    let all = sums.values().map(|(rows, _)| rows).sum::<usize>().max(1) as f64;
    let common: Vec<f64> =
        (0..width).map(|place| sums.values().map(|(_, sum)| sum[place]).sum::<f64>() / all).collect();
    let bias = material.subject.unembed(&vec![0.0; width])?;
    let of = |point: &HookPoint| {
        let (rows, sum) = &sums[point];
        if *rows == 0 {
            return Ok(Vec::new());
        }
        let own = |(sum, common): (&f64, &f64)| (sum / *rows as f64 - common) as f32;
        let direction: Vec<f32> = sum.iter().zip(&common).map(own).collect();
        let logits = material.subject.unembed(&direction)?;
        Ok(most_probable(&less(&logits, &bias), count))
    };
    points.iter().map(of).collect()
}
