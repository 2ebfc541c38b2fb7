//! Capacity: bits of facts recalled per parameter.

use moescope_base::{Column, Table};
use serde::{Deserialize, Serialize};

use crate::tabulate::labels;
use crate::{AnalysisError, check};

/// How many bits of planted facts a model has stored.
///
/// - **Unit:** bits; bits per parameter.
/// - **Null:** 0: the model gives every answer the same probability. A model that knows only which answers exist scores
///   0 as well, because the answers are uniform by construction.
/// - **Does not show:** how the facts are stored, or what else the parameters hold.
/// - **Source:** Allen-Zhu and Li 2024, "Physics of Language Models 3.3", in the simple form for answers drawn uniformly
///   from one alphabet; there about 2 bits per parameter for dense models after 1,000 exposures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Answers asked for.
    pub answers: usize,
    /// Bits that all answers hold together: `answers · log2(alphabet)`.
    pub bits_asked: f64,
    /// Bits recalled: sum over answers of `max(0, log2(alphabet) − loss)`.
    pub bits_recalled: f64,
    /// The same with one maximum around the whole sum: confident wrong answers count against right ones.
    pub bits_net: f64,
    /// Bits recalled over all parameters.
    pub bits_per_parameter: f64,
    /// Bits recalled over the parameters that one token passes through.
    pub bits_per_active_parameter: f64,
}

/// Parameters of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// All of them.
    pub total: u64,
    /// Those that one token passes through.
    pub active: u64,
}

/// Bits recalled from the loss of each answer.
///
/// - **Shape:** `answer_losses[answer]` in nats; an answer of several tokens has the sum of their losses.
/// - `alphabet` is the number of equally likely answers.
///
/// # Errors
/// Without answers, with an alphabet below 2, a loss that is negative or not finite, or a model without parameters.
pub fn capacity(
    answer_losses: &[f64],
    alphabet: u64,
    parameters: Parameters,
) -> Result<Capacity, AnalysisError> {
    let method = "capacity";
    check::at_least(method, "answers", answer_losses.len(), 1)?;
    check::finite(method, answer_losses)?;
    check::in_range(method, "alphabet", alphabet, alphabet >= 2, "at least 2 answers")?;
    let smallest = answer_losses.iter().copied().fold(f64::INFINITY, f64::min);
    check::in_range(method, "smallest loss", smallest, smallest >= 0.0, "at least 0 nats")?;
    let least = parameters.active.min(parameters.total);
    check::in_range(method, "number of parameters", least, least > 0, "at least 1")?;
    let most = (alphabet as f64).log2();
    let gains: Vec<f64> = answer_losses.iter().map(|loss| most - loss / std::f64::consts::LN_2).collect();
    let bits_recalled: f64 = gains.iter().map(|gain| gain.max(0.0)).sum();
    Ok(Capacity {
        answers: gains.len(),
        bits_asked: most * gains.len() as f64,
        bits_recalled,
        bits_net: gains.iter().sum::<f64>().max(0.0),
        bits_per_parameter: bits_recalled / parameters.total as f64,
        bits_per_active_parameter: bits_recalled / parameters.active as f64,
    })
}

/// One row for each model.
///
/// # Errors
/// If the columns make no table.
pub fn table(name: &str, title: &str, models: &[(String, Capacity)]) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&Capacity) -> f64| models.iter().map(|(_, c)| pick(c)).collect::<Vec<f64>>();
    let zeros = vec![0.0; models.len()];
    let answers = models.iter().map(|(_, c)| c.answers as i64).collect();
    let columns = vec![
        Column::key("model", "which model", labels(models)),
        Column::estimate(
            "recalled",
            "bits",
            "bits of the facts that the model recalls",
            of(|c| c.bits_recalled),
        ),
        Column::observations("recalled", "answers", answers),
        Column::null("recalled", "bits", "every answer equally likely", zeros),
        Column::estimate("asked", "bits", "bits that the facts hold", of(|c| c.bits_asked)),
        Column::estimate(
            "net",
            "bits",
            "confident wrong answers counted against right ones",
            of(|c| c.bits_net),
        ),
        Column::estimate(
            "per_parameter",
            "bits per parameter",
            "over all parameters",
            of(|c| c.bits_per_parameter),
        ),
        Column::estimate(
            "per_active_parameter",
            "bits per parameter",
            "over the parameters that one token passes through",
            of(|c| c.bits_per_active_parameter),
        ),
    ];
    let method = "Sum over answers of max(0, log2(alphabet) − loss in bits), after Allen-Zhu and Li 2024.";
    Ok(Table::new(name, title, method, columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: Parameters = Parameters { total: 100, active: 25 };

    fn nats(bits: f64) -> f64 {
        bits * std::f64::consts::LN_2
    }

    #[test]
    fn four_answers_by_hand() {
        // Of log2(16) = 4 bits each: known, half known, unknown, and confidently wrong by 2 bits.
        let found = capacity(&[nats(0.0), nats(2.0), nats(4.0), nats(6.0)], 16, SIZE).unwrap();
        assert!((found.bits_asked - 16.0).abs() < 1e-12);
        assert!((found.bits_recalled - 6.0).abs() < 1e-12);
        assert!((found.bits_net - 4.0).abs() < 1e-12);
        assert!((found.bits_per_parameter - 0.06).abs() < 1e-12);
        assert!((found.bits_per_active_parameter - 0.24).abs() < 1e-12);
    }

    #[test]
    fn a_model_that_knows_nothing_recalls_nothing() {
        let found = capacity(&[nats(4.0); 50], 16, SIZE).unwrap();
        assert!(found.bits_recalled < 1e-9 && found.bits_net < 1e-9);
    }

    #[test]
    fn impossible_inputs_are_refused() {
        assert!(capacity(&[], 16, SIZE).is_err() && capacity(&[1.0], 1, SIZE).is_err());
        assert!(capacity(&[-0.1], 16, SIZE).is_err() && capacity(&[f64::NAN], 16, SIZE).is_err());
        assert!(capacity(&[1.0], 16, Parameters { total: 1, active: 0 }).is_err());
    }

    #[test]
    fn the_table_states_its_null() {
        let table =
            table("capacity", "Facts", &[("moe".into(), capacity(&[0.0], 2, SIZE).unwrap())]).unwrap();
        assert_eq!(table.column("recalled").unwrap().data.number(0), Some(1.0));
        assert_eq!(table.column("recalled_null").unwrap().data.number(0), Some(0.0));
    }

    proptest! {
        #[test]
        fn bits_lie_between_none_and_all_and_order_does_not_matter(mut losses in prop::collection::vec(0.0..8.0f64, 1..20)) {
            let found = capacity(&losses, 10, SIZE).unwrap();
            prop_assert!(found.bits_recalled >= 0.0 && found.bits_recalled <= found.bits_asked + 1e-9);
            prop_assert!(found.bits_net <= found.bits_recalled + 1e-9);
            losses.reverse();
            prop_assert!((capacity(&losses, 10, SIZE).unwrap().bits_recalled - found.bits_recalled).abs() < 1e-9);
        }
    }
}
