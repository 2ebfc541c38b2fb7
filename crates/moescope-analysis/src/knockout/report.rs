use moescope_base::{Column, Table};
use serde::{Deserialize, Serialize};

use super::matched::Loads;
use super::passes::Effects;
use super::{ExpertId, Knockout};
use crate::AnalysisError;
use crate::statistics::{Bootstrap, Resampling, bootstrap};

/// What a set of experts is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// The experts, ascending.
    pub experts: Vec<ExpertId>,
    /// Mean over the experts of the share of tokens that choose them, 0 to 1.
    pub load: f64,
    /// Change of the loss without them, nats per token.
    pub loss: Bootstrap,
    /// Divergence from the unedited model, nats per token.
    pub kl: Bootstrap,
}

/// A set of experts beyond random ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// Change of the loss beyond the mean over the random sets, nats per token.
    pub loss: Bootstrap,
    /// Share of the sets, the asked one among them, whose change of the loss is at least as large as that of the asked one: from
    /// 1 / (sets + 1) to 1.
    pub loss_p: f64,
    /// Divergence beyond the mean over the random sets, nats per token.
    pub kl: Bootstrap,
    /// The same share for the divergence.
    pub kl_p: f64,
}

/// Sums by document turned into means with intervals.
pub(super) fn report(
    experts: &[ExpertId],
    sets: Vec<Vec<ExpertId>>,
    loads: &Loads,
    effects: &Effects,
    resampling: Resampling,
) -> Result<Knockout, AnalysisError> {
    let mean = |sums: &[f64]| per_token(sums, &effects.tokens, resampling);
    let removed = |list: usize, mut experts: Vec<ExpertId>| {
        experts.sort_unstable();
        let load = experts.iter().map(|id| loads[&id.layer][id.expert]).sum::<f64>() / experts.len() as f64;
        Ok::<_, AnalysisError>(Removed {
            experts,
            load,
            loss: mean(&effects.loss[list])?,
            kl: mean(&effects.kl[list])?,
        })
    };
    let asked = removed(0, experts.to_vec())?;
    let matched: Vec<Removed> = sets
        .into_iter()
        .enumerate()
        .map(|(set, experts)| removed(set + 1, experts))
        .collect::<Result<_, _>>()?;
    let against = match matched.is_empty() {
        true => None,
        false => Some(Against {
            loss: mean(&beyond(&effects.loss))?,
            loss_p: rank(asked.loss.estimate, matched.iter().map(|set| set.loss.estimate)),
            kl: mean(&beyond(&effects.kl))?,
            kl_p: rank(asked.kl.estimate, matched.iter().map(|set| set.kl.estimate)),
        }),
    };
    Ok(Knockout { free_loss: mean(&effects.free_loss)?, removed: asked, matched, against })
}

/// Mean over tokens, with documents as the units.
fn per_token(sums: &[f64], tokens: &[f64], resampling: Resampling) -> Result<Bootstrap, AnalysisError> {
    let of = |drawn: &[usize]| {
        let total = |numbers: &[f64]| drawn.iter().map(|document| numbers[*document]).sum::<f64>();
        total(sums) / total(tokens)
    };
    bootstrap(tokens.len(), of, resampling)
}

/// The first list minus the mean of the others: `[document]`.
fn beyond(lists: &[Vec<f64>]) -> Vec<f64> {
    let others = (lists.len() - 1) as f64;
    let mean = |document: usize| lists[1..].iter().map(|list| list[document]).sum::<f64>() / others;
    lists[0].iter().enumerate().map(|(document, own)| own - mean(document)).collect()
}

/// Share of all, the own one among them, that are at least as large.
fn rank(own: f64, others: impl Iterator<Item = f64>) -> f64 {
    let (larger, all) =
        others.fold((1, 1), |(larger, all), other| (larger + usize::from(other >= own), all + 1));
    larger as f64 / all as f64
}

impl Knockout {
    /// One row for the experts that were asked about and one for each random set.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let rows: Vec<&Removed> = std::iter::once(&self.removed).chain(&self.matched).collect();
        let name = |row: usize| if row == 0 { "asked".to_owned() } else { format!("matched {row}") };
        let experts =
            |set: &&Removed| set.experts.iter().map(ExpertId::to_string).collect::<Vec<_>>().join(", ");
        let loss: Vec<Bootstrap> = rows.iter().map(|set| set.loss).collect();
        let kl: Vec<Bootstrap> = rows.iter().map(|set| set.kl).collect();
        let mut columns = vec![
            Column::key("set", "which set was taken out", (0..rows.len()).map(name).collect()),
            Column::text("experts", "layer:expert", rows.iter().map(experts).collect()),
            Column::estimate(
                "load",
                "share of tokens",
                "tokens that choose an expert, mean over the experts",
                rows.iter().map(|set| set.load).collect(),
            ),
        ];
        columns.extend(measured("loss", "loss minus that of the unedited model", &loss));
        columns.extend(measured("kl", "divergence from the unedited model", &kl));
        let method = "Each set taken out of the same text; 95 % bootstrap over documents. Matched sets have random experts of the same layers \
                      with the nearest loads. Does not show what a model trained without them would lose.";
        Ok(Table::new("knockout", "What experts are worth", method, columns)?)
    }

    /// One row for the loss and one for the divergence, beyond the mean over the random sets; none without a random set.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn against_table(&self) -> Result<Option<Table>, AnalysisError> {
        let Some(against) = &self.against else { return Ok(None) };
        let metrics = ["loss", "kl"].map(str::to_owned).to_vec();
        let mut columns = vec![Column::key("metric", "what is compared", metrics)];
        columns.extend(measured(
            "difference",
            "asked minus the mean over the matched sets",
            &[against.loss, against.kl],
        ));
        columns.push(Column::p_value(
            "difference",
            "share of all sets with at least the effect of the asked one",
            vec![against.loss_p, against.kl_p],
        ));
        let sets = self.matched.len() as i64;
        columns.push(Column::count("matched_sets", "sets", "random sets drawn", vec![sets; 2]));
        let method = "The same documents in every run, so the difference is paired; 95 % bootstrap over documents, for the sets that \
                      were drawn. The share speaks of sets: with few of them it cannot be small.";
        Ok(Some(Table::new("knockout_against", "Beyond random experts of like load", method, columns)?))
    }
}

/// Estimate, interval, documents and null of one measure.
fn measured(name: &str, meaning: &str, of: &[Bootstrap]) -> Vec<Column> {
    let unit = "nats per token";
    let pick = |pick: fn(&Bootstrap) -> f64| of.iter().map(pick).collect::<Vec<f64>>();
    let mut columns = vec![Column::estimate(name, unit, meaning, pick(|b| b.estimate))];
    columns.extend(Column::interval(
        name,
        unit,
        "95 % bootstrap over documents",
        pick(|b| b.low),
        pick(|b| b.high),
    ));
    columns.push(Column::observations(name, "documents", of.iter().map(|b| b.units as i64).collect()));
    columns.push(Column::null(name, unit, "nothing changes", vec![0.0; of.len()]));
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::BootstrapMethod;
    use moescope_base::Seed;

    fn id(expert: usize) -> ExpertId {
        ExpertId { layer: 0, expert }
    }

    #[test]
    fn means_differences_and_ranks_by_hand() {
        let effects = Effects {
            tokens: vec![1.0, 3.0],
            free_loss: vec![2.0, 2.0],
            loss: vec![vec![1.0, 3.0], vec![0.0, 2.0], vec![2.0, 4.0]],
            kl: vec![vec![4.0, 4.0], vec![0.0, 0.0], vec![1.0, 3.0]],
        };
        let loads = Loads::from([(0, vec![0.5, 0.25, 0.1])]);
        let resampling =
            Resampling { replicates: 50, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        let sets = vec![vec![id(1)], vec![id(2)]];
        let found = report(&[id(0)], sets, &loads, &effects, resampling).unwrap();
        assert_eq!(
            (found.free_loss.estimate, found.removed.loss.estimate, found.removed.kl.estimate),
            (1.0, 1.0, 2.0)
        );
        assert_eq!((found.removed.load, found.matched[1].load), (0.5, 0.1));
        let against = found.against.unwrap();
        assert_eq!((against.loss.estimate, against.loss_p), (0.0, 2.0 / 3.0));
        assert_eq!((against.kl.estimate, against.kl_p), (1.5, 1.0 / 3.0));
        let table = found.table().unwrap();
        assert_eq!((table.rows(), table.column("experts").unwrap().data.label(2)), (3, "0:2".to_owned()));
        assert_eq!(found.against_table().unwrap().unwrap().rows(), 2);
    }
}
