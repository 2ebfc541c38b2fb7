//! The instrument `attribution-patching`: gradients against the truth, with what flips of routes cost.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{Attribution, AttributionOptions, EditEffect, Replacement, attribution};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, Reads, Rule,
};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;

/// The instrument `attribution-patching`.
pub struct AttributionPatching;

/// Edits of each sequence.
const ROUNDS: usize = 4;
/// Steps of integrated gradients.
const STEPS: usize = 8;

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

const MISSES: Reading = Reading {
    says: "integrated gradients miss what flips do",
    table: "attribution_patching",
    rows: &[("metric", "integrated gradients: relative error of edits that flip")],
    value: "value",
    rule: Rule::MoreThan(0.1),
};
const MISSES_HELD: Reading = Reading {
    says: "integrated gradients miss as much of them with the routes held",
    rows: &[("metric", "integrated gradients: relative error with frozen routes, edits that flip")],
    ..MISSES
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::FragileRoutes, MISSES),
    Promise::is_silent(Property::FragileRoutes, MISSES_HELD),
    Promise::finds(Property::FragileRoutes, FLIPS),
    Promise::is_silent(Property::RandomRoutes, FLIPS),
    Promise::finds(Property::RandomRoutes, PREDICTS),
];

impl Instrument for AttributionPatching {
    fn about(&self) -> About {
        About {
            name: "attribution-patching",
            group: Group::Causal,
            question: "Do the gradient and integrated gradients tell what an edit does, and what do edits that flip a route cost them?",
            null: "a prediction of no effect, with error 1; the same edits with the routes held",
            does_not_show: "that flips cause the larger error of edits that flip, which are larger edits, too: compare with the routes held",
            source: "attribution patching, Nanda 2023 and Syed et al. 2023, and integrated gradients, Sundararajan et al. 2017, against ablation by the mean",
            passes: "33 with gradients and 5 for each batch of an excerpt, 65 and 9 with routed layers",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::ShortExcerpt
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let options = AttributionOptions {
            rounds: ROUNDS,
            replacement: Replacement::Mean,
            freeze_routes: true,
            steps: STEPS,
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
        let table = found.table("attribution_patching", title)?;
        let errors = Figure {
            id: "attribution_errors".into(),
            title: integrated_finding(&found),
            caption: "Errors of the gradient and of integrated gradients against the true effect of the same edits, of the mean effect, with 95 % \
                      intervals over documents; at 1 a prediction is as good as that of no effect."
                .into(),
            table: "attribution_errors".into(),
            kind: FigureKind::Bars { x: "edits".into(), y: "error".into(), series: Some("prediction".into()) },
        };
        let tables = vec![table, errors_table(&found)?, edits_table(&found.edits)?];
        Ok(Finding { tables, figures: vec![figure, errors] })
    }
}

/// One row for each prediction and kind of edits.
fn errors_table(found: &Attribution) -> Result<Table, AnalysisError> {
    let mut rows: Vec<(&str, &str, Option<Bootstrap>)> = vec![
        ("all", "gradient", Some(found.error)),
        ("flip a route", "gradient", found.error_with_flip),
        ("flip none", "gradient", found.error_without_flip),
        ("all, routes held", "gradient", found.frozen_error),
        ("flip a route, routes held", "gradient", found.frozen_error_with_flip),
    ];
    if let Some(integrated) = found.integrated {
        let errors = [
            Some(integrated.error),
            integrated.error_with_flip,
            integrated.error_without_flip,
            integrated.frozen_error,
            integrated.frozen_error_with_flip,
        ];
        let of = rows.iter().zip(errors).map(|(row, error)| (row.0, "integrated gradients", error));
        rows.extend(of.collect::<Vec<_>>());
    }
    let known: Vec<(&str, &str, Bootstrap)> =
        rows.into_iter().filter_map(|(edits, prediction, error)| Some((edits, prediction, error?))).collect();
    let mut columns = vec![
        Column::key("edits", "which edits", known.iter().map(|row| row.0.to_owned()).collect()),
        Column::key("prediction", "what predicts", known.iter().map(|row| row.1.to_owned()).collect()),
    ];
    let errors: Vec<Bootstrap> = known.iter().map(|row| row.2).collect();
    columns.extend(bootstrap_columns("error", "of the mean effect", "mean |predicted − actual|", &errors));
    columns.push(Column::null(
        "error",
        "of the mean effect",
        "a prediction of no effect",
        vec![1.0; known.len()],
    ));
    let method = "The errors of `attribution_patching` side by side. What integrated gradients miss of an edit that flips a route, and not with the \
                  routes held, is what the jump did.";
    Ok(Table::new("attribution_errors", "What gradient and integral miss", method, columns)?)
}

fn integrated_finding(found: &Attribution) -> String {
    let Some(integrated) = found.integrated else { return String::new() };
    let told = format!(
        "Integrated gradients miss {:.2} of the effects, the gradient {:.2}",
        integrated.error.estimate, found.error.estimate
    );
    match (integrated.error_with_flip, integrated.error_without_flip) {
        (Some(flip), Some(none)) => format!(
            "{told}; where an edit flips a route the integral misses {:.2}, where none flips {:.2}",
            flip.estimate, none.estimate
        ),
        _ => told,
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
        Column::estimate(
            "integrated",
            "nats",
            "integrated gradients",
            real(&|e| e.integrated.unwrap_or(f64::NAN)),
        ),
        Column::estimate(
            "integrated_held",
            "nats",
            "the same with routes held",
            real(&|e| e.integrated_frozen.unwrap_or(f64::NAN)),
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
        assert_eq!((found.tables[1].rows(), found.tables[2].rows()), (10, 16 * ROUNDS));
        assert!(MISSES.holds(&found).unwrap() && !MISSES_HELD.holds(&found).unwrap());
    }

    #[test]
    fn routes_out_of_reach_do_not_flip() {
        let found = run(Routing::ById, [2.0, -3.0]);
        assert!(!FLIPS.holds(&found).unwrap());
        assert!(found.figures[0].title.ends_with("with an error of 0.00"), "{}", found.figures[0].title);
        assert!(named("attribution-patching").is_some());
    }
}
