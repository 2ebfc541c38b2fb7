//! Agreement of two models: correlation of their losses token by token, and overlap of their errors.

use moescope_base::{Column, Table};
use serde::{Deserialize, Serialize};

use crate::statistics::{Bootstrap, Resampling, cluster_bootstrap, pearson};
use crate::tabulate::{bootstrap_columns, labels};
use crate::{AnalysisError, check};

/// What one model did on every token.
#[derive(Clone, Copy, Debug)]
pub struct Predictions<'a> {
    /// Next-token loss in nats: `loss[token]`.
    pub loss: &'a [f64],
    /// Whether the most probable token was not the true one: `wrong[token]`.
    pub wrong: &'a [bool],
}

/// How far two models find the same tokens hard and make the same errors.
///
/// - **Unit and range:** pure numbers. `loss_correlation` −1 to 1. `overlap` 0 to 1: tokens that both get wrong over tokens
///   that either gets wrong. `kappa` at most 1: agreement on which tokens are wrong beyond chance, over the most possible.
/// - **Null:** errors that fall independently: overlap `overlap_null`, kappa 0.
/// - **Does not show:** a shared mechanism. Some tokens are hard for every model, so compare with two seeds of one
///   family (ceiling) and with an untrained or much smaller model (floor).
/// - **Source:** Jaccard index; Cohen 1960 for kappa, as error consistency in Geirhos et al. 2020.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Pearson correlation of the losses, interval over documents.
    pub loss_correlation: Bootstrap,
    /// Jaccard overlap of the errors, interval over documents.
    pub overlap: Bootstrap,
    /// Overlap if errors fell independently at the same rates.
    pub overlap_null: f64,
    /// Cohen's kappa of the errors, interval over documents.
    pub kappa: Bootstrap,
    /// Tokens compared.
    pub tokens: usize,
}

/// Compares two models on the same tokens; intervals resample whole documents.
///
/// # Errors
/// If the lists differ in length, there are fewer than two documents, losses do not vary or are not finite, or one of
/// the models is right, or wrong, everywhere.
pub fn agreement(
    first: Predictions<'_>,
    second: Predictions<'_>,
    documents: &[u32],
    resampling: Resampling,
) -> Result<Agreement, AnalysisError> {
    refuse_bad_input(first, second, documents.len())?;
    let correlation = |rows: &[usize]| {
        let pick = |values: &[f64]| rows.iter().map(|r| values[*r]).collect::<Vec<f64>>();
        pearson(&pick(first.loss), &pick(second.loss)).map_or(f64::NAN, |c| c.coefficient)
    };
    let errors = |rows: &[usize]| Errors::count(first.wrong, second.wrong, rows);
    let all: Vec<usize> = (0..documents.len()).collect();
    Ok(Agreement {
        loss_correlation: cluster_bootstrap(documents, correlation, resampling)?,
        overlap: cluster_bootstrap(documents, |rows| errors(rows).overlap(), resampling)?,
        overlap_null: errors(&all).independent_overlap(),
        kappa: cluster_bootstrap(documents, |rows| errors(rows).kappa(), resampling)?,
        tokens: documents.len(),
    })
}

/// One row for each pair of models.
///
/// # Errors
/// If the columns make no table.
pub fn table(name: &str, title: &str, pairs: &[(String, Agreement)]) -> Result<Table, AnalysisError> {
    let independent = "errors and losses that fall independently";
    let nulls = pairs.iter().map(|(_, a)| a.overlap_null).collect();
    let zeros = vec![0.0; pairs.len()];
    let list = |pick: fn(&Agreement) -> Bootstrap| pairs.iter().map(|(_, a)| pick(a)).collect::<Vec<_>>();
    let losses = "correlation of the losses, token by token";
    let mut columns = vec![Column::key("pair", "which models", labels(pairs))];
    for (column, meaning, values, null) in [
        ("loss_correlation", losses, list(|a| a.loss_correlation), zeros.clone()),
        ("overlap", "tokens both get wrong over tokens either gets wrong", list(|a| a.overlap), nulls),
        ("kappa", "agreement on which tokens are wrong, beyond chance", list(|a| a.kappa), zeros),
    ] {
        columns.extend(bootstrap_columns(column, "", meaning, &values));
        columns.push(Column::null(column, "", independent, null));
    }
    let method =
        "Both models on the same tokens; an error is a most probable token that is not the true one.";
    Ok(Table::new(name, title, method, columns)?)
}

fn refuse_bad_input(
    first: Predictions<'_>,
    second: Predictions<'_>,
    tokens: usize,
) -> Result<(), AnalysisError> {
    let method = "agreement";
    for (length, what) in [
        (first.loss.len(), "first list of losses"),
        (first.wrong.len(), "first list of errors"),
        (second.loss.len(), "second list of losses"),
        (second.wrong.len(), "second list of errors"),
    ] {
        check::same_length(method, what, length, tokens)?;
    }
    pearson(first.loss, second.loss)?;
    for (model, what) in [(first, "the error of the first model"), (second, "the error of the second model")]
    {
        if model.wrong.iter().all(|w| *w == model.wrong[0]) {
            return Err(AnalysisError::Constant { method, what });
        }
    }
    Ok(())
}

/// Tokens by who gets them wrong.
struct Errors {
    both: f64,
    first: f64,
    second: f64,
    tokens: f64,
}

impl Errors {
    fn count(first: &[bool], second: &[bool], rows: &[usize]) -> Errors {
        let count = |keep: &dyn Fn(usize) -> bool| rows.iter().filter(|r| keep(**r)).count() as f64;
        Errors {
            both: count(&|r| first[r] && second[r]),
            first: count(&|r| first[r]),
            second: count(&|r| second[r]),
            tokens: rows.len() as f64,
        }
    }

    fn overlap(&self) -> f64 {
        self.both / (self.first + self.second - self.both)
    }

    fn independent_overlap(&self) -> f64 {
        let (a, b) = (self.first / self.tokens, self.second / self.tokens);
        a * b / (a + b - a * b)
    }

    fn kappa(&self) -> f64 {
        let (a, b) = (self.first / self.tokens, self.second / self.tokens);
        let observed = (self.tokens - self.first - self.second + 2.0 * self.both) / self.tokens;
        let chance = a * b + (1.0 - a) * (1.0 - b);
        (observed - chance) / (1.0 - chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::normal;
    use crate::statistics::BootstrapMethod;
    use moescope_base::Seed;
    use proptest::prelude::*;

    fn resampling(seed: u64) -> Resampling {
        Resampling { replicates: 200, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(seed) }
    }

    /// Two models whose losses share a part: `shared` 0 is none, 1 is all. Errors are losses above 1.
    fn models(shared: f64, seed: u64) -> ([Vec<f64>; 2], [Vec<bool>; 2], Vec<u32>) {
        let mut rng = Seed(seed).rng();
        let mut losses = [Vec::new(), Vec::new()];
        for _ in 0..400 {
            let common = normal(&mut rng);
            for loss in &mut losses {
                let own = normal(&mut rng);
                loss.push(1.0 + shared.sqrt() * common + (1.0 - shared).sqrt() * own);
            }
        }
        let wrong = [0, 1].map(|m: usize| losses[m].iter().map(|l| *l > 1.0).collect());
        (losses, wrong, (0..400).map(|t| t / 10).collect())
    }

    fn compare(shared: f64, seed: u64) -> Agreement {
        let (loss, wrong, documents) = models(shared, seed);
        let of = |m: usize| Predictions { loss: &loss[m], wrong: &wrong[m] };
        agreement(of(0), of(1), &documents, resampling(seed)).unwrap()
    }

    #[test]
    fn eight_tokens_by_hand() {
        let first = [true, true, true, false, false, false, false, true];
        let second = [true, true, false, true, false, false, false, false];
        let errors = Errors::count(&first, &second, &[0, 1, 2, 3, 4, 5, 6, 7]);
        // Both wrong on 2, either on 5. Rates 1/2 and 3/8: by chance 3/16 over 11/16. Agreement 5/8 against 1/2.
        assert!((errors.overlap() - 0.4).abs() < 1e-12);
        assert!((errors.independent_overlap() - 3.0 / 11.0).abs() < 1e-12);
        assert!((errors.kappa() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_planted_likeness_is_found() {
        let found = compare(0.8, 1);
        assert!((found.loss_correlation.estimate - 0.8).abs() < 0.08);
        assert!(found.kappa.low > 0.3 && found.overlap.low > found.overlap_null);
        assert_eq!((found.tokens, found.kappa.units), (400, 40));
    }

    #[test]
    fn independent_models_keep_the_stated_level() {
        let outside = |b: &Bootstrap, null: f64| usize::from(b.low > null || b.high < null);
        let rejected: usize = (0..60)
            .map(|seed| {
                let found = compare(0.0, 1000 + seed);
                outside(&found.loss_correlation, 0.0) + outside(&found.kappa, 0.0)
            })
            .sum();
        assert!(rejected < 17, "{rejected} of 120 at level 0.05");
    }

    #[test]
    fn a_model_agrees_with_itself() {
        let (loss, wrong, documents) = models(0.5, 3);
        let own = Predictions { loss: &loss[0], wrong: &wrong[0] };
        let found = agreement(own, own, &documents, resampling(3)).unwrap();
        assert!((found.loss_correlation.estimate - 1.0).abs() < 1e-12);
        assert_eq!((found.overlap.estimate, found.kappa.estimate), (1.0, 1.0));
    }

    #[test]
    fn unequal_lengths_and_a_model_without_errors_are_refused() {
        let (loss, wrong, documents) = models(0.5, 3);
        let own = Predictions { loss: &loss[0], wrong: &wrong[0] };
        assert!(agreement(own, own, &documents[1..], resampling(3)).is_err());
        let perfect = Predictions { wrong: &[false; 400], ..own };
        assert!(matches!(
            agreement(own, perfect, &documents, resampling(3)),
            Err(AnalysisError::Constant { .. })
        ));
        let table = table("agreement", "Agreement", &[("a, b".into(), compare(0.5, 4))]).unwrap();
        assert_eq!(table.columns().len(), 16);
    }

    proptest! {
        #[test]
        fn swapping_the_models_changes_nothing(pairs in prop::collection::vec(any::<(bool, bool)>(), 4..40)) {
            let (a, b): (Vec<bool>, Vec<bool>) = pairs.into_iter().unzip();
            let rows: Vec<usize> = (0..a.len()).collect();
            let (x, y) = (Errors::count(&a, &b, &rows), Errors::count(&b, &a, &rows));
            prop_assert!(x.overlap() == y.overlap() || x.overlap().is_nan());
            prop_assert!(x.kappa().is_nan() || ((x.kappa() - y.kappa()).abs() < 1e-12 && x.kappa() <= 1.0));
        }
    }
}
