//! The instrument `attribution-patching`: gradients against the truth, with what flips of routes cost.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{Attribution, AttributionOptions, EditEffect, Replacement, attribution};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};

/// The instrument `attribution-patching`.
pub struct AttributionPatching;

/// Edits of each sequence.
const ROUNDS: usize = 4;

const FLIPS: Reading = Reading {
    says: "edits flip routes",
    table: "attribution_patching",
    rows: &[("metric", "edits that flip a route")],
    value: "value",
    rule: Rule::MoreThan(0.0),
};
const PREDICTS: Reading = Reading {
    says: "the gradient predicts the effect of edits",
    table: "attribution_patching",
    rows: &[("metric", "Pearson correlation")],
    value: "value",
    rule: Rule::MoreThan(0.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::FragileRoutes, FLIPS),
    Promise::is_silent(Property::RandomRoutes, FLIPS),
    Promise::finds(Property::RandomRoutes, PREDICTS),
];

impl Instrument for AttributionPatching {
    fn about(&self) -> About {
        About {
            name: "attribution-patching",
            group: Group::Causal,
            question: "Does the gradient tell what an edit does, and what do edits that flip a route cost it?",
            null: "a prediction of no effect, with error 1; the same edits with the routes held",
            does_not_show: "that flips cause the larger error of edits that flip, which are larger edits, too: compare with the routes held",
            source: "attribution patching, Nanda 2023 and Syed et al. 2023, against ablation by the mean",
            passes: "one with gradients and 4 for each batch, 8 with routed layers",
            routed: false,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let options = AttributionOptions {
            rounds: ROUNDS,
            replacement: Replacement::Mean,
            freeze_routes: true,
            resampling: material.resampling("attribution patching"),
            seed: material.seed.child("attribution patching"),
        };
        let samples = material.samples()?;
        let found = attribution(material.subject, &samples, options)?;
        let title = "How well the gradient tells what an edit does";
        let figure = Figure {
            id: "attribution_patching".into(),
            title: finding(&found),
            caption: "Each point is an edit of one position: predicted and true change of the loss of its sequence; on the line the \
                      prediction is right."
                .into(),
            table: "attribution_edits".into(),
            kind: FigureKind::Scatter {
                x: "predicted".into(),
                y: "actual".into(),
                series: Some("routes".into()),
                diagonal: true,
            },
        };
        let tables = vec![found.table("attribution_patching", title)?, edits_table(&found.edits)?];
        Ok(Finding { tables, figures: vec![figure] })
    }
}

/// One row for each edit.
fn edits_table(edits: &[EditEffect]) -> Result<Table, AnalysisError> {
    let integer = |of: &dyn Fn(&EditEffect) -> i64| edits.iter().map(of).collect::<Vec<i64>>();
    let real = |of: &dyn Fn(&EditEffect) -> f64| edits.iter().map(of).collect::<Vec<f64>>();
    let text = |of: &dyn Fn(&EditEffect) -> String| edits.iter().map(of).collect::<Vec<String>>();
    let routes = |edit: &EditEffect| if edit.flipped { "a route flips" } else { "routes stay" }.to_owned();
    let columns = vec![
        Column::integer_key(
            "document",
            "",
            "document of the edited token",
            integer(&|e| i64::from(e.document)),
        ),
        Column::integer_key("layer", "", "block", integer(&|e| e.layer as i64)),
        Column::key("site", "what is replaced by its mean", text(&|e| e.site.name().to_owned())),
        Column::integer_key("position", "", "in the sequence", integer(&|e| e.position as i64)),
        Column::key("routes", "whether any token of the sequence goes elsewhere", text(&routes)),
        Column::estimate("predicted", "nats", "gradient × difference", real(&|e| e.predicted)),
        Column::estimate("actual", "nats", "change of the summed loss of the sequence", real(&|e| e.actual)),
        Column::estimate(
            "held",
            "nats",
            "the same with routes held",
            real(&|e| e.frozen.unwrap_or(f64::NAN)),
        ),
    ];
    let method = "One position of each sequence is edited in each round; layer, site and position are drawn.";
    Ok(Table::new("attribution_edits", "Predicted and true effect of every edit", method, columns)?)
}

fn finding(found: &Attribution) -> String {
    let told =
        format!("Gradient × difference tells the effect of edits with r = {:.2}", found.pearson.estimate);
    match (&found.error_with_flip, &found.frozen_error_with_flip) {
        (Some(free), Some(held)) => format!(
            "{told}; {:.0} % of the edits flip a route, and of these its error is {:.2}, with the routes held {:.2}",
            100.0 * found.flip_share.estimate,
            free.estimate,
            held.estimate
        ),
        _ => format!("{told}, with an error of {:.2}", found.error.estimate),
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::{Planted, Routing};
    use super::*;
    use crate::instrument::named;
    use crate::routing::planted;
    use moescope_base::{Seed, Tokens};

    /// Sixteen documents of six tokens.
    fn run(routing: Routing, factors: [f32; 2]) -> Finding {
        let ids: Vec<u32> = (0..96).map(|i| (7 * i + i / 6) % 61).collect();
        let table = planted::tokens(ids.clone(), vec![0; 96], (0..96).map(|t| t / 6).collect());
        let mut subject = Planted::new(routing, factors);
        let batches = vec![(Tokens::new(ids, 16, 6).unwrap(), table)];
        let mut material = Material::new(&mut subject, batches, Seed(1)).unwrap();
        AttributionPatching.run(&mut material).unwrap()
    }

    #[test]
    fn a_hard_threshold_is_told_with_what_holding_the_routes_restores() {
        let found = run(Routing::BySign, [2.0, -3.0]);
        assert!(FLIPS.holds(&found).unwrap() && PREDICTS.holds(&found).unwrap());
        assert!(found.figures[0].title.contains("with the routes held 0.00"), "{}", found.figures[0].title);
        assert_eq!(found.tables[1].rows(), 16 * ROUNDS);
    }

    #[test]
    fn routes_out_of_reach_do_not_flip() {
        let found = run(Routing::ById, [2.0, -3.0]);
        assert!(!FLIPS.holds(&found).unwrap());
        assert!(found.figures[0].title.ends_with("with an error of 0.00"), "{}", found.figures[0].title);
        assert!(named("attribution-patching").is_some());
    }
}
