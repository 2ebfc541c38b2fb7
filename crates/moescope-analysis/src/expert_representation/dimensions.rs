//! How many dimensions fill what an expert reads and answers, beside its layer.

use moescope_base::{Column, HookPoint, Request, Seed, Site, Subject, Table, Value, row_tokens};

use crate::intrinsic_dimension::{FEWER, LEFT_OUT, LayerDimension, curved, of_layer};
use crate::matrix::Features;
use crate::spectrum::{white_effective_rank, white_participation_ratio};
use crate::stream_spectrum::{Directions, directions};
use crate::tabulate::bootstrap_columns;
use crate::{AnalysisError, Sample};

/// Rows of each expert and layer, at most; of all of one layer as many.
const ROWS: usize = 256;
/// Rows below which an expert is left out.
const LEAST: usize = 64;

/// Dimensions of vectors of one expert, or of all tokens of its layer.
///
/// - **Unit and range:** dimensions, above 0. `local` is that of nearest neighbours; effective rank and participation ratio are those of
///   the covariance, at most the smaller of rows less one and the width.
/// - **Null:** Gaussian vectors of the same covariance; white noise with as many rows. All of them grow with the number of rows, which is the
///   same for all of a layer.
/// - **Does not show:** why: an expert whose tokens are few different words reads few dimensions, whatever it has learned.
/// - **Source:** TwoNN, Facco et al. 2017; Roy and Vetterli 2007; Gao et al. 2017.
pub struct ExpertDimensions {
    /// Block.
    pub layer: usize,
    /// The expert; none where the tokens are any of the layer.
    pub expert: Option<usize>,
    /// Whether vectors are answers; otherwise what is read.
    pub answers: bool,
    /// Of nearest neighbours, beside its null.
    pub local: LayerDimension,
    /// Of the covariance.
    spectrum: Directions,
}

impl ExpertDimensions {
    /// Whose vectors they are, in words.
    fn whose(&self) -> String {
        match self.expert {
            Some(expert) => format!("block {}, expert {expert}", self.layer),
            None => format!("block {}, all tokens", self.layer),
        }
    }

    /// Which of its vectors.
    fn of(&self) -> &'static str {
        if self.answers { "answers" } else { "input" }
    }
}

/// Vectors of one expert, or of all tokens, with their documents.
struct Rows {
    expert: Option<usize>,
    input: Vec<f32>,
    answers: Vec<f32>,
    documents: Vec<u32>,
}

/// Dimensions of what experts of a layer read and answer at the tokens that the router sent to them, and of all tokens of the layer.
///
/// Vectors that do not vary, or of which fewer than ten differ, are left out; so are experts with fewer than 64 tokens.
///
/// # Errors
/// If the subject cannot answer.
pub(super) fn of_experts(
    subject: &mut dyn Subject,
    samples: &[Sample],
    layer: usize,
    experts: &[usize],
    seed: Seed,
) -> Result<Vec<ExpertDimensions>, AnalysisError> {
    let width = subject.shape().d_model;
    let mut all = gathered(subject, samples, layer, experts)?;
    all.retain(|rows| rows.documents.len() >= LEAST);
    let count = all.iter().map(|rows| rows.documents.len()).min().unwrap_or(0).min(ROWS);
    let mut found = Vec::new();
    for rows in &all {
        for (answers, data) in [(false, &rows.input), (true, &rows.answers)] {
            let chosen: Vec<usize> = (0..count).map(|at| at * rows.documents.len() / count).collect();
            let documents: Vec<u32> = chosen.iter().map(|row| rows.documents[*row]).collect();
            let data: Vec<f32> =
                chosen.iter().flat_map(|row| &data[row * width..][..width]).copied().collect();
            let place = rows.expert.map_or(0, |expert| expert as u64 + 1);
            let seed = seed.index(place).index(u64::from(answers));
            let local = told(of_layer(layer, &Features::from_single(width, &data)?, &documents, seed))?;
            let spectrum = told(directions(&data, width, &documents, seed))?;
            let both = local.zip(spectrum);
            let expert = rows.expert;
            found.extend(both.map(|(local, spectrum)| ExpertDimensions {
                layer,
                expert,
                answers,
                local,
                spectrum,
            }));
        }
    }
    Ok(found)
}

/// Nothing where vectors are too few or too much alike to have a dimension.
fn told<T>(found: Result<T, AnalysisError>) -> Result<Option<T>, AnalysisError> {
    use AnalysisError::{Constant, OutOfRange, TooFew};
    match found {
        Ok(found) => Ok(Some(found)),
        Err(TooFew { .. } | Constant { .. } | OutOfRange { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// What all tokens and each of these experts read and answer as the router sends them, first tokens of sequences left out.
fn gathered(
    subject: &mut dyn Subject,
    samples: &[Sample],
    layer: usize,
    experts: &[usize],
) -> Result<Vec<Rows>, AnalysisError> {
    let width = subject.shape().d_model;
    let input = HookPoint::block(Site::MlpIn, layer);
    let mut points = vec![HookPoint::block(Site::RoutedOut, layer)];
    points.extend(experts.iter().map(|expert| HookPoint::expert(Site::ExpertOut, layer, *expert)));
    let whose = std::iter::once(None).chain(experts.iter().copied().map(Some));
    let empty = |expert| Rows { expert, input: Vec::new(), answers: Vec::new(), documents: Vec::new() };
    let mut all: Vec<Rows> = whose.map(empty).collect();
    let record = [&points[..], &[input]].concat();
    for sample in samples {
        let seen = subject.run(&Request::recording(sample.tokens(), &record))?;
        let value = |point: &HookPoint| -> Result<&Value, AnalysisError> {
            seen.values.get(point).ok_or(AnalysisError::NotRecorded { point: *point })
        };
        let read = value(&input)?.real().unwrap_or_default();
        for (rows, point) in all.iter_mut().zip(&points) {
            let answers = value(point)?;
            let tokens = row_tokens(answers).into_iter().map(|token| token as usize);
            let vectors = answers.real().unwrap_or_default().chunks_exact(width);
            for (token, answer) in tokens.zip(vectors) {
                if token % sample.tokens().positions() > 0 {
                    rows.input.extend_from_slice(&read[token * width..][..width]);
                    rows.answers.extend_from_slice(answer);
                    rows.documents.push(sample.documents()[token]);
                }
            }
        }
    }
    Ok(all)
}

/// One row for each expert or layer, and for what is read and what is answered.
pub(super) fn table(found: &[ExpertDimensions]) -> Result<Table, AnalysisError> {
    let count = |of: fn(&ExpertDimensions) -> usize| found.iter().map(|d| of(d) as i64).collect::<Vec<i64>>();
    let real = |of: fn(&ExpertDimensions) -> f64| found.iter().map(of).collect::<Vec<f64>>();
    let unit = "dimensions";
    let mut columns = vec![
        Column::key(
            "whose",
            "expert, or all tokens of its layer",
            found.iter().map(ExpertDimensions::whose).collect(),
        ),
        Column::key(
            "of",
            "what is read, or what is answered",
            found.iter().map(|d| d.of().to_owned()).collect(),
        ),
        Column::integer_key("layer", "", "block", count(|d| d.layer)),
        Column::count("rows", "rows", "vectors", count(|d| d.spectrum.whole.rows)),
        Column::estimate("dimension", unit, "intrinsic dimension", real(|d| d.local.found.dimension)),
    ];
    let (low, high) = (real(|d| d.local.found.low), real(|d| d.local.found.high));
    columns.extend(Column::interval("dimension", unit, LEFT_OUT, low, high));
    columns.push(Column::observations("dimension", "different vectors", count(|d| d.local.found.vectors)));
    let null = "Gaussian vectors of the same covariance";
    columns.push(Column::null("dimension", unit, null, real(|d| d.local.null.dimension)));
    columns.push(Column::p_value("dimension", FEWER, real(|d| d.local.null.p_value)));
    let white = "white noise with as many rows";
    let ranks: Vec<_> = found.iter().map(|d| d.spectrum.rank).collect();
    let meaning = "exp of the entropy of the eigenvalues of the covariance";
    columns.extend(bootstrap_columns("effective_rank", unit, meaning, &ranks));
    let rank = real(|d| white_effective_rank(d.spectrum.whole.rows, d.spectrum.whole.dimensions));
    columns.push(Column::null("effective_rank", unit, white, rank));
    let ratios: Vec<_> = found.iter().map(|d| d.spectrum.ratio).collect();
    let meaning = "squared sum over sum of squares of the eigenvalues";
    columns.extend(bootstrap_columns("participation_ratio", unit, meaning, &ratios));
    let ratio = real(|d| white_participation_ratio(d.spectrum.whole.rows, d.spectrum.whole.dimensions));
    columns.push(Column::null("participation_ratio", unit, white, ratio));
    let method = "As many rows of each expert as of all tokens of its layer, as the router sends them; experts with fewer than 64, and vectors of which fewer than ten \
                  differ, are left out. Intrinsic dimension by two nearest neighbours. Does not show why: few different words fill few dimensions.";
    Ok(Table::new("expert_dimensions", "How many dimensions experts read and answer", method, columns)?)
}

/// In how many experts answers have fewer dimensions of nearest neighbours than a linear subspace, and the range beside the layer.
pub(super) fn finding(found: &[ExpertDimensions]) -> String {
    let answers = || found.iter().filter(|d| d.answers && d.expert.is_some());
    let middle = |of: &mut dyn Iterator<Item = f64>| {
        let mut all: Vec<f64> = of.collect();
        all.sort_unstable_by(f64::total_cmp);
        all.get(all.len() / 2).map_or_else(|| "no".into(), |middle| format!("{middle:.1}"))
    };
    let experts = middle(&mut answers().map(|d| d.local.found.dimension));
    let all = found.iter().filter(|d| d.answers && d.expert.is_none());
    let layers = middle(&mut all.map(|d| d.local.found.dimension));
    let curved = curved(&answers().map(|d| d.local).collect::<Vec<LayerDimension>>());
    format!(
        "Locally the answers of an expert fill {experts} dimensions, those of its layer {layers} (medians); in {curved} of {} fewer than a linear subspace",
        crate::wording::counted(answers().count(), "expert", "experts")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{normal, random_rotation};
    use moescope_base::{
        FeedForwardShape, Observation, SubjectError, SubjectShape, Tokens, ValueData, ValueError,
    };
    use rand::RngExt;

    const WIDTH: usize = 6;
    const POSITIONS: usize = 9;

    /// One routed block of three experts, one for each token, of which all vectors are told: of every document one expert's.
    struct Planted {
        shape: SubjectShape,
        /// `[token, WIDTH]`.
        input: Vec<f32>,
        answers: Vec<f32>,
    }

    /// The expert of a token: documents take turns.
    fn expert(token: usize) -> usize {
        (token / POSITIONS) % 2
    }

    impl Planted {
        /// Input and answer of each token by its expert and its number among those of that expert which are looked at.
        fn new(documents: usize, vectors: impl Fn(usize, usize) -> [[f32; WIDTH]; 2]) -> Planted {
            let routed = FeedForwardShape::Routed { experts: 3, per_token: 1, expert_width: 1 };
            let shape = SubjectShape {
                d_model: WIDTH,
                vocab: 2,
                heads: 1,
                head_dim: 1,
                feed_forward: vec![routed],
                options: Default::default(),
            };
            let (mut input, mut answers) = (Vec::new(), Vec::new());
            for token in 0..documents * POSITIONS {
                // The first token of each sequence is far from all others: whoever looks at it sees another number.
                let place = token % POSITIONS;
                let [read, answer] = match place {
                    0 => [[1000.0 * (token as f32 + 1.0); WIDTH]; 2],
                    _ => vectors(expert(token), token / POSITIONS / 2 * (POSITIONS - 1) + place - 1),
                };
                input.extend(read);
                answers.extend(answer);
            }
            Planted { shape, input, answers }
        }

        /// The same in another basis.
        fn turned(mut self) -> Planted {
            let rotation = random_rotation(WIDTH, Seed(8));
            for vectors in [&mut self.input, &mut self.answers] {
                let features = Features::from_single(WIDTH, vectors).unwrap();
                *vectors = features.rotate(&rotation).unwrap().to_single();
            }
            self
        }

        fn found(&mut self) -> Vec<ExpertDimensions> {
            let documents = self.input.len() / WIDTH / POSITIONS;
            let tokens = Tokens::new(vec![0; documents * POSITIONS], documents, POSITIONS).unwrap();
            of_experts(self, &[Sample::one_document_each(tokens, 0)], 0, &[0, 1, 2], Seed(1)).unwrap()
        }
    }

    impl Subject for Planted {
        fn shape(&self) -> &SubjectShape {
            &self.shape
        }

        fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
            let tokens = request.tokens;
            let value = |point: &HookPoint| -> Result<Value, ValueError> {
                let shape = vec![tokens.batch(), tokens.positions(), WIDTH];
                let data = match (point.site(), point.expert_index()) {
                    (Site::MlpIn, _) => self.input.clone(),
                    (_, None) => self.answers.clone(),
                    (_, Some(asked)) => {
                        let own: Vec<usize> =
                            (0..tokens.len()).filter(|token| expert(*token) == asked).collect();
                        let row = |token: &usize| &self.answers[token * WIDTH..][..WIDTH];
                        let data = own.iter().flat_map(row).copied().collect();
                        let rows = own.iter().map(|token| *token as u32).collect();
                        return Value::new(*point, vec![own.len(), WIDTH], ValueData::Real(data), Some(rows));
                    }
                };
                Value::new(*point, shape, ValueData::Real(data), None)
            };
            let values = request.record.iter().map(|point| (*point, value(point).unwrap())).collect();
            Ok(Observation { values, ..Observation::default() })
        }

        fn unembed(&mut self, _: &[f32]) -> Result<Vec<f32>, SubjectError> {
            Err(SubjectError::Input { reason: "the planted subject has no vocabulary".into() })
        }
    }

    fn of(found: &[ExpertDimensions], expert: Option<usize>, answers: bool) -> &ExpertDimensions {
        found.iter().find(|d| (d.expert, d.answers) == (expert, answers)).unwrap()
    }

    /// Two numbers of which all pairs of eight come once in 64 tokens; both have the same spread and go with nothing.
    fn square(number: usize) -> [f32; 2] {
        const SIDE: [f32; 8] = [-8.0, -4.5, -2.0, -1.0, 1.0, 2.0, 4.5, 8.0];
        [SIDE[number / 8 % 8], SIDE[number % 8]]
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-5
    }

    #[test]
    fn known_covariances_have_their_ranks_and_ratios_by_hand() {
        // Sixteen documents, eight of each expert, with eight tokens each that are looked at. Both experts read a square: two equal shares of the variance. The first
        // answers three times as far along one side: shares 9 / 10 and 1 / 10. The second answers a line.
        let mut planted = Planted::new(16, |expert, number| {
            let [u, v] = square(number);
            let answer = if expert == 0 { [3.0 * u, v] } else { [u + 20.0 * v, 0.0] };
            [[u, v, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, answer[0], 5.0, answer[1], 0.0]]
        });
        let found = planted.found();
        assert_eq!(found.len(), 6, "the third expert gets no token");
        for expert in [0, 1] {
            let read = of(&found, Some(expert), false);
            assert!(near(read.spectrum.ratio.estimate, 2.0) && near(read.spectrum.rank.estimate, 2.0));
            assert_eq!((read.spectrum.whole.rows, read.layer), (64, 0));
        }
        let answered = &of(&found, Some(0), true).spectrum;
        assert!(near(answered.ratio.estimate, 1.0 / 0.82), "{:?}", answered.ratio);
        let entropy = -(0.9_f64 * 0.9_f64.ln() + 0.1 * 0.1_f64.ln());
        assert!(near(answered.rank.estimate, entropy.exp()), "{:?}", answered.rank);
        assert!(answered.rank.low <= answered.rank.estimate && answered.rank.high >= answered.rank.estimate);
        assert_eq!(answered.rank.units, 8, "documents");
        let line = &of(&found, Some(1), true).spectrum;
        assert!(near(line.ratio.estimate, 1.0) && near(line.rank.estimate, 1.0), "{:?}", line.rank);
        let table = table(&found).unwrap();
        let number = |column: &str, row: usize| table.column(column).unwrap().data.number(row).unwrap();
        let row = (0..6)
            .find(|row| {
                let label = |column: &str| table.column(column).unwrap().data.label(*row);
                (label("whose"), label("of")) == ("block 0, expert 0".into(), "answers".into())
            })
            .unwrap();
        assert!(near(number("participation_ratio", row), 1.0 / 0.82) && number("rows", row) == 64.0);
    }

    /// Answers of the first expert fill a square, those of the second a cube of five sides; both read all six dimensions.
    fn cubes(documents: usize) -> Planted {
        let mut rng = Seed(2).rng();
        let drawn: Vec<[[f32; WIDTH]; 2]> = (0..documents * POSITIONS)
            .map(|_| {
                let read = std::array::from_fn(|_| normal(&mut rng) as f32);
                let answer = std::array::from_fn(|_| rng.random::<f32>());
                [read, answer]
            })
            .collect();
        Planted::new(documents, move |expert, number| {
            let [read, mut answer] = drawn[2 * number + expert];
            answer[if expert == 0 { 2 } else { 5 }..].fill(0.5);
            [read, answer]
        })
    }

    #[test]
    fn planted_dimensions_are_found_in_answers_and_in_what_is_read() {
        let found = cubes(64).found();
        let local = |expert: usize, answers: bool| of(&found, Some(expert), answers).local.found;
        let (two, five) = (local(0, true), local(1, true));
        assert!(two.low < 2.0 && two.high > 1.9 && two.high < five.low, "{two:?} {five:?}");
        assert!(five.low < 5.0 && five.high > 4.3, "{five:?}");
        for (expert, sides) in [(0, 2.0), (1, 5.0)] {
            let spectrum = &of(&found, Some(expert), true).spectrum;
            assert!((spectrum.ratio.estimate - sides).abs() < 0.1 * sides, "{:?}", spectrum.ratio);
            assert!(of(&found, Some(expert), false).spectrum.ratio.estimate > 5.0);
            // A cube is no more curved than a Gaussian, and is not told as if it were.
            let told = of(&found, Some(expert), true).local;
            assert!(told.null.p_value > 0.05, "{told:?}");
        }
        assert_eq!(of(&found, Some(0), true).spectrum.whole.rows, ROWS);
        assert!(
            finding(&found).ends_with("in 0 of 2 experts fewer than a linear subspace"),
            "{}",
            finding(&found)
        );
    }

    #[test]
    fn a_turned_basis_changes_nothing() {
        let (plain, turned) = (cubes(32).found(), cubes(32).turned().found());
        assert_eq!(plain.len(), turned.len());
        for (own, other) in plain.iter().zip(&turned) {
            assert_eq!((own.expert, own.answers), (other.expert, other.answers));
            let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-3 * b, "{a} {b}");
            near(own.local.found.dimension, other.local.found.dimension);
            near(own.local.null.dimension, other.local.null.dimension);
            near(own.spectrum.rank.estimate, other.spectrum.rank.estimate);
            near(own.spectrum.ratio.high, other.spectrum.ratio.high);
        }
    }

    #[test]
    fn experts_of_few_tokens_and_vectors_that_do_not_vary_are_left_out() {
        // Fourteen documents: seven of each expert, with 56 tokens; all together there are 112.
        let found = cubes(14).found();
        assert!(found.iter().all(|d| d.expert.is_none()) && found.len() == 2);
        let mut still = Planted::new(16, |expert, number| {
            let [u, v] = square(number);
            let answer = if expert == 0 { 1.0 } else { u };
            [[u, v, 0.0, 0.0, 0.0, 0.0], [answer, v * expert as f32, 0.0, 0.0, 0.0, 0.0]]
        });
        let found = still.found();
        assert!(found.iter().all(|d| (d.expert, d.answers) != (Some(0), true)));
        assert!(found.iter().any(|d| (d.expert, d.answers) == (Some(1), true)));
    }
}
