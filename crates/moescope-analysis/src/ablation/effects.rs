//! Losses without a component.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use moescope_base::{Edit, HookPoint, Request, Seed, Site, TokenSelection, Value, ValueEdit, row_tokens};
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
    /// Its value is that of another token of the text.
    Resample,
    /// An expert's weight is zero, and the weights of the other experts of a token are scaled up, so that their sum is what it was with it.
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
    let (mut all, mut weights) = (Vec::new(), BTreeMap::<usize, Vec<Weights>>::new());
    // Components that share a value are looked at together, so that it is recorded once.
    let mut of_point = BTreeMap::<HookPoint, Vec<Component>>::new();
    components.iter().for_each(|component| of_point.entry(component.at()).or_default().push(*component));
    for (at, components) in of_point {
        let values = recorded(material, samples, at)?;
        let means = means(&values);
        let others = Others::of(&values, seed);
        for component in components {
            let heads = material.subject.shape().heads;
            for how in ways(component, material) {
                let edits: Vec<Vec<Edit>> = match (how, component) {
                    (How::Renormalised, Component::Expert { layer, expert }) => {
                        let of_layer = match weights.entry(layer) {
                            Entry::Occupied(known) => known.into_mut(),
                            Entry::Vacant(unknown) => unknown.insert(Weights::of(material, samples, layer)?),
                        };
                        of_layer.iter().map(|weights| weights.without(expert)).collect()
                    }
                    _ => {
                        let own = (component, heads);
                        let of = |(number, value)| edits(own, how, value, &means, (&others, number));
                        (0..).zip(&values).map(of).collect()
                    }
                };
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

fn ways(component: Component, material: &Material<'_>) -> Vec<How> {
    let renormalises = renormalises(component, material.subject.shape());
    How::ALL.into_iter().filter(|how| *how != How::Renormalised || renormalises).collect()
}

/// The value at a point in every sample.
pub(super) fn recorded(
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
///
/// Of an expert it is the mean over the tokens that choose it, which is what it answers when nothing is known of the token but that it came here.
pub(super) fn means(values: &[Value]) -> Vec<f32> {
    let width = values.iter().map(Value::columns).max().unwrap_or(0);
    let (mut sums, mut rows) = (vec![0.0_f64; width], 0.0_f64);
    for row in values.iter().flat_map(|value| value.real().unwrap_or_default().chunks_exact(width.max(1))) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        rows += 1.0;
    }
    sums.into_iter().map(|sum| (sum / rows.max(1.0)) as f32).collect()
}

/// The weights of the chosen experts of a layer in one sample, as applied.
struct Weights {
    layer: usize,
    slots: usize,
    chosen: Vec<i64>,
    weights: Vec<f32>,
}

impl Weights {
    /// In every sample.
    fn of(
        material: &mut Material<'_>,
        samples: &[Sample],
        layer: usize,
    ) -> Result<Vec<Weights>, AnalysisError> {
        let [indices, weights] =
            [Site::RouterIndices, Site::RouterWeights].map(|site| HookPoint::block(site, layer));
        let chosen = recorded(material, samples, indices)?;
        let weights = recorded(material, samples, weights)?;
        let one = |(chosen, weights): (&Value, &Value)| Weights {
            layer,
            slots: chosen.columns(),
            chosen: chosen.integer().unwrap_or_default().to_vec(),
            weights: weights.real().unwrap_or_default().to_vec(),
        };
        Ok(chosen.iter().zip(&weights).map(one).collect())
    }

    /// The edit that gives an expert no weight and the others of its tokens the sum that they had with it.
    fn without(&self, expert: usize) -> Vec<Edit> {
        let mut rows = self.weights.clone();
        for (weights, chosen) in rows.chunks_exact_mut(self.slots).zip(self.chosen.chunks_exact(self.slots)) {
            if let Some(slot) = chosen.iter().position(|one| *one == expert as i64) {
                let sum: f32 = weights.iter().sum();
                let left = sum - weights[slot];
                weights[slot] = 0.0;
                // Others without weight cannot stand for it.
                if left.abs() > 1e-6 * sum.abs() {
                    weights.iter_mut().for_each(|weight| *weight *= sum / left);
                }
            }
        }
        let at = HookPoint::block(Site::RouterWeights, self.layer);
        vec![Edit::Value { at, tokens: TokenSelection::All, change: ValueEdit::Patch { rows } }]
    }
}

/// The rows of a value in all samples, and from which of them each takes its value where it is resampled.
///
/// Rows stand in the order of samples and tokens, however an expert orders its own, so that neither batches nor the engine decide who takes whose place.
pub(super) struct Others {
    rows: Vec<f32>,
    /// Of each row, the row whose value it takes.
    from: Vec<usize>,
    /// Number of the first row of each sample.
    first: Vec<usize>,
}

impl Others {
    /// Of a value in all samples.
    pub(super) fn of(values: &[Value], seed: Seed) -> Others {
        let (mut rows, mut first) = (Vec::new(), Vec::new());
        let width = values.iter().map(Value::columns).max().unwrap_or(0).max(1);
        for value in values {
            first.push(rows.len() / width);
            let numbers = value.real().unwrap_or_default();
            for (_, row) in in_order(value) {
                rows.extend_from_slice(&numbers[row * width..(row + 1) * width]);
            }
        }
        let from = circle(rows.len() / width, seed);
        Others { rows, from, first }
    }
}

/// Tokens of a value, ascending, each with its row.
fn in_order(value: &Value) -> Vec<(u32, usize)> {
    let mut order: Vec<(u32, usize)> = row_tokens(value).into_iter().zip(0..).collect();
    order.sort_unstable();
    order
}

/// The edits of one sample, of this number; the component comes with the number of heads of the model.
pub(super) fn edits(
    (component, heads): (Component, usize),
    how: How,
    value: &Value,
    means: &[f32],
    (others, sample): (&Others, usize),
) -> Vec<Edit> {
    let (width, numbers) = (value.columns(), value.real().unwrap_or_default());
    let own = component.columns(width, heads);
    let order = in_order(value);
    let mut rows = Vec::with_capacity(numbers.len());
    for (place, (_, row)) in order.iter().enumerate() {
        rows.extend_from_slice(&numbers[row * width..(row + 1) * width]);
        let start = rows.len() - width;
        let part = &mut rows[start + own.start..start + own.end];
        match how {
            How::Mean => part.copy_from_slice(&means[own.clone()]),
            How::Resample => {
                let other = others.from[others.first[sample] + place] * width;
                part.copy_from_slice(&others.rows[other + own.start..other + own.end]);
            }
            How::Zero | How::Renormalised => part.fill(0.0),
        }
    }
    let of = order.into_iter().map(|(token, _)| token).collect();
    let change = ValueEdit::PatchByToken { of, rows };
    vec![Edit::Value { at: component.at(), tokens: TokenSelection::All, change }]
}

/// All rows in a random circle: each takes the place of the next, so that nothing is used twice.
///
/// A row keeps its own value only where it is alone: then resampling changes nothing, and a component that one token reaches is worth 0 that way.
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
    fn the_others_of_a_token_take_over_the_weight() {
        let (chosen, weights) = (vec![3, 1, 0, 2, 3, 0], vec![0.3, 0.1, 0.5, 0.2, 0.4, 0.0]);
        let weights = Weights { layer: 1, slots: 2, chosen, weights };
        let [Edit::Value { at, change: ValueEdit::Patch { rows }, .. }] = &weights.without(3)[..] else {
            panic!("one patch")
        };
        assert_eq!(*at, HookPoint::block(Site::RouterWeights, 1));
        // The third token has no other with a weight.
        let wanted = [0.0, 0.4, 0.5, 0.2, 0.0, 0.0];
        assert!(rows.iter().zip(wanted).all(|(row, wanted)| (row - wanted).abs() < 1e-6), "{rows:?}");
    }

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
