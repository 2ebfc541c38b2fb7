//! How many dimensions fill what an expert reads and answers, beside its layer.

use moescope_base::{Column, HookPoint, Request, Seed, Site, Subject, Table, Value, row_tokens};

use crate::intrinsic_dimension::{LayerDimension, of_layer};
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
            let local = told(of_layer(layer, &Features::from_single(width, &data)?, seed))?;
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
        let seen = subject.run(&Request { record: &record, ..Request::of(sample.tokens()) })?;
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
    columns.extend(Column::interval("dimension", unit, "95 %, tokens taken as independent", low, high));
    columns.push(Column::observations("dimension", "different vectors", count(|d| d.local.found.vectors)));
    let null = "Gaussian vectors of the same covariance";
    columns.push(Column::null("dimension", unit, null, real(|d| d.local.null.dimension)));
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
    let curved = answers().filter(|d| d.local.found.high < d.local.null.low).count();
    format!(
        "Locally the answers of an expert fill {experts} dimensions, those of its layer {layers} (medians); in {curved} of {} fewer than a linear subspace",
        crate::wording::counted(answers().count(), "expert", "experts")
    )
}
