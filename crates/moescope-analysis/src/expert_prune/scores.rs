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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sample;
    use moescope_base::{Request, SubjectError, SubjectShape, Tokens, Value, ValueData};

    /// Three experts, two for each token: 0 and 1 with three quarters and a quarter for the token 0, 1 and 2 with a half each for the token 1.
    struct Planted(SubjectShape);

    impl Planted {
        fn new() -> Planted {
            let routed = FeedForwardShape::Routed { experts: 3, per_token: 2, expert_width: 1 };
            let feed_forward = vec![FeedForwardShape::Dense { width: 1 }, routed];
            let options = Default::default();
            Planted(SubjectShape { d_model: 2, vocab: 2, heads: 1, head_dim: 1, feed_forward, options })
        }

        /// What an expert adds at a token: of lengths 5, 1 and 2, and 10; at the last of a sequence, which predicts nothing, very much.
        fn answer(expert: usize, id: u32, last: bool) -> [f32; 2] {
            match (last, expert, id) {
                (true, ..) => [1000.0, 0.0],
                (_, 0, _) => [3.0, -4.0],
                (_, 1, 0) => [0.0, 1.0],
                (_, 1, _) => [-2.0, 0.0],
                _ => [6.0, 8.0],
            }
        }

        fn value(tokens: &Tokens, point: HookPoint) -> Value {
            let (ids, positions) = (tokens.ids(), tokens.positions());
            let routes = vec![tokens.batch(), positions, 2];
            let last = |token: usize| (token + 1).is_multiple_of(positions);
            match (point.site(), point.expert_index()) {
                (Site::RouterIndices, _) => {
                    let sets = ids.iter().flat_map(|id| [i64::from(*id), i64::from(*id) + 1]).collect();
                    Value::new(point, routes, ValueData::Integer(sets), None).unwrap()
                }
                (Site::RouterWeights, _) => {
                    let weights = ids.iter().flat_map(|id| if *id == 0 { [0.75, 0.25] } else { [0.5, 0.5] });
                    Value::new(point, routes, ValueData::Real(weights.collect()), None).unwrap()
                }
                (_, expert) => {
                    let expert = expert.unwrap();
                    let own: Vec<usize> = (0..ids.len())
                        .filter(|t| [0, 1].map(|x| ids[*t] as usize + x).contains(&expert))
                        .collect();
                    let data = own.iter().flat_map(|t| Planted::answer(expert, ids[*t], last(*t))).collect();
                    let rows = own.iter().map(|token| *token as u32).collect();
                    Value::new(point, vec![own.len(), 2], ValueData::Real(data), Some(rows)).unwrap()
                }
            }
        }
    }

    impl Subject for Planted {
        fn shape(&self) -> &SubjectShape {
            &self.0
        }

        /// Without expert 0 the token 0 loses six, without expert 1 every token one, without expert 2 the token 1 gains two.
        fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
            let tokens = request.tokens;
            let out = |expert: u32| {
                request.edits.iter().any(|edit| {
                    let Edit::Route { layer: 1, change: RouteEdit::SetWeight { experts, .. } } = edit else {
                        return false;
                    };
                    experts.contains(&expert)
                })
            };
            let loss = |token: usize| {
                let id = tokens.ids()[token];
                let lost = [(0, 0, 6.0), (1, 0, 1.0), (1, 1, 1.0), (2, 1, -2.0)];
                9.0 + lost.iter().filter(|(e, of, _)| *of == id && out(*e)).map(|(.., x)| x).sum::<f32>()
            };
            let followed = |token: &usize| !(token + 1).is_multiple_of(tokens.positions());
            let loss = (0..tokens.len()).filter(followed).map(loss).collect();
            let values =
                request.record.iter().map(|point| (*point, Planted::value(tokens, *point))).collect();
            Ok(Observation { values, loss, ..Observation::default() })
        }

        fn unembed(&mut self, _: &[f32]) -> Result<Vec<f32>, SubjectError> {
            Err(SubjectError::Input { reason: "the planted subject has no vocabulary".into() })
        }
    }

    #[test]
    fn what_experts_are_worth_by_hand() {
        // Eight documents of three tokens, of which two predict another. Those that decide are 0 1 0; the others, which must not matter, 1 1 1.
        let ids = [[0, 1, 0], [1, 1, 1]].concat().repeat(4);
        let samples = [Sample::one_document_each(Tokens::new(ids, 8, 3).unwrap(), 0)];
        let judged = Judged::new(METHOD, &samples).unwrap();
        let (deciding, _) = judged.halves().unwrap();
        let mut subject = Planted::new();
        let layers = Layers::of(&subject).unwrap();
        assert_eq!(layers.sizes, [(1, 3, 2)], "the dense block has no experts");
        let free = judged.losses(&mut subject, &[]).unwrap();
        let scores = layers.scores(&mut subject, &judged, &free, &deciding).unwrap();
        assert_eq!(scores[&Criterion::Use], [[4.0, 8.0, 4.0]]);
        assert_eq!(scores[&Criterion::Weight], [[3.0, 1.0 + 2.0, 2.0]]);
        assert_eq!(scores[&Criterion::Answer], [[5.0, 1.5, 10.0]]);
        // Half of the deciding tokens lose six, all lose one, half gain two.
        let losses = &scores[&Criterion::Loss][0];
        assert!(losses.iter().zip([3.0, 1.0, -1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{losses:?}");
    }
}
