//! What each expert is worth by several criteria.
//!
//! All criteria but the last come from one pass, and a pass for each layer whose answers are looked at; the last takes a pass for each expert.
//!
//! A worth that comes from routes is cheap and asks how much the router relies on an expert; the length of an
//! answer asks how much of the stream it moves; the loss alone asks what the model needs. An expert may be
//! chosen often and add what others add as well, for which reason the criteria are held against each other on
//! documents that decided none of them.

use std::collections::BTreeMap;

use moescope_base::{Edit, FeedForwardShape, HookPoint, Observation, RouteEdit, Site, Subject};

use super::{METHOD, MOST, Way};
use crate::AnalysisError;
use crate::document_loss::{Judged, minus};

/// By what experts go first.
///
/// An expert that no deciding token chooses has a worth of zero by all of them. Experts of equal worth go in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Criterion {
    /// Those that the fewest tokens choose.
    Use,
    /// Those with the smallest sum of routing weights.
    Weight,
    /// Those whose answers, times their weights, are shortest on average over the tokens that choose them.
    Answer,
    /// Those without whose answers the loss rises least when they alone are missing.
    Loss,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Criterion; 4] = [Criterion::Use, Criterion::Weight, Criterion::Answer, Criterion::Loss];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Criterion::Use => "least used",
            Criterion::Weight => "smallest weight",
            Criterion::Answer => "smallest answer",
            Criterion::Loss => "least loss",
        }
    }
}

/// Experts of the routed layers from which some can go.
pub(super) struct Layers {
    /// Block, experts and experts for each token.
    pub(super) sizes: Vec<(usize, usize, usize)>,
}

/// Worth of each expert by a criterion: `[layer][expert]`.
pub(super) type Scores = Vec<Vec<f64>>;

impl Layers {
    /// The routed layers of a subject that leave a choice.
    pub(super) fn of(subject: &dyn Subject) -> Result<Layers, AnalysisError> {
        let of = |(layer, shape): (usize, &FeedForwardShape)| match shape {
            FeedForwardShape::Routed { experts, per_token, .. } if per_token < experts => {
                Some((layer, *experts, *per_token))
            }
            _ => None,
        };
        let sizes: Vec<_> = subject.shape().feed_forward.iter().enumerate().filter_map(of).collect();
        crate::check::at_least(METHOD, "routed layers with a choice", sizes.len(), 1)?;
        Ok(Layers { sizes })
    }

    /// Worth by every criterion, over the predicted tokens of some documents. Without the loss where there are too many experts.
    pub(super) fn scores(
        &self,
        subject: &mut dyn Subject,
        judged: &Judged<'_>,
        free: &[f64],
        deciding: &[usize],
    ) -> Result<BTreeMap<Criterion, Scores>, AnalysisError> {
        let (uses, weights) = self.routed(subject, judged, deciding)?;
        let answers = self.answers(subject, judged, deciding)?;
        let mut scores = BTreeMap::from([
            (Criterion::Use, uses),
            (Criterion::Weight, weights),
            (Criterion::Answer, answers),
        ]);
        if self.sizes.iter().map(|size| size.1).sum::<usize>() <= MOST {
            scores.insert(Criterion::Loss, self.losses(subject, judged, free, deciding)?);
        }
        Ok(scores)
    }

    /// A zero for each expert.
    fn zeros(&self) -> Scores {
        self.sizes.iter().map(|(_, experts, _)| vec![0.0; *experts]).collect()
    }

    /// How often each expert is chosen, and the sum of its weights, in one pass.
    fn routed(
        &self,
        subject: &mut dyn Subject,
        judged: &Judged<'_>,
        deciding: &[usize],
    ) -> Result<(Scores, Scores), AnalysisError> {
        let point = |site: Site| self.sizes.iter().map(move |size| HookPoint::block(site, size.0));
        let record: Vec<HookPoint> = point(Site::RouterIndices).chain(point(Site::RouterWeights)).collect();
        let (mut uses, mut weights) = (self.zeros(), self.zeros());
        let mut missing = None;
        judged.pass(subject, &record, &[], &mut |seen, rows| {
            for (at, (_, _, per_token)) in self.sizes.iter().enumerate() {
                let (chosen, given) = (record[at], record[self.sizes.len() + at]);
                let Some((experts, numbers)) = routes(seen, chosen, given) else {
                    missing = Some(chosen);
                    continue;
                };
                for (row, _) in rows.iter().filter(|row| deciding.binary_search(&row.1).is_ok()) {
                    for slot in row * per_token..(row + 1) * per_token {
                        let expert = experts[slot] as usize;
                        uses[at][expert] += 1.0;
                        weights[at][expert] += f64::from(numbers[slot]);
                    }
                }
            }
        })?;
        missing.map_or(Ok((uses, weights)), |point| Err(AnalysisError::NotRecorded { point }))
    }

    /// Mean length of what each expert adds to the stream, over the tokens that choose it; a pass for each layer.
    fn answers(
        &self,
        subject: &mut dyn Subject,
        judged: &Judged<'_>,
        deciding: &[usize],
    ) -> Result<Scores, AnalysisError> {
        let mut scores = self.zeros();
        for (at, (layer, experts, _)) in self.sizes.iter().enumerate() {
            let points: Vec<HookPoint> = (0..*experts)
                .map(|expert| HookPoint::expert(Site::ExpertOutWeighted, *layer, expert))
                .collect();
            let (mut sums, mut counts) = (vec![0.0; *experts], vec![0.0_f64; *experts]);
            judged.pass(subject, &points, &[], &mut |seen, rows| {
                let decides: BTreeMap<usize, usize> = rows.iter().copied().collect();
                for (expert, point) in points.iter().enumerate() {
                    let Some(value) = seen.values.get(point) else { continue };
                    let tokens = value.rows().unwrap_or_default();
                    let answers = value.real().unwrap_or_default().chunks_exact(value.columns().max(1));
                    for (token, answer) in tokens.iter().zip(answers) {
                        let place = decides.get(&(*token as usize));
                        if place.is_some_and(|place| deciding.binary_search(place).is_ok()) {
                            sums[expert] += answer.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                            counts[expert] += 1.0;
                        }
                    }
                }
            })?;
            scores[at] = sums.iter().zip(counts).map(|(sum, count)| sum / count.max(1.0)).collect();
        }
        Ok(scores)
    }

    /// Rise of the loss without what each expert alone adds; choice and weights stay.
    fn losses(
        &self,
        subject: &mut dyn Subject,
        judged: &Judged<'_>,
        free: &[f64],
        deciding: &[usize],
    ) -> Result<Scores, AnalysisError> {
        let mut scores = self.zeros();
        for (at, (layer, ..)) in self.sizes.iter().enumerate() {
            for (expert, score) in scores[at].iter_mut().enumerate() {
                let edit = [Way::Missing.edit(*layer, &[expert])];
                let change = minus(&judged.losses(subject, &edit)?, free);
                *score = judged.estimate(&change, deciding);
            }
        }
        Ok(scores)
    }
}

/// The edit with which some experts cannot be chosen.
pub(super) fn ban(layer: usize, experts: &[usize]) -> Edit {
    let experts = experts.iter().map(|expert| *expert as u32).collect();
    Edit::Route { layer: layer as u32, change: RouteEdit::Ban { experts } }
}

/// Chosen experts and their weights, slot by slot.
fn routes(seen: &Observation, chosen: HookPoint, given: HookPoint) -> Option<(&[i64], &[f32])> {
    Some((seen.values.get(&chosen)?.integer()?, seen.values.get(&given)?.real()?))
}
