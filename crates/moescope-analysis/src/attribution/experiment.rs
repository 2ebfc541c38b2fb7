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

/// What vectors at each editable place are replaced by.
pub(super) type Replacements = BTreeMap<HookPoint, Vec<f32>>;

/// Replacements for all samples, so that it does not matter how sequences are divided among them.
pub(super) fn replacements(
    subject: &mut dyn Subject,
    samples: &[Sample],
    kind: Replacement,
) -> Result<Replacements, AnalysisError> {
    let points = editable(subject);
    let mut sums: BTreeMap<HookPoint, Vec<f64>> = points.iter().map(|point| (*point, Vec::new())).collect();
    let mut tokens = 0;
    // Zeros are as wide as what is seen once.
    let seen_samples = if kind == Replacement::Mean { samples.len() } else { 1 };
    for sample in samples.iter().take(seen_samples) {
        let seen = run(subject, sample.tokens(), &points, &[])?;
        for (point, sum) in &mut sums {
            let (values, width) = vectors(&seen.values, *point)?;
            sum.resize(width, 0.0);
            for row in values.chunks_exact(width).filter(|_| kind == Replacement::Mean) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
        tokens += sample.tokens().len();
    }
    let mean = |sum: Vec<f64>| sum.into_iter().map(|sum| (sum / tokens as f64) as f32).collect();
    Ok(sums.into_iter().map(|(point, sum)| (point, mean(sum))).collect())
}

/// Where vectors may be edited.
fn editable(subject: &dyn Subject) -> Vec<HookPoint> {
    let points = |layer| SITES.map(|site| HookPoint::block(site, layer));
    (0..subject.shape().layers()).flat_map(points).collect()
}

/// Makes `rounds` edits of every sequence of one sample, whose first sequence has this number: those of the first sequence, then of the next.
pub(super) fn edit_effects(
    subject: &mut dyn Subject,
    (sample, first): (&Sample, usize),
    replacements: &Replacements,
    options: &AttributionOptions,
) -> Result<Vec<EditEffect>, AnalysisError> {
    check::at_least("attribution", "positions", sample.tokens().positions(), 2)?;
    let clean = Clean::observe(subject, sample.tokens(), replacements)?;
    let mut effects = vec![Vec::new(); sample.tokens().batch()];
    for round in 0..options.rounds {
        let places = draw_places(subject, sample.tokens(), |sequence| {
            options.seed.index((first + sequence) as u64).index(round as u64)
        });
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
            effects[sequence].push(EditEffect {
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
    Ok(effects.concat())
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

/// One place for each sequence, from a stream of its own.
fn draw_places(subject: &dyn Subject, tokens: &Tokens, seed: impl Fn(usize) -> Seed) -> Vec<Place> {
    let layers = subject.shape().layers();
    let draw = |sequence: usize| {
        let mut rng = seed(sequence).rng();
        Place {
            row: sequence * tokens.positions() + rng.random_range(0..tokens.positions() - 1),
            layer: rng.random_range(0..layers),
            site: SITES[rng.random_range(0..SITES.len())],
        }
    };
    (0..tokens.batch()).map(draw).collect()
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
pub(super) struct Clean<'a> {
    observation: Observation,
    /// Where the chosen experts of the routed layers are.
    routers: Vec<HookPoint>,
    replacements: &'a Replacements,
    sequences: usize,
}

impl Clean<'_> {
    fn observe<'a>(
        subject: &mut dyn Subject,
        tokens: &Tokens,
        replacements: &'a Replacements,
    ) -> Result<Clean<'a>, AnalysisError> {
        let points = editable(subject);
        let routed = subject.shape().routed_layers();
        let routers: Vec<HookPoint> =
            routed.into_iter().map(|layer| HookPoint::block(Site::RouterIndices, layer)).collect();
        let record = [points.clone(), routers.clone()].concat();
        let request = Request { record: &record, gradients: &points, ..Request::of(tokens) };
        let observation = subject.run(&request)?;
        for point in points {
            vectors(&observation.gradients, point)?;
            vectors(&observation.values, point)?;
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
