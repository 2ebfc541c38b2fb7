//! Agreement of two models: correlation of their losses token by token, and overlap of their errors.

use moescope_base::{Column, Table};
use serde::{Deserialize, Serialize};

use crate::statistics::{Bootstrap, Resampling, cluster_bootstrap, pearson};
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
    let method = "agreement";
    for (length, what) in [
        (first.loss.len(), "first list of losses"),
        (first.wrong.len(), "first list of errors"),
        (second.loss.len(), "second list of losses"),
        (second.wrong.len(), "second list of errors"),
    ] {
        check::same_length(method, what, length, documents.len())?;
    }
    pearson(first.loss, second.loss)?;
    for (model, what) in [(first, "the error of the first model"), (second, "the error of the second model")] {
        if model.wrong.iter().all(|w| *w == model.wrong[0]) {
            return Err(AnalysisError::Constant { method, what });
        }
    }
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
    let mut columns =
        vec![Column::key("pair", "which models", pairs.iter().map(|(label, _)| label.clone()).collect())];
    let zeros = vec![0.0; pairs.len()];
    let nulls = pairs.iter().map(|(_, a)| a.overlap_null).collect();
    let list = |pick: fn(&Agreement) -> Bootstrap| pairs.iter().map(|(_, a)| pick(a)).collect::<Vec<_>>();
    for (column, meaning, values, null) in [
        ("loss_correlation", "correlation of the losses, token by token", list(|a| a.loss_correlation), zeros.clone()),
        ("overlap", "tokens both get wrong over tokens either gets wrong", list(|a| a.overlap), nulls),
        ("kappa", "agreement on which tokens are wrong, beyond chance", list(|a| a.kappa), zeros),
    ] {
        let of = |pick: fn(&Bootstrap) -> f64| values.iter().map(pick).collect::<Vec<f64>>();
        columns.push(Column::estimate(column, "", meaning, of(|b| b.estimate)));
        columns.extend(Column::interval(column, "", "bootstrap over documents", of(|b| b.low), of(|b| b.high)));
        columns.push(Column::observations(column, "documents", values.iter().map(|b| b.units as i64).collect()));
        columns.push(Column::null(column, "", "errors and losses that fall independently", null));
    }
    let method = "Both models on the same tokens; an error is a most probable token that is not the true one.";
    Ok(Table::new(name, title, method, columns)?)
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
