//! Logit lens: what the final norm and unembedding read from the residual stream after each block.

use moescope_base::{Column, HookPoint, Request, Seed, Site, Subject, Table};
use moescope_engine::divergence;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::matrix::{Features, random_rotation};
use crate::next_token::first_of_largest;
use crate::statistics::{Summary, one_sample};
use crate::{AnalysisError, Sample};

/// Rows that are unembedded at once, so that logits of a large vocabulary do not fill the memory.
const ROWS_AT_ONCE: usize = 256;

/// How near the prediction is after each block.
///
/// - **Null:** the same residual vectors turned by a random rotation: their lengths are kept, and what they point at is
///   not. A lens no nearer than its rotation reads nothing.
/// - **Does not show:** what the model would compute if it stopped there: later blocks may also *rewrite* the basis. A
///   large divergence is a failure of the lens, or of the block, and the lens alone cannot tell which.
/// - **Source:** nostalgebraist 2020; Belrose et al. 2023 for its bias in early layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogitLens {
    /// One entry for each block, in order; the last is 0 by construction.
    pub layers: Vec<LensLayer>,
    /// Fall of the mean divergence from the first to the last block, over the sum of its changes in either direction:
    /// 1 if it never rises, NaN with one block.
    pub monotonicity: f64,
    /// Documents behind every mean.
    pub documents: usize,
    /// Tokens behind every mean.
    pub tokens: usize,
}

/// The lens after one block. Means and 95 % t-intervals are over documents, each token weighing alike within its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LensLayer {
    /// Block.
    pub layer: usize,
    /// Kullback–Leibler divergence of the final prediction from the lens', in nats, at least 0.
    pub divergence: Summary,
    /// Share of tokens with the same most probable token, 0 to 1.
    pub agreement: Summary,
    /// Divergence with the residual rotated.
    pub rotated_divergence: Summary,
    /// Agreement with the residual rotated.
    pub rotated_agreement: Summary,
}

/// Reads the lens after every block on all tokens of the samples.
///
/// # Errors
/// If the subject cannot answer or leaves out a value, or the samples hold fewer than two documents.
pub fn logit_lens(
    subject: &mut dyn Subject,
    samples: &[Sample],
    seed: Seed,
) -> Result<LogitLens, AnalysisError> {
    let layers = subject.shape().layers();
    let mut readings: Vec<Vec<Reading>> = vec![Vec::new(); layers];
    let mut documents = Vec::new();
    for sample in samples {
        documents.extend_from_slice(sample.documents());
        for (layer, found) in read(subject, sample, seed)?.into_iter().enumerate() {
            readings[layer].extend(found);
        }
    }
    let layers: Vec<LensLayer> = readings
        .iter()
        .enumerate()
        .map(|(layer, readings)| summarise(layer, readings, &documents))
        .collect::<Result<_, _>>()?;
    let monotonicity = monotonicity(&layers.iter().map(|l| l.divergence.mean).collect::<Vec<_>>());
    let distinct = layers.first().map_or(0, |l| l.divergence.n);
    Ok(LogitLens { layers, monotonicity, documents: distinct, tokens: documents.len() })
}

impl LogitLens {
    /// One row for each block.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self, name: &str, title: &str) -> Result<Table, AnalysisError> {
        let blocks = self.layers.iter().map(|l| l.layer as i64).collect();
        let mut columns = vec![Column::integer_key("layer", "", "after this block, counted from 0", blocks)];
        for (name, unit, meaning, value, null) in [
            (
                "divergence",
                "nats",
                "divergence of the final prediction from the lens'",
                (|l: &LensLayer| l.divergence) as fn(&LensLayer) -> Summary,
                (|l: &LensLayer| l.rotated_divergence) as fn(&LensLayer) -> Summary,
            ),
            ("agreement", "share", "same most probable token", |l| l.agreement, |l| l.rotated_agreement),
        ] {
            let of = |pick: &dyn Fn(&LensLayer) -> f64| self.layers.iter().map(pick).collect::<Vec<f64>>();
            columns.push(Column::estimate(name, unit, meaning, of(&|l| value(l).mean)));
            let (low, high) = (of(&|l| value(l).low), of(&|l| value(l).high));
            columns.extend(Column::interval(name, unit, "95 % t-interval over documents", low, high));
            let documents = self.layers.iter().map(|l| value(l).n as i64).collect();
            columns.push(Column::observations(name, "documents", documents));
            columns.push(Column::null(
                name,
                unit,
                "residual stream rotated at random",
                of(&|l| null(l).mean),
            ));
        }
        let method = "Final norm and unembedding applied to the residual stream after each block; means over documents.";
        Ok(Table::new(name, title, method, columns)?)
    }
}

/// The lens on one token.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    divergence: f64,
    agreement: f64,
    rotated_divergence: f64,
    rotated_agreement: f64,
}

/// Readings of one sample: `[layer][token]`.
fn read(subject: &mut dyn Subject, sample: &Sample, seed: Seed) -> Result<Vec<Vec<Reading>>, AnalysisError> {
    let layers = subject.shape().layers();
    let points: Vec<HookPoint> = (0..layers).map(|layer| HookPoint::block(Site::ResidPost, layer)).collect();
    let observation = subject.run(&Request::recording(sample.tokens(), &points))?;
    let mut residuals = Vec::with_capacity(layers);
    for point in &points {
        let value = observation.values.get(point).ok_or(AnalysisError::NotRecorded { point: *point })?;
        residuals.push(Features::of_value(value)?);
    }
    let mut readings = vec![Vec::with_capacity(sample.tokens().len()); layers];
    let rows: Vec<usize> = (0..sample.tokens().len()).collect();
    for part in rows.chunks(ROWS_AT_ONCE) {
        let last = residuals[layers - 1].select(part);
        let reference = subject.unembed(&last.to_single())?;
        let vocabulary = reference.len() / part.len();
        for (layer, residual) in residuals.iter().enumerate() {
            let residual = residual.select(part);
            let rotation = random_rotation(residual.width(), seed.index(layer as u64));
            let plain = subject.unembed(&residual.to_single())?;
            let turned = subject.unembed(&residual.rotate(&rotation)?.to_single())?;
            readings[layer].extend(compare(&reference, &plain, &turned, vocabulary));
        }
    }
    Ok(readings)
}

/// Readings of some tokens from the logits of the end, of the stream and of the rotated stream.
fn compare(reference: &[f32], plain: &[f32], turned: &[f32], vocabulary: usize) -> Vec<Reading> {
    let one = |row: usize| {
        let [end, plain, turned] =
            [reference, plain, turned].map(|all| &all[row * vocabulary..(row + 1) * vocabulary]);
        let [top, plain_top, turned_top] = [end, plain, turned].map(first_of_largest);
        Reading {
            divergence: divergence(end, plain),
            agreement: f64::from(top == plain_top),
            rotated_divergence: divergence(end, turned),
            rotated_agreement: f64::from(top == turned_top),
        }
    };
    (0..reference.len() / vocabulary).into_par_iter().map(one).collect()
}

fn summarise(layer: usize, readings: &[Reading], documents: &[u32]) -> Result<LensLayer, AnalysisError> {
    let over = |pick: fn(&Reading) -> f64| {
        let values: Vec<f64> = readings.iter().map(pick).collect();
        one_sample(&document_means(&values, documents))
    };
    Ok(LensLayer {
        layer,
        divergence: over(|r| r.divergence)?,
        agreement: over(|r| r.agreement)?,
        rotated_divergence: over(|r| r.rotated_divergence)?,
        rotated_agreement: over(|r| r.rotated_agreement)?,
    })
}

/// Mean of the values of each document, documents ascending.
fn document_means(values: &[f64], documents: &[u32]) -> Vec<f64> {
    let mut sums = std::collections::BTreeMap::new();
    for (value, document) in values.iter().zip(documents) {
        let entry = sums.entry(*document).or_insert((0.0, 0.0));
        *entry = (entry.0 + value, entry.1 + 1.0);
    }
    sums.into_values().map(|(sum, count)| sum / count).collect()
}

/// Net fall over the sum of absolute changes.
fn monotonicity(divergence: &[f64]) -> f64 {
    let changes: f64 = divergence.windows(2).map(|w| (w[1] - w[0]).abs()).sum();
    match divergence {
        [first, .., last] => (first - last) / changes,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_model::{model, own_text, rename, turn_basis};
    use moescope_base::{
        FeedForwardShape, Observation, SubjectError, SubjectShape, Tokens, Value, ValueData,
    };
    use moescope_model::ModelSubject;

    const WIDTH: usize = 8;

    /// A subject whose residual stream after block `l` points at the final prediction with weight `strength[l]`, and
    /// otherwise in directions that depend on the token; it is unembedded by the identity.
    struct Planted {
        shape: SubjectShape,
        strength: Vec<f32>,
    }

    impl Planted {
        fn new(strength: &[f32]) -> Planted {
            let feed_forward = vec![FeedForwardShape::Dense { width: 4 }; strength.len()];
            let shape = SubjectShape {
                d_model: WIDTH,
                vocab: WIDTH,
                heads: 1,
                head_dim: WIDTH,
                feed_forward,
                options: Default::default(),
            };
            Planted { shape, strength: strength.to_vec() }
        }
    }

    impl Subject for Planted {
        fn shape(&self) -> &SubjectShape {
            &self.shape
        }

        fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
            let tokens = request.tokens;
            let residual = |layer: usize| -> Vec<f32> {
                let strength = self.strength[layer];
                tokens
                    .ids()
                    .iter()
                    .flat_map(|id| {
                        let mut vector: Vec<f32> = (0..WIDTH)
                            .map(|c| (1.0 - strength) * ((id * 5 + 3 * c as u32) as f32).sin())
                            .collect();
                        vector[*id as usize % WIDTH] += 4.0 * strength;
                        vector
                    })
                    .collect()
            };
            let values = request
                .record
                .iter()
                .map(|point| {
                    let data = residual(point.layer().unwrap());
                    let shape = vec![tokens.batch(), tokens.positions(), WIDTH];
                    (*point, Value::new(*point, shape, ValueData::Real(data), None).unwrap())
                })
                .collect();
            Ok(Observation { values, ..Observation::default() })
        }

        fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
            Ok(residual.to_vec())
        }
    }

    fn samples() -> Vec<Sample> {
        let tokens = Tokens::new((0..60).map(|i| i * 7 % 23).collect(), 6, 10).unwrap();
        vec![Sample::one_document_each(tokens, 0)]
    }

    #[test]
    fn readings_by_hand() {
        // Probabilities (1/4, 3/4) at the end, (1/2, 1/2) in the stream, (3/4, 1/4) rotated.
        let rows = [[1.0_f32.ln(), 3.0_f32.ln()], [0.0, 0.0], [3.0_f32.ln(), 0.0]];
        let [found] = compare(&rows[0], &rows[1], &rows[2], 2).try_into().unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(found.divergence, 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln());
        near(found.rotated_divergence, 0.25 * (1.0_f64 / 3.0).ln() + 0.75 * 3.0_f64.ln());
        assert_eq!((found.agreement, found.rotated_agreement), (0.0, 0.0));
    }

    #[test]
    fn a_prediction_that_is_built_up_is_found_nearer_block_by_block() {
        let lens = logit_lens(&mut Planted::new(&[0.1, 0.5, 0.8, 1.0]), &samples(), Seed(1)).unwrap();
        let means: Vec<f64> = lens.layers.iter().map(|l| l.divergence.mean).collect();
        assert!(means.windows(2).all(|w| w[1] < w[0]), "{means:?}");
        assert_eq!((lens.monotonicity, lens.documents, lens.tokens), (1.0, 6, 60));
        let last = lens.layers[3];
        assert_eq!((last.divergence.mean, last.agreement.mean), (0.0, 1.0));
        assert!(lens.layers[2].divergence.high < lens.layers[2].rotated_divergence.low);
        assert!(lens.layers[2].agreement.low > lens.layers[2].rotated_agreement.high);
    }

    #[test]
    fn a_stream_that_says_nothing_yet_is_no_nearer_than_its_rotation() {
        let lens = logit_lens(&mut Planted::new(&[0.0, 1.0]), &samples(), Seed(2)).unwrap();
        let first = lens.layers[0];
        assert!((first.divergence.mean - first.rotated_divergence.mean).abs() < 0.2 * first.divergence.mean);
        assert!(first.agreement.mean < 0.4);
    }

    #[test]
    fn a_detour_lowers_monotonicity_and_one_document_is_too_few() {
        assert!((monotonicity(&[3.0, 1.0, 2.0, 0.0]) - 0.6).abs() < 1e-12);
        assert!(monotonicity(&[1.0]).is_nan());
        let one = Sample::one_document_each(Tokens::new(vec![1, 2, 3], 1, 3).unwrap(), 0);
        assert!(logit_lens(&mut Planted::new(&[0.5, 1.0]), &[one], Seed(1)).is_err());
    }

    #[test]
    fn documents_weigh_alike_whatever_their_length() {
        assert_eq!(document_means(&[1.0, 3.0, 10.0], &[4, 4, 2]), [10.0, 2.0]);
    }

    #[test]
    fn batches_do_not_matter_and_the_table_has_one_row_for_each_block() {
        let ids: Vec<u32> = (0..60).map(|i| i * 7 % 23).collect();
        let halves: Vec<Sample> = (0..2)
            .map(|h| {
                Sample::one_document_each(
                    Tokens::new(ids[30 * h..30 * h + 30].to_vec(), 3, 10).unwrap(),
                    3 * h as u32,
                )
            })
            .collect();
        let mut subject = Planted::new(&[0.3, 1.0]);
        let whole = logit_lens(&mut subject, &samples(), Seed(1)).unwrap();
        let parts = logit_lens(&mut subject, &halves, Seed(1)).unwrap();
        assert_eq!((whole.layers[0], whole.tokens), (parts.layers[0], parts.tokens));
        assert_eq!(whole.table("lens", "Lens").unwrap().rows(), 2);
    }

    #[test]
    fn a_basis_of_the_stream_that_is_turned_with_all_that_reads_and_writes_it_changes_nothing() {
        let plain = model(3, 4, |_, _| {});
        let text = [own_text(&plain, 8, 2)];
        let rotation = random_rotation(plain.description().d_model, Seed(9));
        let turned = model(3, 4, |name, data| turn_basis(name, data, &rotation, [16, 8]));
        let [own, other] =
            [plain, turned].map(|model| logit_lens(&mut ModelSubject::new(model), &text, Seed(1)).unwrap());
        assert!(own.layers[0].divergence.mean > 0.1, "{own:?}");
        for (own, other) in own.layers.iter().zip(&other.layers) {
            let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-3, "{own:?} {other:?}");
            near(own.divergence.mean, other.divergence.mean);
            near(own.divergence.high, other.divergence.high);
            near(own.agreement.mean, other.agreement.mean);
        }
        // Turned where it is read out alone, the lens reads something else.
        let astray = model(3, 4, |name, data| {
            if name == "lm_head.weight" {
                turn_basis(name, data, &rotation, [16, 8]);
            }
        });
        let astray = logit_lens(&mut ModelSubject::new(astray), &text, Seed(1)).unwrap();
        assert!(
            (astray.layers[0].divergence.mean - own.layers[0].divergence.mean).abs() > 0.05,
            "{astray:?}"
        );
    }

    #[test]
    fn the_names_of_experts_do_not_matter() {
        let plain = model(2, 5, |_, _| {});
        let text = [own_text(&plain, 8, 2)];
        let [own, other] = [plain, model(2, 5, rename)]
            .map(|model| logit_lens(&mut ModelSubject::new(model), &text, Seed(1)).unwrap());
        for (own, other) in own.layers.iter().zip(&other.layers) {
            assert!((own.divergence.mean - other.divergence.mean).abs() < 1e-4, "{own:?} {other:?}");
            assert!((own.rotated_divergence.mean - other.rotated_divergence.mean).abs() < 1e-3);
        }
    }
}
