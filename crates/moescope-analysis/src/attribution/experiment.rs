use std::collections::{BTreeMap, BTreeSet};

use moescope_base::{
    Edit, HookPoint, Observation, Request, RouteEdit, Seed, Site, Subject, TokenSelection, Tokens, Value,
    ValueEdit,
};
use rand::RngExt;

use super::integrated::integrate;
use super::{AttributionOptions, EditEffect, Replacement};
use crate::{AnalysisError, Sample, check};

/// Sites whose vectors are edited.
const SITES: [Site; 2] = [Site::AttnOut, Site::MlpOut];

/// Makes `rounds` edits of every sequence of one sample.
pub(super) fn edit_effects(
    subject: &mut dyn Subject,
    sample: &Sample,
    options: &AttributionOptions,
    seed: Seed,
) -> Result<Vec<EditEffect>, AnalysisError> {
    check::at_least("attribution", "positions", sample.tokens().positions(), 2)?;
    let clean = Clean::observe(subject, sample.tokens(), options.replacement)?;
    let mut effects = Vec::new();
    for round in 0..options.rounds {
        let places = draw_places(subject, sample.tokens(), seed.index(round as u64));
        let edits: Vec<Edit> = places.iter().map(|place| clean.edit(place)).collect();
        let edited = run(subject, sample.tokens(), &clean.routers, &edits)?;
        let flipped = clean.flipped(&edited)?;
        let frozen = if options.freeze_routes && !clean.routers.is_empty() {
            let replayed = [clean.replays()?, edits].concat();
            Some(run(subject, sample.tokens(), &[], &replayed)?)
        } else {
            None
        };
        let [integrated, integrated_frozen] = match options.steps {
            0 => [None, None],
            steps => {
                let free = integrate(subject, sample.tokens(), &clean, &places, steps, &[])?;
                let held = match frozen {
                    Some(_) => {
                        Some(integrate(subject, sample.tokens(), &clean, &places, steps, &clean.replays()?)?)
                    }
                    None => None,
                };
                [Some(free), held]
            }
        };
        for (sequence, place) in places.iter().enumerate() {
            effects.push(EditEffect {
                document: sample.documents()[place.row],
                layer: place.layer,
                site: place.site,
                position: place.row % sample.tokens().positions(),
                predicted: clean.predicted(place),
                actual: clean.change(&edited, sequence),
                frozen: frozen.as_ref().map(|frozen| clean.change(frozen, sequence)),
                flipped: flipped[sequence],
                integrated: integrated.as_ref().map(|all| all[sequence]),
                integrated_frozen: integrated_frozen.as_ref().map(|all| all[sequence]),
            });
        }
    }
    Ok(effects)
}

/// Where one sequence is edited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Token of the batch: `batch * positions + pos`.
    pub(super) row: usize,
    layer: usize,
    site: Site,
}

impl Place {
    pub(super) fn point(&self) -> HookPoint {
        HookPoint::block(self.site, self.layer)
    }
}

/// One place for each sequence.
fn draw_places(subject: &dyn Subject, tokens: &Tokens, seed: Seed) -> Vec<Place> {
    let layers = subject.shape().layers();
    let mut rng = seed.rng();
    let mut draw = |sequence: usize| Place {
        row: sequence * tokens.positions() + rng.random_range(0..tokens.positions() - 1),
        layer: rng.random_range(0..layers),
        site: SITES[rng.random_range(0..SITES.len())],
    };
    (0..tokens.batch()).map(&mut draw).collect()
}

fn run(
    subject: &mut dyn Subject,
    tokens: &Tokens,
    record: &[HookPoint],
    edits: &[Edit],
) -> Result<Observation, AnalysisError> {
    Ok(subject.run(&Request { record, edits, ..Request::of(tokens) })?)
}

/// The unedited pass, and what edits replace vectors by.
pub(super) struct Clean {
    observation: Observation,
    /// Where the chosen experts of the routed layers are.
    routers: Vec<HookPoint>,
    /// Replacement at each editable place.
    replacements: BTreeMap<HookPoint, Vec<f32>>,
    sequences: usize,
}

impl Clean {
    fn observe(
        subject: &mut dyn Subject,
        tokens: &Tokens,
        kind: Replacement,
    ) -> Result<Clean, AnalysisError> {
        let points: Vec<HookPoint> = (0..subject.shape().layers())
            .flat_map(|layer| SITES.map(|site| HookPoint::block(site, layer)))
            .collect();
        let routed = subject.shape().routed_layers();
        let routers: Vec<HookPoint> =
            routed.into_iter().map(|layer| HookPoint::block(Site::RouterIndices, layer)).collect();
        let record = [points.clone(), routers.clone()].concat();
        let request = Request { record: &record, gradients: &points, ..Request::of(tokens) };
        let observation = subject.run(&request)?;
        let mut replacements = BTreeMap::new();
        for point in points {
            vectors(&observation.gradients, point)?;
            let (values, width) = vectors(&observation.values, point)?;
            replacements.insert(point, replacement(kind, values, width));
        }
        Ok(Clean { observation, routers, replacements, sequences: tokens.batch() })
    }

    fn edit(&self, place: &Place) -> Edit {
        Edit::Value {
            at: place.point(),
            tokens: TokenSelection::Rows(vec![place.row as u32]),
            change: ValueEdit::Set { vector: self.replacements[&place.point()].clone() },
        }
    }

    /// Gradient times the change of the vector.
    fn predicted(&self, place: &Place) -> f64 {
        let found = self.slope(place, &self.observation.gradients);
        found.expect("every place was checked when it was recorded")
    }

    /// Gradients, of whatever pass, times the change of the vector.
    pub(super) fn slope(
        &self,
        place: &Place,
        gradients: &BTreeMap<HookPoint, Value>,
    ) -> Result<f64, AnalysisError> {
        let (gradients, width) = vectors(gradients, place.point())?;
        let gradient = &gradients[place.row * width..(place.row + 1) * width];
        let [old, new] = self.ends(place)?;
        let changes = new.iter().zip(old).map(|(new, old)| f64::from(*new) - f64::from(*old));
        Ok(changes.zip(gradient).map(|(change, slope)| change * f64::from(*slope)).sum())
    }

    /// The vector of a place and its replacement.
    pub(super) fn ends(&self, place: &Place) -> Result<[&[f32]; 2], AnalysisError> {
        let (values, width) = vectors(&self.observation.values, place.point())?;
        Ok([&values[place.row * width..(place.row + 1) * width], &self.replacements[&place.point()]])
    }

    /// Change of the summed loss of one sequence.
    fn change(&self, edited: &Observation, sequence: usize) -> f64 {
        let each = self.observation.loss.len() / self.sequences;
        let range = sequence * each..(sequence + 1) * each;
        let pairs = edited.loss[range.clone()].iter().zip(&self.observation.loss[range]);
        pairs.map(|(after, before)| f64::from(*after) - f64::from(*before)).sum()
    }

    /// Whether the set of chosen experts of any token changed in any layer: `[sequence]`.
    fn flipped(&self, edited: &Observation) -> Result<Vec<bool>, AnalysisError> {
        let mut flipped = vec![false; self.sequences];
        for point in &self.routers {
            let (before, slots) = choices(&self.observation, *point)?;
            let (after, _) = choices(edited, *point)?;
            let tokens = before.len() / slots / self.sequences;
            for (token, (old, new)) in before.chunks(slots).zip(after.chunks(slots)).enumerate() {
                flipped[token / tokens] |=
                    old.iter().collect::<BTreeSet<_>>() != new.iter().collect::<BTreeSet<_>>();
            }
        }
        Ok(flipped)
    }

    /// Edits that hold every routed layer to the choices of the unedited pass.
    fn replays(&self) -> Result<Vec<Edit>, AnalysisError> {
        let replay = |point: &HookPoint| {
            let (chosen, _) = choices(&self.observation, *point)?;
            let choices = chosen.iter().map(|expert| *expert as u32).collect();
            let layer = point.layer().expect("a router is in a block") as u32;
            Ok(Edit::Route { layer, change: RouteEdit::Replay { choices } })
        };
        self.routers.iter().map(replay).collect()
    }
}

/// Numbers and width of a recorded value.
pub(super) fn vectors(
    values: &BTreeMap<HookPoint, Value>,
    point: HookPoint,
) -> Result<(&[f32], usize), AnalysisError> {
    let value = values.get(&point).ok_or(AnalysisError::NotRecorded { point })?;
    let real = value.real().ok_or(AnalysisError::NotRecorded { point })?;
    Ok((real, value.columns()))
}

/// Chosen experts of a layer, and how many a token chooses.
fn choices(observation: &Observation, point: HookPoint) -> Result<(&[i64], usize), AnalysisError> {
    let value = observation.values.get(&point).ok_or(AnalysisError::NotRecorded { point })?;
    let chosen = value.integer().ok_or(AnalysisError::NotRecorded { point })?;
    Ok((chosen, value.columns()))
}

fn replacement(kind: Replacement, values: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f64; width];
    if kind == Replacement::Mean {
        for row in values.chunks(width) {
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
        }
    }
    let rows = (values.len() / width) as f64;
    sum.into_iter().map(|s| (s / rows) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_runs_over_all_tokens() {
        assert_eq!(replacement(Replacement::Mean, &[1.0, 2.0, 3.0, 6.0], 2), [2.0, 4.0]);
        assert_eq!(replacement(Replacement::Zero, &[1.0, 2.0, 3.0, 6.0], 2), [0.0, 0.0]);
    }
}
