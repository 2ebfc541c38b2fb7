//! How many neurons are known by a token, in the model and with its weights in another order.

use moescope_base::{Column, Table};

use super::dashboard::Dashboard;
use crate::AnalysisError;
use crate::statistics::{holm, mean};

/// How well the neurons of a model are known by tokens.
///
/// - **Unit:** neurons; `telling` in standard deviations, of the most telling token of a neuron.
/// - **Null:** the same model with the numbers of its matrices in another order: what embedding, sizes of weights and text bring about
///   without training.
/// - **Does not show:** a difference between two counts beyond chance: neurons of one model are not independent, so there is no interval.
/// - **Source:** random transformers under measures of interpretability, Heap et al. 2025 (arXiv 2501.17727).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Known {
    /// Neurons that were looked at.
    pub(super) neurons: usize,
    /// Those that a token tells, by Holm at 5 %.
    pub(super) known: usize,
    /// Mean over neurons of how far the most telling token is beyond chance.
    telling: f64,
    /// The same where values are moved along each document.
    null: f64,
}

impl Known {
    /// Sums up dashboards; those of whole experts are left out.
    pub(super) fn of(found: &[Dashboard]) -> Known {
        let neurons: Vec<&Dashboard> = found.iter().filter(|dashboard| dashboard.neuron.is_some()).collect();
        let over = |of: &dyn Fn(&Dashboard) -> f64| neurons.iter().map(|one| of(one)).collect::<Vec<f64>>();
        let called = holm(&over(&|dashboard| dashboard.known.p_value));
        Known {
            neurons: neurons.len(),
            known: called.iter().filter(|p| **p <= 0.05).count(),
            telling: mean(&over(&|d| d.known.first.first().map_or(0.0, |first| first.deviance))),
            null: mean(&over(&|dashboard| dashboard.known.null)),
        }
    }
}

/// A row for the model, and one for its weights in another order if it can run with these.
///
/// # Errors
/// If the columns make no table.
pub(super) fn known_table(own: Known, scrambled: Option<Known>) -> Result<Table, AnalysisError> {
    let rows: Vec<(&str, Known)> = std::iter::once(("as they are", own))
        .chain(scrambled.map(|other| ("numbers of every matrix in another order", other)))
        .collect();
    let count =
        |of: fn(&Known) -> usize| rows.iter().map(|(_, known)| of(known) as i64).collect::<Vec<i64>>();
    let real = |of: fn(&Known) -> f64| rows.iter().map(|(_, known)| of(known)).collect::<Vec<f64>>();
    let deviations = "standard deviations";
    let columns = vec![
        Column::key(
            "weights",
            "the weights of the blocks; embedding, unembedding, norms and biases stay",
            rows.iter().map(|(name, _)| (*name).to_owned()).collect(),
        ),
        Column::count(
            "neurons",
            "neurons",
            "neurons that write most, of the layers looked at",
            count(|k| k.neurons),
        ),
        Column::count(
            "known",
            "neurons",
            "those that are known by a token, by Holm at 5 %",
            count(|k| k.known),
        ),
        Column::estimate(
            "telling",
            deviations,
            "how far the most telling token of a neuron is beyond chance, mean over neurons",
            real(|known| known.telling),
        ),
        Column::null("telling", deviations, "values moved along each document", real(|known| known.null)),
    ];
    let method = "Neurons of a model that never learned are known by tokens, too: what goes with a token in the text goes into its vectors. The second \
                  row, one draw, says how many; it is absent where there is no room for other weights, or some neurons get too few tokens with them. Neurons of one model are not \
                  independent, so there is no interval.";
    Ok(Table::new(
        "neuron_known",
        "How many neurons are known by a token, with and without training",
        method,
        columns,
    )?)
}
