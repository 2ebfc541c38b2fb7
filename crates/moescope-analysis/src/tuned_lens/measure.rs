//! Which tokens lenses are trained and tested on, and what they say.

use std::collections::BTreeSet;

use moescope_base::{FeedForwardShape, HookPoint, Observation, Request, Seed, Site, Subject};
use nalgebra::DMatrix;
use rand::seq::SliceRandom;

use super::readout::Readout;
use super::told::Told;
use super::train::{Material, Pace, train};
use super::translator::{Affine, ByExpert, Routed, Translator};
use super::{Conditioned, LayerLenses, METHOD, TunedLensOptions, TunedLenses};
use crate::statistics::cluster_bootstrap;
use crate::{AnalysisError, Sample, check};

/// Steps of the affine translator, and of corrections, which start from it.
const STEPS: [usize; 2] = [200, 120];
/// Documents of ten that lenses are trained on, and that stop the training; the others test.
const TRAINED: usize = 5;
const ASIDE: usize = 2;

/// Trains and tests lenses after every block but the last, whose residual vectors are read out as they are.
///
/// The model reads the text once; lenses are trained on what was seen then. The three readings of a lens (as
/// it stands, translated, constant) are compared on documents that neither trained it nor stopped its
/// training.
///
/// # Errors
/// If the subject has one block or cannot answer, its unembedding is no norm with a matrix, or there are fewer than four documents.
pub fn tuned_lens(
    subject: &mut dyn Subject,
    samples: &[Sample],
    options: TunedLensOptions,
) -> Result<TunedLenses, AnalysisError> {
    check::at_least(METHOD, "blocks", subject.shape().layers(), 2)?;
    check::at_least(METHOD, "shuffles", options.shuffles, 1)?;
    let readout = Readout::of(subject)?;
    let layers = layers(subject, options.layers);
    let seen = Seen::of(subject, samples, &layers, options)?;
    let parts = split(&seen.documents, options.seed.child("documents"))?;
    let last = parts.each_ref().map(|tokens| seen.last.select_columns(tokens));
    let constant = readout.mean_prediction(&last[0]);
    let constant = mean(&readout.divergences_from(&last[2], &constant));
    let bench = Bench { readout: &readout, last: &last, parts: &parts, seen: &seen, constant, options };
    let of_layer =
        |(place, layer): (usize, &usize)| bench.layer(subject.shape().feed_forward[*layer], place, *layer);
    let layers = layers.iter().enumerate().map(of_layer).collect::<Result<_, _>>()?;
    Ok(TunedLenses { layers, trained: parts[0].len(), tested: parts[2].len() })
}

/// Blocks before the last, evenly spaced where there are more than wanted.
fn layers(subject: &dyn Subject, wanted: usize) -> Vec<usize> {
    let all = subject.shape().layers() - 1;
    let count = all.min(wanted.max(1));
    (0..count).map(|at| at * all / count).collect()
}

/// What was seen of some tokens.
struct Seen {
    /// After each block that gets a lens, `[model, token]`.
    layers: Vec<DMatrix<f32>>,
    /// After the last block.
    last: DMatrix<f32>,
    /// The expert with the largest weight in each of these blocks, `[block][token]`; empty where there is no router.
    experts: Vec<Vec<u32>>,
    /// The same of the last routed block before each; empty where there is none.
    before: Vec<Vec<u32>>,
    documents: Vec<u32>,
}

impl Seen {
    /// One pass over the text, and tokens drawn evenly.
    fn of(
        subject: &mut dyn Subject,
        samples: &[Sample],
        layers: &[usize],
        options: TunedLensOptions,
    ) -> Result<Seen, AnalysisError> {
        let (width, last) = (subject.shape().d_model, subject.shape().layers() - 1);
        let streams: Vec<HookPoint> =
            layers.iter().chain([&last]).map(|layer| HookPoint::block(Site::ResidPost, *layer)).collect();
        let routed: BTreeSet<usize> = subject.shape().routed_layers().into_iter().collect();
        let router = |layer: usize| HookPoint::block(Site::RouterIndices, layer);
        let routers: Vec<Option<HookPoint>> =
            layers.iter().map(|layer| routed.contains(layer).then(|| router(*layer))).collect();
        let earlier: Vec<Option<HookPoint>> = layers
            .iter()
            .map(|layer| routed.range(..layer).next_back().map(|before| router(*before)))
            .collect();
        let known = || routers.iter().chain(&earlier).copied().flatten();
        let record: Vec<HookPoint> =
            streams.iter().copied().chain(known()).collect::<BTreeSet<HookPoint>>().into_iter().collect();
        let mut chosen: Vec<usize> = (0..samples.iter().map(|sample| sample.tokens().len()).sum()).collect();
        chosen.shuffle(&mut options.seed.child("tokens").rng());
        chosen.truncate(options.tokens);
        chosen.sort_unstable();
        let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); streams.len()];
        let mut documents = Vec::new();
        let [mut experts, mut passed] = [(); 2].map(|()| vec![Vec::new(); layers.len()]);
        let mut before = 0;
        for sample in samples {
            let observed = subject.run(&Request::recording(sample.tokens(), &record))?;
            let here = before..before + sample.tokens().len();
            let rows: Vec<usize> =
                chosen.iter().filter(|token| here.contains(token)).map(|token| token - before).collect();
            for (vectors, point) in vectors.iter_mut().zip(&streams) {
                let value = observed.values.get(point).and_then(|value| value.real());
                let value = value.ok_or(AnalysisError::NotRecorded { point: *point })?;
                rows.iter().for_each(|row| vectors.extend(&value[row * width..(row + 1) * width]));
            }
            let told = experts.iter_mut().zip(&routers).chain(passed.iter_mut().zip(&earlier));
            for (experts, point) in told {
                if let Some(point) = point {
                    let first = first_experts(&observed, *point)?;
                    experts.extend(rows.iter().map(|row| first[*row]));
                }
            }
            documents.extend(rows.iter().map(|row| sample.documents()[*row]));
            before = here.end;
        }
        let matrix = |vectors: Vec<f32>| DMatrix::from_vec(width, vectors.len() / width, vectors);
        let mut layers: Vec<DMatrix<f32>> = vectors.into_iter().map(matrix).collect();
        let last = layers.pop().expect("the last block was recorded after the others");
        Ok(Seen { layers, last, experts, before: passed, documents })
    }
}

/// The expert with the largest weight of every token.
fn first_experts(seen: &Observation, point: HookPoint) -> Result<Vec<u32>, AnalysisError> {
    let value = seen.values.get(&point).ok_or(AnalysisError::NotRecorded { point })?;
    let chosen = value.integer().ok_or(AnalysisError::NotRecorded { point })?;
    Ok(chosen.chunks_exact(value.columns()).map(|slots| slots[0] as u32).collect())
}

/// Tokens to train on, to stop by, and to test on; no document is in two of them.
///
/// Of ten documents five train, two stop the training and three test; of four it is two, one and one.
/// Documents, not tokens, are dealt, because the tokens of one document share words that a lens could learn.
fn split(documents: &[u32], seed: Seed) -> Result<[Vec<usize>; 3], AnalysisError> {
    let mut names: Vec<u32> = documents.iter().copied().collect::<BTreeSet<u32>>().into_iter().collect();
    check::at_least(METHOD, "documents", names.len(), 4)?;
    names.shuffle(&mut seed.rng());
    let trained = (names.len() * TRAINED / 10).max(1);
    let aside = (names.len() * ASIDE / 10).max(1);
    let part = |of: &[u32]| (0..documents.len()).filter(|token| of.contains(&documents[*token])).collect();
    Ok([part(&names[..trained]), part(&names[trained..trained + aside]), part(&names[trained + aside..])])
}

/// What lenses of all blocks share.
struct Bench<'a> {
    readout: &'a Readout,
    /// Final vectors of each part.
    last: &'a [DMatrix<f32>; 3],
    parts: &'a [Vec<usize>; 3],
    seen: &'a Seen,
    constant: f64,
    options: TunedLensOptions,
}

impl Bench<'_> {
    /// The lenses after one block.
    fn layer(
        &self,
        shape: FeedForwardShape,
        place: usize,
        layer: usize,
    ) -> Result<LayerLenses, AnalysisError> {
        let seed = self.options.seed.index(layer as u64);
        let vectors = self.parts.each_ref().map(|tokens| self.seen.layers[place].select_columns(tokens));
        let (width, length) = (vectors[0].nrows(), usual_length(&vectors[0]));
        let affine = Affine { width, length };
        let [training, aside] = [0, 1].map(|part| Material { input: &vectors[part], last: &self.last[part] });
        // A step of this rate in every entry turns a vector by at most about its own length.
        let pace = Pace { steps: STEPS[0], rate: 2.0 / width as f32 };
        let parameters = train(&affine, self.readout, &training, &aside, pace, seed);
        let translated = vectors.each_ref().map(|vectors| affine.translate(&parameters, vectors));
        let logit = self.readout.divergences(&self.last[2], &vectors[2]);
        let tuned = self.readout.divergences(&self.last[2], &translated[2]);
        let both = [&vectors, &translated];
        let (own, before) = (&self.seen.experts[place], &self.seen.before[place]);
        let conditioned = match shape {
            FeedForwardShape::Routed { experts, .. } => {
                Some(self.conditioned(Told::Expert { own, experts }, length, both, seed)?)
            }
            FeedForwardShape::Dense { .. } => None,
        };
        let path = !own.is_empty() && !before.is_empty();
        let by_path = path
            .then(|| self.conditioned(Told::Path { before, own }, length, both, seed.child("path")))
            .transpose()?;
        Ok(LayerLenses {
            layer,
            logit: self.over(&logit)?,
            tuned: self.over(&tuned)?,
            constant: self.constant,
            gain: self.over(&difference(&logit, &tuned))?,
            conditioned,
            by_path,
        })
    }

    /// The lens by what it is told, against the same where that is shuffled within each part; `length` is the usual one of a vector.
    fn conditioned(
        &self,
        told: Told<'_>,
        length: f32,
        [vectors, translated]: [&[DMatrix<f32>; 3]; 2],
        seed: Seed,
    ) -> Result<Conditioned, AnalysisError> {
        let (width, experts) = (vectors[0].nrows(), told.classes(&self.parts[0]));
        let by_expert = &ByExpert { width, length, experts, rank: self.options.rank, seed };
        let tested = |shuffle: Option<Seed>| {
            let classes = told.of_parts(self.parts, shuffle);
            let inputs = [0, 1, 2].map(|part| Routed {
                vectors: vectors[part].clone(),
                translated: translated[part].clone(),
                experts: classes[part].clone(),
            });
            let [training, aside] =
                [0, 1].map(|part| Material { input: &inputs[part], last: &self.last[part] });
            let pace = Pace { steps: STEPS[1], rate: 1.0 / (by_expert.width as f32).sqrt() / 4.0 };
            let parameters = train(by_expert, self.readout, &training, &aside, pace, seed);
            self.readout.divergences(&self.last[2], &by_expert.translate(&parameters, &inputs[2]))
        };
        let found = tested(None);
        let shuffles =
            (0..self.options.shuffles as u64).map(|index| tested(Some(seed.child("shuffles").index(index))));
        let best = shuffles.min_by(|a, b| mean(a).total_cmp(&mean(b))).expect("one shuffle at least");
        let gain = self.over(&difference(&best, &found))?;
        Ok(Conditioned { divergence: self.over(&found)?, shuffled: mean(&best), gain })
    }

    /// Mean over the held-out tokens, with an interval over their documents.
    fn over(&self, values: &[f64]) -> Result<crate::statistics::Bootstrap, AnalysisError> {
        let documents: Vec<u32> = self.parts[2].iter().map(|token| self.seen.documents[*token]).collect();
        let of = |rows: &[usize]| rows.iter().map(|row| values[*row]).sum::<f64>() / rows.len() as f64;
        cluster_bootstrap(&documents, of, self.options.resampling)
    }
}

/// Root of the mean squared length of columns.
fn usual_length(vectors: &DMatrix<f32>) -> f32 {
    (vectors.norm_squared() / vectors.ncols() as f32).sqrt().max(f32::MIN_POSITIVE)
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::normal;
    use crate::statistics::{BootstrapMethod, Resampling};
    use crate::tuned_lens::tests::{Early, Planted, answer};
    use rand::RngExt;
    use rayon::prelude::*;

    #[test]
    fn no_document_is_in_two_parts_and_all_are_in_one() {
        let documents: Vec<u32> = (0..60).map(|token| token / 5).collect();
        let parts = split(&documents, Seed(3)).unwrap();
        let names =
            parts.each_ref().map(|tokens| tokens.iter().map(|t| documents[*t]).collect::<BTreeSet<u32>>());
        assert_eq!(names.each_ref().map(BTreeSet::len), [6, 2, 4]);
        assert_eq!(names.iter().flatten().collect::<BTreeSet<_>>().len(), 12);
        assert!(split(&[1, 2, 3], Seed(3)).is_err());
        assert_ne!(split(&documents, Seed(4)).unwrap(), parts);
    }

    /// Documents prefer an answer and, independently, an expert; what stands after the block is the answer with noise.
    fn gain_of_nothing(readout: &Readout, seed: Seed) -> f64 {
        gain(readout, seed, 20, |_, draw| draw, false)
    }

    /// The same, of the lens by expert or by path; `expert` makes the one before from the answer and a draw.
    fn gain(readout: &Readout, seed: Seed, count: u32, expert: impl Fn(u32, u32) -> u32, path: bool) -> f64 {
        let mut rng = seed.rng();
        let documents: Vec<u32> = (0..count * 16).map(|token| token / 16).collect();
        let mut prefer = |choices: u32| -> Vec<u32> {
            let own: Vec<u32> = (0..count).map(|_| rng.random_range(0..choices)).collect();
            let token = |document: &u32| match rng.random_range(0..2) {
                0 => own[*document as usize],
                _ => rng.random_range(0..choices),
            };
            documents.iter().map(token).collect()
        };
        let (answers, experts) = (prefer(8), prefer(4));
        let before: Vec<u32> =
            answers.iter().zip(prefer(4)).map(|(answer, draw)| expert(*answer, draw)).collect();
        let last: Vec<f32> = answers.iter().flat_map(|id| answer(*id)).collect();
        let noisy = last.iter().map(|x| x + 2.0 * normal(&mut rng) as f32).collect();
        let matrix = |of: Vec<f32>| DMatrix::from_vec(8, documents.len(), of);
        let seen = Seen {
            layers: vec![matrix(noisy)],
            last: matrix(last),
            experts: vec![experts],
            before: vec![before],
            documents: documents.clone(),
        };
        let parts = split(&documents, seed.child("documents")).unwrap();
        let last = parts.each_ref().map(|tokens| seen.last.select_columns(tokens));
        let vectors = parts.each_ref().map(|tokens| seen.layers[0].select_columns(tokens));
        let resampling =
            Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed };
        let options = TunedLensOptions { tokens: 0, layers: 1, rank: 1, shuffles: 2, resampling, seed };
        let bench = Bench { readout, last: &last, parts: &parts, seen: &seen, constant: 0.0, options };
        let (own, before) = (&seen.experts[0], &seen.before[0]);
        let told = if path { Told::Path { before, own } } else { Told::Expert { own, experts: 4 } };
        // The affine lens is held, so what it is does not matter to this null: the identity.
        bench.conditioned(told, usual_length(&vectors[0]), [&vectors, &vectors], seed).unwrap().gain.low
    }

    #[test]
    fn a_path_that_tells_the_answer_is_found_and_one_that_does_not_is_not() {
        let readout = Readout::of(&mut Planted::new(Early::Answer)).unwrap();
        // The expert before knows the half of the answers that is right.
        let found =
            (0..4u64).filter(|seed| gain(&readout, Seed(*seed), 120, |answer, _| answer / 2, true) > 0.0);
        assert_eq!(found.count(), 4);
        let called = (0..200u64)
            .into_par_iter()
            .filter(|seed| gain(&readout, Seed(*seed), 20, |_, draw| draw, true) > 0.0);
        // As below.
        let called = called.count();
        assert!(called <= 12, "{called} of 200");
    }

    #[test]
    fn experts_that_say_nothing_are_called_telling_at_the_stated_rate() {
        let readout = Readout::of(&mut Planted::new(Early::Answer)).unwrap();
        let called = (0..200u64).into_par_iter().filter(|seed| gain_of_nothing(&readout, Seed(*seed)) > 0.0);
        // One end of a 95 % interval: 2.5 % of 200, and 12 in 1 of 400 cases; the best of two shuffles makes it fewer.
        let called = called.count();
        assert!(called <= 12, "{called} of 200");
    }
}
