//! Losses without a component.

use std::collections::BTreeMap;

use moescope_base::{Edit, HookPoint, Request, RouteEdit, Seed, TokenSelection, Value, ValueEdit};
use rand::seq::SliceRandom;

use super::METHOD;
use super::components::{Component, renormalises};
use crate::document_loss::{Judged, minus};
use crate::instrument::Material;
use crate::statistics::{Bootstrap, Resampling, student};
use crate::{AnalysisError, Sample};

/// How a component is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// Its value is zero.
    Zero,
    /// Its value is its mean over the text.
    Mean,
    /// Its value is that of another token of the batch.
    Resample,
    /// An expert's weight is zero, and the weights of the others of a token are scaled up to their sum.
    Renormalised,
}

impl How {
    /// All of them, in the order of the tables.
    pub(super) const ALL: [How; 4] = [How::Zero, How::Mean, How::Resample, How::Renormalised];

    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            How::Zero => "zero",
            How::Mean => "mean",
            How::Resample => "resample",
            How::Renormalised => "renormalised",
        }
    }
}

/// What the model loses without a component.
///
/// - **Unit:** rise of the next-token loss, nats per token; intervals resample documents.
/// - **Null:** 0, exactly, of a component that writes nothing or that no token reaches.
/// - **Does not show:** what the component does: zero and another token's value put the model on ground that it does not know, the mean least so.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Effect {
    pub(super) component: Component,
    pub(super) how: How,
    /// Rise of the loss of each document, summed over its predicted tokens.
    pub(super) rises: Vec<f64>,
    pub(super) loss: Bootstrap,
    /// Of no rise or fall, two-sided, by Student's t over documents.
    pub(super) p_value: f64,
}

/// What all components are worth, and the loss with all of them.
pub(super) struct Effects {
    /// Component by component, in the order of [`How::ALL`].
    pub(super) all: Vec<Effect>,
    /// Predicted tokens of each document.
    pub(super) tokens: Vec<f64>,
}

/// Takes every component out in every way.
///
/// # Errors
/// If the subject cannot answer, or there are too few documents.
pub(super) fn effects(
    material: &mut Material<'_>,
    samples: &[Sample],
    components: &[Component],
    resampling: Resampling,
    seed: Seed,
) -> Result<Effects, AnalysisError> {
    let judged = Judged::new(METHOD, samples)?;
    let free = judged.losses(material.subject, &[])?;
    let documents: Vec<usize> = (0..free.len()).collect();
    let mut all = Vec::new();
    // Components that share a value are looked at together, so that it is recorded once.
    let mut of_point = BTreeMap::<HookPoint, Vec<Component>>::new();
    components.iter().for_each(|component| of_point.entry(component.at()).or_default().push(*component));
    for (at, components) in of_point {
        let values = recorded(material, samples, at)?;
        let means = means(&values);
        for component in components {
            for how in ways(component, material) {
                let edits = |sample: usize| {
                    edits(component, how, &values[sample], &means, (seed, sample), material_heads(material))
                };
                let edits: Vec<Vec<Edit>> = (0..samples.len()).map(edits).collect();
                let rises = minus(&judged.losses_by_sample(material.subject, &edits)?, &free);
                let loss = judged.mean(&rises, &documents, resampling)?;
                let p_value =
                    student::two_sided(loss.estimate / loss.standard_error, documents.len() as f64 - 1.0);
                all.push(Effect { component, how, rises, loss, p_value });
            }
        }
    }
    all.sort_by_key(|effect| (effect.component, effect.how));
    Ok(Effects { all, tokens: judged.tokens.clone() })
}

fn material_heads(material: &Material<'_>) -> usize {
    material.subject.shape().heads
}

fn ways(component: Component, material: &Material<'_>) -> Vec<How> {
    let renormalises = renormalises(component, material.subject.shape());
    How::ALL.into_iter().filter(|how| *how != How::Renormalised || renormalises).collect()
}

/// The value at a point in every sample.
fn recorded(
    material: &mut Material<'_>,
    samples: &[Sample],
    at: HookPoint,
) -> Result<Vec<Value>, AnalysisError> {
    let one = |sample: &Sample| {
        let mut seen = material.subject.run(&Request { record: &[at], ..Request::of(sample.tokens()) })?;
        seen.values.remove(&at).ok_or(AnalysisError::NotRecorded { point: at })
    };
    samples.iter().map(one).collect()
}

/// Mean of each column over all samples; zeros where no token is there.
fn means(values: &[Value]) -> Vec<f32> {
    let width = values.iter().map(Value::columns).max().unwrap_or(0);
    let (mut sums, mut rows) = (vec![0.0_f64; width], 0.0_f64);
    for row in values.iter().flat_map(|value| value.real().unwrap_or_default().chunks_exact(width.max(1))) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        rows += 1.0;
    }
    sums.into_iter().map(|sum| (sum / rows.max(1.0)) as f32).collect()
}

/// The edits of one sample.
fn edits(
    component: Component,
    how: How,
    value: &Value,
    means: &[f32],
    (seed, sample): (Seed, usize),
    heads: usize,
) -> Vec<Edit> {
    if let (How::Renormalised, Component::Expert { layer, expert }) = (how, component) {
        let (experts, tokens) = (vec![expert as u32], TokenSelection::All);
        let change = RouteEdit::SetWeight { experts, weight: 0.0, renormalise: true, tokens };
        return vec![Edit::Route { layer: layer as u32, change }];
    }
    let width = value.columns();
    let mut rows = value.real().unwrap_or_default().to_vec();
    let own = component.columns(width, heads);
    let count = rows.len() / width.max(1);
    let from = circle(count, seed.index(sample as u64));
    let before = rows.clone();
    for (row, numbers) in rows.chunks_exact_mut(width.max(1)).enumerate() {
        match how {
            How::Mean => numbers[own.clone()].copy_from_slice(&means[own.clone()]),
            How::Resample => {
                let other = from[row] * width;
                numbers[own.clone()].copy_from_slice(&before[other + own.start..other + own.end]);
            }
            How::Zero | How::Renormalised => numbers[own.clone()].fill(0.0),
        }
    }
    let change = ValueEdit::Patch { rows };
    vec![Edit::Value { at: component.at(), tokens: TokenSelection::All, change }]
}

/// All rows in a random circle: each takes the place of the next, so that nothing is used twice.
fn circle(count: usize, seed: Seed) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut seed.rng());
    let mut from = vec![0; count];
    (0..count).for_each(|at| from[order[at]] = order[(at + 1) % count]);
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_one_circle() {
        let from = circle(9, Seed(1));
        let (mut at, mut seen) = (0, vec![false; 9]);
        (0..9).for_each(|_| {
            seen[at] = true;
            at = from[at];
        });
        assert!(at == 0 && seen.iter().all(|seen| *seen));
        assert!(circle(0, Seed(1)).is_empty());
    }
}
