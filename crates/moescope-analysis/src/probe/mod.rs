//! Probe: whether a label can be read linearly from a representation.

mod description_length;
mod folds;
mod logistic;
mod minimise;
mod outcome;
mod report;

use moescope_base::Seed;
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::matrix::Features;
use crate::statistics::Bootstrap;
use crate::{AnalysisError, check};

pub(crate) use folds::{Fold, folds_by_document};
pub(crate) use logistic::{Classifier, Penalty};
use outcome::{Outcome, Verdict, judge};

pub use description_length::{DescriptionLength, description_length, length_table};
pub use report::table;

/// What to read, and from where. All lists have one entry for each token.
#[derive(Clone, Copy, Debug)]
pub struct ProbeTask<'a> {
    /// Representation: `[token, coordinate]`.
    pub features: &'a Features,
    /// Class of each token, below `classes`.
    pub labels: &'a [u32],
    /// Number of classes.
    pub classes: usize,
    /// Document of each token; no document is in training and test at once.
    pub documents: &'a [u32],
    /// Type of each token, usually its id; the control task gives every type a random label.
    pub types: &'a [u32],
}

/// How to fit and judge the probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeOptions {
    /// Folds of the cross-validation, at least 2; 5 is usual.
    pub folds: usize,
    /// Ridge penalty on the weights (not on the bias), relative to the mean loss; 0.001 is weak.
    pub penalty: f64,
    /// Control tasks to average over.
    pub controls: usize,
    /// Bootstrap replicates of the intervals.
    pub replicates: usize,
    /// Source of folds, control labels and replicates.
    pub seed: Seed,
}

/// How well a linear probe reads a label on held-out documents.
///
/// - **Unit and range:** `accuracy`, `control`, `majority` are shares of tokens; `selectivity` is accuracy − control, −1 to 1;
///   `log_likelihood` is the mean log-probability of the true class in nats, at most 0.
/// - **Null:** `majority`: always the most frequent class of the judged tokens, at least one in as many as there are classes. For selectivity, 0: the probe reads the label
///   no better than labels drawn at random for each token type, which only a memory of types can give.
/// - **Does not show:** that the model uses what the probe reads.
/// - **Source:** Alain and Bengio 2016; control tasks and selectivity: Hewitt and Liang 2019.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Accuracy on held-out documents, interval over documents.
    pub accuracy: Bootstrap,
    /// Accuracy on the control tasks, mean over them.
    pub control: f64,
    /// Accuracy − control, interval over documents.
    pub selectivity: Bootstrap,
    /// Share of the most frequent class among the judged tokens: the best that a constant answer can be, told in hindsight.
    pub majority: f64,
    /// Mean log-probability of the true class.
    pub log_likelihood: f64,
    /// The same for the frequencies of the classes among the judged tokens, told in hindsight.
    pub log_likelihood_null: f64,
    /// Tokens judged.
    pub tokens: usize,
}

/// Fits the probe on all folds but one, judges it on that one, for the task and for its controls.
///
/// The result does not depend on the number of threads.
///
/// # Errors
/// If a list has another length than the features, a label is out of range, there are fewer documents than folds,
/// or an option is out of range.
pub fn probe(task: ProbeTask<'_>, options: ProbeOptions) -> Result<Probe, AnalysisError> {
    refuse_bad_input(&task, &options)?;
    let folds = folds_by_document(task.documents, task.labels, options.folds, options.seed.child("folds"));
    let controls = (0..options.controls as u64)
        .map(|repeat| control_labels(&task, options.seed.child("control").index(repeat)));
    let label_sets: Vec<Vec<u32>> = std::iter::once(task.labels.to_vec()).chain(controls).collect();
    let jobs: Vec<(usize, usize)> =
        (0..label_sets.len()).flat_map(|set| (0..folds.len()).map(move |fold| (set, fold))).collect();
    let penalty = Penalty { classes: task.classes, ridge: options.penalty };
    let verdicts: Vec<Vec<Verdict>> = jobs
        .par_iter()
        .map(|(set, fold)| judge(task.features, &label_sets[*set], &folds[*fold], penalty))
        .collect();
    let mut outcome = Outcome::empty(task.labels.len());
    for ((set, fold), verdicts) in jobs.iter().zip(&verdicts) {
        outcome.enter(*set, options.controls, &folds[*fold].test, verdicts);
    }
    outcome.summarise((task.labels, task.classes), task.documents, &options)
}

/// How often one fit of a probe on all tokens evaluates its objective: what it costs.
///
/// - **Unit:** evaluations, each of two products of `[class, coordinate + 1]` with all tokens, one for the loss and one for its gradient.
/// - **Does not show:** the cost of [`probe`], which fits once for each fold of the task and of its controls, on the tokens of the other folds.
///
/// # Errors
/// As [`probe`].
pub fn fitting_evaluations(task: ProbeTask<'_>, options: ProbeOptions) -> Result<usize, AnalysisError> {
    refuse_bad_input(&task, &options)?;
    let all: Vec<usize> = (0..task.labels.len()).collect();
    let penalty = Penalty { classes: task.classes, ridge: options.penalty };
    Ok(Classifier::fit(task.features, task.labels, &all, penalty).evaluations())
}

fn refuse_bad_input(task: &ProbeTask<'_>, options: &ProbeOptions) -> Result<(), AnalysisError> {
    let method = "probe";
    let tokens = task.features.tokens();
    check::same_length(method, "list of labels", task.labels.len(), tokens)?;
    check::same_length(method, "list of documents", task.documents.len(), tokens)?;
    check::same_length(method, "list of types", task.types.len(), tokens)?;
    let largest = task.labels.iter().copied().max().unwrap_or(0);
    let below = format!("below the number of classes, {}", task.classes);
    check::in_range(method, "largest label", largest, (largest as usize) < task.classes, &below)?;
    check::in_range(method, "number of classes", task.classes, task.classes >= 2, "at least 2")?;
    check::in_range(method, "number of folds", options.folds, options.folds >= 2, "at least 2")?;
    check::in_range(method, "number of controls", options.controls, options.controls >= 1, "at least 1")?;
    let positive = options.penalty > 0.0 && options.penalty.is_finite();
    check::in_range(method, "penalty", options.penalty, positive, "a positive number")?;
    let mut documents = task.documents.to_vec();
    documents.sort_unstable();
    documents.dedup();
    check::at_least(method, "documents", documents.len(), options.folds)
}

/// A label for each token that depends on its type alone, drawn with the frequencies of the true labels.
fn control_labels(task: &ProbeTask<'_>, seed: Seed) -> Vec<u32> {
    let mut types = task.types.to_vec();
    types.sort_unstable();
    types.dedup();
    let mut rng = seed.rng();
    // The label of a token drawn at random has the frequencies of the labels; sorted, so that the order of the documents decides nothing.
    let mut labels = task.labels.to_vec();
    labels.sort_unstable();
    let drawn: Vec<u32> = types.iter().map(|_| labels[rng.random_range(0..labels.len())]).collect();
    let label = |kind: &u32| drawn[types.binary_search(kind).expect("every type is in the list of types")];
    task.types.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{normal, random_rotation};

    const OPTIONS: ProbeOptions =
        ProbeOptions { folds: 5, penalty: 1e-2, controls: 2, replicates: 200, seed: Seed(3) };

    struct Planted {
        features: Features,
        labels: Vec<u32>,
        documents: Vec<u32>,
        types: Vec<u32>,
    }

    impl Planted {
        fn task(&self) -> ProbeTask<'_> {
            let Planted { features, labels, documents, types } = self;
            ProbeTask { features, labels, classes: 3, documents, types }
        }
    }

    /// 30 documents of 20 tokens. The label is that of the document; `signal` says how far it moves the features, and
    /// `memory` how far the type of the token does.
    fn planted(signal: f64, memory: f64, seed: u64) -> Planted {
        let (tokens, width) = (600, 12);
        let mut rng = Seed(seed).rng();
        let documents: Vec<u32> = (0..tokens).map(|t| t / 20).collect();
        let label_of: Vec<u32> = (0..30).map(|_| rng.random_range(0..3)).collect();
        let labels: Vec<u32> = documents.iter().map(|d| label_of[*d as usize]).collect();
        let types: Vec<u32> = (0..tokens).map(|_| rng.random_range(0..8)).collect();
        let mut values = Vec::new();
        for token in 0..tokens as usize {
            for coordinate in 0..width {
                let label = if coordinate == labels[token] as usize { signal } else { 0.0 };
                let kind = if coordinate == 3 + types[token] as usize { memory } else { 0.0 };
                values.push(label + kind + normal(&mut rng));
            }
        }
        Planted { features: Features::new(width, &values).unwrap(), labels, documents, types }
    }

    #[test]
    fn one_token_that_lies_on_the_other_side_is_missed_by_hand() {
        // Four documents with both labels twice each; the sign of the one coordinate is the label, but for one token of sixteen. Whichever two
        // documents are learned from, at most one of their eight tokens is on the wrong side, so that the sign decides: 15 of 16 are right.
        let labels: Vec<u32> = (0..16).map(|token| token % 2).collect();
        let documents: Vec<u32> = (0..16).map(|token| token / 4).collect();
        let values: Vec<f64> =
            (0..16).map(|token| if (token % 2 == 1) != (token == 6) { 1.0 } else { -1.0 }).collect();
        let features = Features::new(1, &values).unwrap();
        let options = ProbeOptions { folds: 2, ..OPTIONS };
        // One type for all tokens has one label, which is known everywhere.
        let task = ProbeTask {
            features: &features,
            labels: &labels,
            classes: 2,
            documents: &documents,
            types: &[7; 16],
        };
        let found = probe(task, options).unwrap();
        assert_eq!((found.accuracy.estimate, found.control), (15.0 / 16.0, 1.0));
        assert!((found.selectivity.estimate + 1.0 / 16.0).abs() < 1e-12, "{found:?}");
        // Both labels are as frequent in every part: the first counts as the most frequent, and each has a probability of 5 / 10.
        assert_eq!(found.majority, 0.5);
        assert!((found.log_likelihood_null - 0.5_f64.ln()).abs() < 1e-12);
        assert!(found.log_likelihood > found.log_likelihood_null && found.log_likelihood < 0.0);
        // Without the exception all are right.
        let values: Vec<f64> = labels.iter().map(|label| 2.0 * f64::from(*label) - 1.0).collect();
        let clear = Features::new(1, &values).unwrap();
        assert_eq!(probe(ProbeTask { features: &clear, ..task }, options).unwrap().accuracy.estimate, 1.0);
        // A coordinate that tells nothing leaves the first of two labels: half are right.
        let flat = Features::new(1, &[3.0; 16]).unwrap();
        let found = probe(ProbeTask { features: &flat, ..task }, options).unwrap();
        assert_eq!((found.accuracy.estimate, found.selectivity.estimate), (0.5, -0.5));
    }

    #[test]
    fn the_names_of_labels_types_and_documents_do_not_matter() {
        let base = planted(2.0, 0.0, 9);
        let plain = probe(base.task(), OPTIONS).unwrap();
        let documents: Vec<u32> = base.documents.iter().map(|document| 7 * document + 3).collect();
        let types: Vec<u32> = base.types.iter().map(|kind| 100 + 5 * kind).collect();
        let renamed =
            probe(ProbeTask { documents: &documents, types: &types, ..base.task() }, OPTIONS).unwrap();
        assert_eq!(plain, renamed);
        // Other names of labels deal documents to other folds.
        let labels: Vec<u32> = base.labels.iter().map(|label| 2 - label).collect();
        let renamed = probe(ProbeTask { labels: &labels, ..base.task() }, OPTIONS).unwrap();
        assert!((renamed.accuracy.estimate - plain.accuracy.estimate).abs() < 0.05, "{plain:?} {renamed:?}");
        assert!((renamed.log_likelihood - plain.log_likelihood).abs() < 0.1);
    }

    #[test]
    fn a_planted_label_is_read_from_documents_never_seen() {
        let found = probe(planted(4.0, 0.0, 1).task(), OPTIONS).unwrap();
        assert!(found.accuracy.low > 0.9, "{found:?}");
        assert!(found.selectivity.low > 0.3 && found.control < 0.55);
        assert!(found.majority < 0.6 && found.log_likelihood > found.log_likelihood_null);
        assert_eq!((found.tokens, found.accuracy.units), (600, 30));
    }

    #[test]
    fn a_fit_with_nothing_to_learn_looks_once_and_another_goes_on() {
        let mut flat = planted(0.0, 0.0, 1);
        flat.features = Features::new(12, &[1.0; 12 * 600]).unwrap();
        flat.labels = (0..600).map(|token| token % 3).collect();
        assert_eq!(fitting_evaluations(flat.task(), OPTIONS).unwrap(), 1);
        let evaluations = fitting_evaluations(planted(2.0, 0.0, 1).task(), OPTIONS).unwrap();
        assert!((5..=200).contains(&evaluations), "{evaluations}");
    }

    #[test]
    fn noise_is_read_no_better_than_the_most_frequent_class() {
        let found = probe(planted(0.0, 0.0, 2).task(), OPTIONS).unwrap();
        assert!(found.accuracy.low < found.majority + 0.02, "{found:?}");
        assert!(found.selectivity.low < 0.1 && found.log_likelihood < found.log_likelihood_null + 0.02);
    }

    #[test]
    fn what_is_noise_seldom_looks_accurate_or_selective() {
        let options = ProbeOptions { controls: 2, replicates: 100, ..OPTIONS };
        let found: Vec<Probe> = (0..200)
            .into_par_iter()
            .map(|seed| probe(planted(0.0, 0.0, 50 + seed).task(), options).unwrap())
            .collect();
        // One end of a 95 % interval, over 30 documents: 2.5 % of 200, and 15 or more in less than one of a thousand cases.
        let accurate = found.iter().filter(|found| found.accuracy.low > found.majority).count();
        let selective = found.iter().filter(|found| found.selectivity.low > 0.0).count();
        assert!(accurate < 15 && selective < 15, "{accurate} and {selective} of 200");
    }

    #[test]
    fn domains_in_name_alone_of_documents_of_unequal_length_seldom_look_read() {
        let called = |seed: &u64| {
            let mut rng = Seed(*seed).child("unequal").rng();
            let mut lists = [vec![], vec![], vec![]];
            let mut values = Vec::new();
            for document in 0..36_u32 {
                // As many documents of each of six domains, some of them ten times as long as others.
                for _ in 0..rng.random_range(4..40) {
                    let of_token = [document % 6, document, rng.random_range(0..30)];
                    lists.iter_mut().zip(of_token).for_each(|(list, of)| list.push(of));
                    values.extend((0..5).map(|_| normal(&mut rng)));
                }
            }
            let [labels, documents, types] = &lists;
            let features = Features::new(5, &values).unwrap();
            let task = ProbeTask { features: &features, labels, classes: 6, documents, types };
            let found = probe(task, ProbeOptions { folds: 3, replicates: 100, ..OPTIONS }).unwrap();
            found.accuracy.low > found.majority
        };
        let called = (0..200).into_par_iter().filter(called).count();
        assert!(called < 15, "{called} of 200");
    }

    #[test]
    fn a_memory_of_types_is_exposed_by_the_control_task() {
        let found = probe(planted(0.0, 6.0, 4).task(), OPTIONS).unwrap();
        assert!(found.control > 0.9, "{found:?}");
        assert!(found.selectivity.high < 0.0);
    }

    #[test]
    fn a_document_that_only_its_own_features_name_cannot_be_read() {
        // Every document has a direction of its own: within documents the label could be learned by heart.
        let base = planted(0.0, 0.0, 5);
        let values: Vec<f64> = base
            .documents
            .iter()
            .flat_map(|d| (0..30).map(move |c| if c == *d { 5.0 } else { 0.0 }))
            .collect();
        let features = Features::new(30, &values).unwrap();
        let found = probe(ProbeTask { features: &features, ..base.task() }, OPTIONS).unwrap();
        assert!(found.accuracy.low <= found.majority + 0.05, "{found:?}");
    }

    #[test]
    fn a_rotation_keeps_most_and_scale_keeps_all() {
        let base = planted(2.0, 0.0, 6);
        let plain = probe(base.task(), OPTIONS).unwrap();
        let scaled = base.features.rotate(&(nalgebra::DMatrix::identity(12, 12) * 50.0)).unwrap();
        let scaled = probe(ProbeTask { features: &scaled, ..base.task() }, OPTIONS).unwrap();
        assert!((scaled.log_likelihood - plain.log_likelihood).abs() < 1e-4);
        let rotated = base.features.rotate(&random_rotation(12, Seed(1))).unwrap();
        let rotated = probe(ProbeTask { features: &rotated, ..base.task() }, OPTIONS).unwrap();
        assert!((rotated.accuracy.estimate - plain.accuracy.estimate).abs() < 0.02);
    }

    #[test]
    fn threads_do_not_matter() {
        let base = planted(1.0, 1.0, 7);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(
            pool.install(|| probe(base.task(), OPTIONS).unwrap()),
            probe(base.task(), OPTIONS).unwrap()
        );
    }

    #[test]
    fn bad_input_is_refused_with_its_name() {
        let base = planted(1.0, 0.0, 8);
        let message = |task, options| probe(task, options).unwrap_err().to_string();
        assert!(message(ProbeTask { labels: &[0; 5], ..base.task() }, OPTIONS).contains("list of labels"));
        assert!(message(ProbeTask { classes: 2, ..base.task() }, OPTIONS).contains("largest label"));
        assert!(message(base.task(), ProbeOptions { folds: 31, ..OPTIONS }).contains("documents"));
        assert!(message(base.task(), ProbeOptions { penalty: 0.0, ..OPTIONS }).contains("penalty"));
        let table =
            table("probe", "Probe", &[("label".into(), probe(base.task(), OPTIONS).unwrap())]).unwrap();
        assert_eq!(table.column("selectivity_null").unwrap().data.number(0), Some(0.0));
    }
}
