//! Calibration: whether tokens that are predicted with confidence p come true a share p of the time.

mod gives;

use moescope_base::{Column, Figure, FigureKind, HookPoint, Request, Seed, Site, Subject, Table};
use rand::RngExt;
use rayon::prelude::*;

use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::next_token::surest;
use crate::statistics::{Bootstrap, Resampling, bootstrap};
use crate::{AnalysisError, Sample, check};

/// Groups of predictions of equal size, ordered by confidence.
const BINS: usize = 15;

/// The most probable next token of every position, and whether it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Probability of the most probable token, from 1 / vocabulary to 1: `[prediction]`.
    pub confidence: Vec<f64>,
    /// Whether it was the next one: `[prediction]`.
    pub correct: Vec<bool>,
    /// Document of each: `[prediction]`.
    pub documents: Vec<u32>,
}

/// How far confidence and truth are apart.
///
/// - **Unit and range:** `error` is the mean distance of confidence and accuracy over groups of equal size, from 0 to 1.
/// - **Null:** the same confidences with outcomes drawn at exactly these probabilities: finite groups are never perfectly even, so
///   a perfectly calibrated model does not score 0.
/// - **Does not show:** calibration of any token but the most probable, nor whether confidence is *useful*: a model that always
///   states the share of the most frequent token is calibrated.
/// - **Source:** expected calibration error of Guo et al. 2017, with groups of equal size (Nixon et al. 2019).
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Expected calibration error; the interval is over documents and does not correct the bias that the null shows.
    pub error: Bootstrap,
    /// Mean error of perfectly calibrated outcomes.
    pub null: f64,
    /// Their 95 % quantile: an error below it is no sign of miscalibration.
    pub null_high: f64,
    /// Share of predictions that came true.
    pub accuracy: f64,
    /// Mean confidence; above the accuracy: overconfident.
    pub confidence: f64,
    /// Groups, the least confident first.
    pub bins: Vec<Bin>,
}

/// Predictions of similar confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Mean confidence.
    pub confidence: f64,
    /// Share that came true.
    pub accuracy: f64,
    /// Predictions.
    pub count: usize,
}

/// Asks the subject for its prediction at every position that has a next token.
///
/// # Errors
/// If the subject cannot answer or leaves out its logits.
pub fn predictions(subject: &mut dyn Subject, samples: &[Sample]) -> Result<Predictions, AnalysisError> {
    let point = HookPoint::global(Site::Logits);
    let vocabulary = subject.shape().vocab;
    let mut found = Predictions::default();
    for sample in samples {
        let tokens = sample.tokens();
        let observation = subject.run(&Request::recording(tokens, &[point]))?;
        let logits = observation.values.get(&point).and_then(|value| value.real());
        let logits = logits.ok_or(AnalysisError::NotRecorded { point })?;
        let asked: Vec<usize> =
            (0..tokens.len()).filter(|t| !(t + 1).is_multiple_of(tokens.positions())).collect();
        let best: Vec<(f64, bool)> = asked
            .par_iter()
            .map(|token| {
                let (best, probability) = surest(&logits[token * vocabulary..(token + 1) * vocabulary]);
                (probability, best == tokens.ids()[token + 1])
            })
            .collect();
        found.confidence.extend(best.iter().map(|(probability, _)| probability));
        found.correct.extend(best.iter().map(|(_, correct)| correct));
        found.documents.extend(asked.iter().map(|token| sample.documents()[*token]));
    }
    Ok(found)
}

/// Measures the calibration of predictions.
///
/// # Errors
/// If there are fewer predictions than groups, fewer than two documents, or a confidence is no probability.
pub fn calibration(
    predictions: &Predictions,
    draws: usize,
    seed: Seed,
    resampling: Resampling,
) -> Result<Calibration, AnalysisError> {
    let method = "calibration";
    let Predictions { confidence, correct, documents } = predictions;
    check::at_least(method, "predictions", confidence.len(), BINS)?;
    check::at_least(method, "draws", draws, 1)?;
    check::same_length(method, "list of outcomes", correct.len(), confidence.len())?;
    check::same_length(method, "list of documents", documents.len(), confidence.len())?;
    let odd = confidence.iter().copied().find(|p| !(0.0..=1.0).contains(p));
    check::in_range(method, "confidence", odd.unwrap_or(0.0), odd.is_none(), "from 0 to 1")?;
    let outcome: Vec<f64> = correct.iter().map(|correct| f64::from(u8::from(*correct))).collect();
    let edges = Edges::new(confidence);
    let mut names = documents.clone();
    names.sort_unstable();
    names.dedup();
    let sums = edges.sums_by(
        confidence,
        &outcome,
        |i| names.binary_search(&documents[i]).expect("a document of the list"),
        names.len(),
    );
    let error = bootstrap(names.len(), |drawn| expected_error(&total(&sums, drawn)), resampling)?;
    let mut nulls: Vec<f64> = (0..draws)
        .into_par_iter()
        .map(|draw| {
            let mut rng = seed.index(draw as u64).rng();
            let drawn: Vec<f64> =
                confidence.iter().map(|p| f64::from(u8::from(rng.random::<f64>() < *p))).collect();
            expected_error(&edges.sums_by(confidence, &drawn, |_| 0, 1)[0])
        })
        .collect();
    nulls.sort_by(f64::total_cmp);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let everything: Vec<usize> = (0..names.len()).collect();
    let bin = |sum: &BinSum| Bin {
        confidence: sum.confidence / sum.count,
        accuracy: sum.correct / sum.count,
        count: sum.count as usize,
    };
    Ok(Calibration {
        error,
        null: mean(&nulls),
        null_high: nulls[((nulls.len() as f64 * 0.95) as usize).min(nulls.len() - 1)],
        accuracy: mean(&outcome),
        confidence: mean(confidence),
        bins: total(&sums, &everything).iter().filter(|sum| sum.count > 0.0).map(bin).collect(),
    })
}

/// Group of each prediction: groups are of equal size, by rank of confidence.
struct Edges {
    bin: Vec<usize>, // [prediction]
}

/// Sums over the predictions of one group.
#[derive(Clone, Copy, Debug, Default)]
struct BinSum {
    confidence: f64,
    correct: f64,
    count: f64,
}

impl Edges {
    fn new(confidence: &[f64]) -> Edges {
        let mut order: Vec<usize> = (0..confidence.len()).collect();
        order.sort_by(|a, b| confidence[*a].total_cmp(&confidence[*b]).then(a.cmp(b)));
        let mut bin = vec![0; order.len()];
        for (rank, prediction) in order.iter().enumerate() {
            bin[*prediction] = rank * BINS / order.len();
        }
        Edges { bin }
    }

    /// Sums of each unit in each group: `[unit][group]`.
    fn sums_by(
        &self,
        confidence: &[f64],
        outcome: &[f64],
        unit: impl Fn(usize) -> usize,
        units: usize,
    ) -> Vec<[BinSum; BINS]> {
        let mut sums = vec![[BinSum::default(); BINS]; units];
        for (i, bin) in self.bin.iter().enumerate() {
            let sum = &mut sums[unit(i)][*bin];
            sum.confidence += confidence[i];
            sum.correct += outcome[i];
            sum.count += 1.0;
        }
        sums
    }
}

/// Sums over some units, repeats included.
fn total(sums: &[[BinSum; BINS]], units: &[usize]) -> [BinSum; BINS] {
    let mut all = [BinSum::default(); BINS];
    for unit in units {
        for (all, of_unit) in all.iter_mut().zip(&sums[*unit]) {
            all.confidence += of_unit.confidence;
            all.correct += of_unit.correct;
            all.count += of_unit.count;
        }
    }
    all
}

/// Mean distance of confidence and accuracy, each group weighing as many predictions as it has.
fn expected_error(bins: &[BinSum; BINS]) -> f64 {
    let predictions: f64 = bins.iter().map(|bin| bin.count).sum();
    bins.iter().map(|bin| (bin.confidence - bin.correct).abs()).sum::<f64>() / predictions
}

impl Calibration {
    /// One row: the error with its interval and null.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let unit = "probability";
        let mut columns = vec![Column::estimate(
            "error",
            unit,
            "mean distance of confidence and accuracy",
            vec![self.error.estimate],
        )];
        let (low, high) = (vec![self.error.low], vec![self.error.high]);
        columns.extend(Column::interval("error", unit, "95 % bootstrap interval over documents", low, high));
        columns.push(Column::observations("error", "documents", vec![self.error.units as i64]));
        columns.push(Column::null(
            "error",
            unit,
            "outcomes drawn at the stated probabilities",
            vec![self.null],
        ));
        columns.extend([
            Column::estimate("error_allowed", unit, "95 % quantile of that null", vec![self.null_high]),
            Column::estimate(
                "accuracy",
                "share of predictions",
                "the most probable token came",
                vec![self.accuracy],
            ),
            Column::estimate(
                "confidence",
                unit,
                "mean probability of the most probable token",
                vec![self.confidence],
            ),
        ]);
        let method = "Most probable token of every position; 15 groups of equal size by confidence. Does not show calibration of the other tokens.";
        Ok(Table::new("calibration", "How far confidence is from truth", method, columns)?)
    }

    /// One row for each group.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn by_confidence(&self) -> Result<Table, AnalysisError> {
        let of = |pick: fn(&Bin) -> f64| self.bins.iter().map(pick).collect::<Vec<f64>>();
        let columns = vec![
            Column::integer_key(
                "group",
                "",
                "the least confident is 1",
                (1..=self.bins.len() as i64).collect(),
            ),
            Column::estimate("confidence", "probability", "mean of the group", of(|bin| bin.confidence)),
            Column::estimate(
                "accuracy",
                "share of predictions",
                "the most probable token came",
                of(|bin| bin.accuracy),
            ),
            Column::count(
                "predictions",
                "",
                "in the group",
                self.bins.iter().map(|bin| bin.count as i64).collect(),
            ),
        ];
        Ok(Table::new(
            "calibration_groups",
            "Confidence and truth by confidence",
            "Groups of equal size.",
            columns,
        )?)
    }
}

/// The instrument `calibration`.
pub struct CalibrationError;

const OFF: Reading = Reading {
    says: "confidence is off",
    table: "calibration",
    rows: &[],
    value: "error",
    rule: Rule::Exceeds("error_allowed"),
};

const PROMISES: &[Promise] =
    &[Promise::finds(Property::Overconfidence, OFF), Promise::is_silent(Property::TruePredictions, OFF)];

impl Instrument for CalibrationError {
    fn about(&self) -> About {
        About {
            name: "calibration",
            group: Group::Practice,
            question: "Do tokens that are predicted with confidence p come a share p of the time?",
            null: "outcomes drawn at exactly the stated probabilities",
            does_not_show: "calibration of any token but the most probable",
            source: "expected calibration error, Guo et al. 2017; groups of equal size, Nixon et al. 2019",
            passes: "one for each batch of an excerpt",
            routed: false,
            gives: gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (samples, seed) = (material.samples()?, material.seed.child("calibrated outcomes"));
        let (draws, resampling) = (material.permutations, material.resampling("calibration"));
        let found = calibration(&predictions(material.subject, &samples)?, draws, seed, resampling)?;
        let figure = Figure {
            id: "calibration".into(),
            title: finding(&found),
            caption:
                "Mean confidence and accuracy of groups of equal size; a calibrated model lies on the line."
                    .into(),
            table: "calibration_groups".into(),
            kind: FigureKind::Scatter {
                x: "confidence".into(),
                y: "accuracy".into(),
                series: None,
                diagonal: true,
            },
        };
        Ok(Finding { tables: vec![found.table()?, found.by_confidence()?], figures: vec![figure] })
    }
}

/// Verdict in words.
fn finding(found: &Calibration) -> String {
    let (confidence, accuracy) = (100.0 * found.confidence, 100.0 * found.accuracy);
    match (found.error.estimate <= found.null_high, found.confidence > found.accuracy) {
        (true, _) => format!(
            "Confidence is not further from truth than chance makes it (mean {confidence:.1} %, true {accuracy:.1} %)"
        ),
        (false, true) => format!("Overconfident: {confidence:.1} % stated on average, {accuracy:.1} % true"),
        (false, false) => {
            format!("Underconfident: {confidence:.1} % stated on average, {accuracy:.1} % true")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::BootstrapMethod;
    use proptest::prelude::*;

    const RESAMPLING: Resampling =
        Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(3) };

    /// Predictions whose outcomes come with the probability that `truth` makes of the confidence.
    fn planted(seed: u64, truth: fn(f64) -> f64) -> Predictions {
        let mut rng = Seed(seed).rng();
        let confidence: Vec<f64> = (0..3000).map(|_| rng.random_range(0.1..0.95)).collect();
        let correct = confidence.iter().map(|p| rng.random::<f64>() < truth(*p)).collect();
        Predictions { confidence, correct, documents: (0..3000).map(|i| i / 60).collect() }
    }

    fn run(predictions: &Predictions) -> Calibration {
        calibration(predictions, 99, Seed(2), RESAMPLING).unwrap()
    }

    #[test]
    fn a_hand_worked_error() {
        // Fifteen predictions of 0.6, each a group: 9 true at a distance of 0.4, 6 false at 0.6.
        let correct = (0..15).map(|i| i < 9).collect();
        let documents = (0..15).collect();
        let found = run(&Predictions { confidence: vec![0.6; 15], correct, documents });
        assert!((found.error.estimate - (9.0 * 0.4 + 6.0 * 0.6) / 15.0).abs() < 1e-12);
        assert!((found.accuracy - found.confidence).abs() < 1e-12);
    }

    #[test]
    fn overconfidence_is_found_and_named() {
        let found = run(&planted(1, |p| p * 0.8));
        assert!(found.error.low > found.null_high, "{found:?}");
        assert!(finding(&found).starts_with("Overconfident"));
        let found = run(&planted(1, |p| (p * 1.2).min(1.0)));
        assert!(finding(&found).starts_with("Underconfident"));
    }

    #[test]
    fn what_is_calibrated_is_called_miscalibrated_as_often_as_stated() {
        let beyond = (0..200).filter(|seed| {
            let found = run(&planted(*seed, |p| p));
            found.error.estimate > found.null_high
        });
        // 5 % of 200 are 10; more than 20 come once in a thousand times.
        let beyond = beyond.count();
        assert!(beyond <= 20, "{beyond} of 200");
    }

    proptest! {
        #[test]
        fn the_order_of_predictions_does_not_matter(turn in 1usize..2999) {
            let straight = planted(4, |p| p);
            let mut turned = straight.clone();
            turned.confidence.rotate_left(turn);
            turned.correct.rotate_left(turn);
            turned.documents.rotate_left(turn);
            let (a, b) = (run(&straight), run(&turned));
            prop_assert!((a.error.estimate - b.error.estimate).abs() < 1e-12);
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let few = Predictions { confidence: vec![0.5; 3], correct: vec![true; 3], documents: vec![0; 3] };
        assert!(calibration(&few, 9, Seed(1), RESAMPLING).is_err());
        let odd = Predictions {
            confidence: vec![f64::NAN; 20],
            correct: vec![true; 20],
            documents: (0..20).collect(),
        };
        assert!(calibration(&odd, 9, Seed(1), RESAMPLING).is_err());
    }
}
