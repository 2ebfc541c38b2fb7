//! The instrument `expert-importance`.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{ExpertId, Importance, importance};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, Reads, Rule,
};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;
use crate::wording::{counted, moves, signed};

/// The instrument `expert-importance`.
pub struct ExpertImportances;

const NEEDED: Reading = Reading {
    says: "the model needs expert 3 of block 1",
    table: "expert_importance",
    rows: &[("layer", "1"), ("expert", "3")],
    value: "loss",
    rule: Rule::MoreThan(0.0),
};
const MOST_NEEDED: Reading = Reading {
    says: "expert 3 is the one that the model needs most",
    table: "expert_importance",
    rows: &[],
    value: "loss",
    rule: Rule::LargestAt("expert", "3"),
};
const SPARED: Reading = Reading {
    says: "the model needs expert 5 of block 1",
    table: "expert_importance",
    rows: &[("layer", "1"), ("expert", "5")],
    value: "loss",
    rule: Rule::MoreThan(0.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::FactExpert, NEEDED),
    Promise::finds(Property::FactExpert, MOST_NEEDED),
    Promise::is_silent(Property::FactExpert, SPARED),
    Promise::is_silent(Property::SilentHeads, NEEDED),
];

impl Instrument for ExpertImportances {
    fn about(&self) -> About {
        About {
            name: "expert-importance",
            group: Group::Causal,
            question: "What does the model lose without each expert, and how many of the cheapest can go?",
            null: "other experts of the layer and of similar load; as many experts taken out in random orders",
            does_not_show: "what a model trained without the expert would lose, nor what two experts do for each other",
            source: "ablation against random components, Meyes et al. 2019; pruning of experts after training, Lu et al. 2024 (arXiv 2402.14800), there by the error of the layer's output",
            passes: "one for each batch of an excerpt and expert (128 at most), 4 for each of half of them, and 4 for each point of the curve",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::ShortExcerpt
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let resampling = material.resampling("expert importance");
        let (samples, seed) = (material.samples()?, material.seed.child("expert importance"));
        let found = importance(material.subject, &samples, resampling, seed)?;
        let map = Figure {
            id: "expert_importance".into(),
            title: most_needed(&found),
            caption: "Rise of the loss without one expert, which writes nothing; intervals over documents are in the table.".into(),
            table: "expert_importance".into(),
            kind: FigureKind::Heatmap {
                x: "expert".into(),
                y: "layer".into(),
                value: "loss".into(),
                center: Some(0.0),
            },
        };
        let curve = Figure {
            id: "expert_curve".into(),
            title: many(&found),
            caption: "Rise of the loss without the cheapest experts of the whole model, on documents that did not decide which these are; \
                      dashed: as many in random orders."
                .into(),
            table: "expert_curve".into(),
            kind: FigureKind::Lines { x: "removed".into(), y: "loss".into(), series: None, log2_x: true },
        };
        Ok(Finding { tables: vec![experts_table(&found)?, curve_table(&found)?], figures: vec![map, curve] })
    }
}

const LOSS: &str = "nats per token";

fn experts_table(found: &Importance) -> Result<Table, AnalysisError> {
    let integer = |of: &dyn Fn(usize) -> i64| (0..found.experts.len()).map(of).collect::<Vec<i64>>();
    let losses: Vec<Bootstrap> = found.experts.iter().map(|expert| expert.loss).collect();
    let mut columns = vec![
        Column::integer_key("layer", "", "block", integer(&|at| found.experts[at].id.layer as i64)),
        Column::integer_key("expert", "", "expert", integer(&|at| found.experts[at].id.expert as i64)),
    ];
    columns.extend(bootstrap_columns("loss", LOSS, "rise of the loss without the expert", &losses));
    let others = found.experts.iter().map(|expert| expert.others).collect();
    columns.push(Column::null("loss", LOSS, "mean without another expert of similar load", others));
    let loads = found.experts.iter().map(|expert| expert.load).collect();
    columns.push(Column::estimate("load", "share of tokens", "that choose the expert", loads));
    let method = format!(
        "Each expert writes nothing, the routes stay. Loss of the unedited model: {:.4} nats per token. Intervals are not corrected for the \
         number of experts. Does not show what a model trained without it would lose.",
        found.free_loss.estimate
    );
    Ok(Table::new("expert_importance", "What the model loses without each expert", method, columns)?)
}

fn curve_table(found: &Importance) -> Result<Table, AnalysisError> {
    let removed = found.curve.iter().map(|point| point.removed as i64).collect();
    let greedy: Vec<Bootstrap> = found.curve.iter().map(|point| point.greedy).collect();
    let mut columns = vec![Column::integer_key("removed", "experts", "taken out together", removed)];
    columns.extend(bootstrap_columns("loss", LOSS, "rise of the loss without the cheapest", &greedy));
    let random = found.curve.iter().map(|point| point.random).collect();
    columns.push(Column::null("loss", LOSS, "as many in random orders, mean of three", random));
    let method = "The order comes from single knock-outs on every second document, the loss from the others. Does not show the best set of \
                  so many experts: what is cheap alone need not be cheap together.";
    Ok(Table::new("expert_curve", "What is lost when the cheapest experts go", method, columns)?)
}

/// The expert without which the loss rises most, and whether that is told from 0.
fn most_needed(found: &Importance) -> String {
    let most = found.experts.iter().max_by(|a, b| a.loss.estimate.total_cmp(&b.loss.estimate));
    let needed = found.experts.iter().filter(|expert| expert.loss.low > 0.0).count();
    let all = counted(found.experts.len(), "expert", "experts");
    let Some(most) = most else { return String::new() };
    let ExpertId { layer, expert } = most.id;
    let is_needed = most.loss.low > 0.0;
    if !is_needed {
        let loss = signed(&most.loss);
        return format!(
            "Of {all} none is told to be needed; without expert {expert} of layer {layer}, the first, the loss changes by {loss} nats per token"
        );
    }
    format!(
        "Without expert {expert} of layer {layer} the loss rises most, by {:.3} nats per token; {needed} of {all} are told to be needed (95 % \
         each)",
        most.loss.estimate
    )
}

fn many(found: &Importance) -> String {
    found.curve.last().map_or_else(String::new, |last| {
        format!(
            "Without the {} cheapest of {} the loss {} nats per token, without as many random ones it {}",
            last.removed,
            counted(found.experts.len(), "expert", "experts"),
            moves(last.greedy.estimate),
            moves(last.random)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::planted::{Planted, samples};
    use super::*;
    use crate::instrument::named;
    use crate::routing::planted;
    use moescope_base::Seed;

    #[test]
    fn the_finding_names_the_expert_that_matters() {
        let batches = samples(8)
            .iter()
            .map(|sample| {
                let ids = sample.tokens().ids().to_vec();
                let table = planted::tokens(ids, vec![0; 60], sample.documents().to_vec());
                (sample.tokens().clone(), table)
            })
            .collect();
        let mut subject = Planted::new();
        let mut material = Material::new(&mut subject, batches, Seed(1)).unwrap();
        let found = ExpertImportances.run(&mut material).unwrap();
        assert!(
            found.figures[0].title.starts_with("Without expert 2 of layer 1"),
            "{}",
            found.figures[0].title
        );
        assert!(found.figures[0].title.contains("1 of 7 experts are told"));
        assert!(found.figures[1].title.contains("changes by less than 0.001"), "{}", found.figures[1].title);
        assert!(named("expert-importance").is_some());
    }
}
