//! The instrument `saturation`.
//!
//! The subject is the last checkpoint; the others are earlier ones, in whatever order they were named.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::matching::{RouteAgreement, route_agreement};
use super::{routes_of_other, wanted};
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::routing::Permutations;
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;
use crate::{AnalysisError, check};

/// Its name in messages and seeds.
const METHOD: &str = "saturation";

/// The instrument `saturation`.
///
/// Corrected saturation is the agreement of the routes of an earlier checkpoint with the last, above the chance `k / n`, as a share of what
/// was possible: 0 for sets drawn at random, 1 for equal routes.
pub struct RouteSaturation;

/// Most of what could agree does.
const SETTLED: Reading = Reading {
    says: "the routes of block 0 had settled",
    table: "saturation",
    rows: &[("layer", "0")],
    value: "corrected",
    rule: Rule::MoreThan(0.5),
};

/// A model with a little noise in its routers has nearly settled; strangers have not.
const PROMISES: &[Promise] = &[
    Promise::finds(Property::EarlierSelf, SETTLED),
    Promise::is_silent(Property::Strangers, SETTLED),
    // Experts keep their names over one training, so a renamed copy is no earlier self.
    Promise::is_silent(Property::PermutedTwin, SETTLED),
];

impl Instrument for RouteSaturation {
    fn about(&self) -> About {
        About {
            name: "saturation",
            group: Group::Routing,
            question: "How far had the routes of earlier checkpoints settled to those of the last one (`--against`)?",
            null: "sets drawn at random, k / n; routes that depend on the load alone",
            does_not_show: "agreement in function, nor of models with experts of other names: see model-agreement",
            source: "router saturation of OLMoE, Muennighoff et al. 2024, with chance taken out",
            passes: "one for each batch, and one of each checkpoint",
            routed: true,
            gives: super::gives::SATURATION,
            promises: PROMISES,
        }
    }

    fn against(&self) -> bool {
        true
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        wanted(material, METHOD)?;
        let resampling = material.resampling(METHOD);
        // What shuffled tokens give is known here without drawing: the chance of the loads.
        let none = Permutations::new(1, material.seed.child(METHOD));
        let last = material.routes()?.clone();
        let choose = last.layers().iter().filter(|layer| layer.per_token < layer.experts).count();
        check::at_least(METHOD, "routed layers with a choice", choose, 1)?;
        let mut found = Vec::new();
        for number in 0..material.others.len() {
            let earlier = routes_of_other(material, number)?;
            let other = &material.others[number];
            let step = other.step.map_or(number as i64, |step| step as i64);
            let rows = route_agreement(&earlier, &last, none, resampling)?;
            found.extend(rows.into_iter().map(|row| (other.name.clone(), step, row)));
        }
        let figure = Figure {
            id: "saturation".into(),
            title: finding(&found),
            caption: "Agreement of routes with the last checkpoint, 0 for sets drawn at random and 1 for equal ones; the horizontal axis is the step \
                      of training, or the order in which checkpoints were named."
                .into(),
            table: "saturation".into(),
            kind: FigureKind::Lines {
                x: "step".into(),
                y: "corrected".into(),
                series: Some("layer".into()),
                log2_x: false,
            },
        };
        Ok(Finding { tables: vec![table(&found)?], figures: vec![figure] })
    }
}

/// A checkpoint, its step and one layer.
type Row = (String, i64, RouteAgreement);

/// One row for each checkpoint and layer.
fn table(found: &[Row]) -> Result<Table, AnalysisError> {
    let (unit, share) = ("share of experts", "share of what is possible");
    let agreements: Vec<Bootstrap> = found.iter().map(|row| row.2.plain).collect();
    let corrected: Vec<Bootstrap> = found.iter().map(|row| corrected(&row.2)).collect();
    let real = |of: fn(&RouteAgreement) -> f64| found.iter().map(|row| of(&row.2)).collect::<Vec<f64>>();
    let mut columns = vec![
        Column::key(
            "checkpoint",
            "that is compared with the last",
            found.iter().map(|row| row.0.clone()).collect(),
        ),
        Column::integer_key(
            "step",
            "",
            "of training, else the order of naming",
            found.iter().map(|row| row.1).collect(),
        ),
        Column::integer_key("layer", "", "block", found.iter().map(|row| row.2.layer as i64).collect()),
    ];
    columns.extend(bootstrap_columns("corrected", share, "agreement above k / n", &corrected));
    columns.push(Column::null("corrected", share, "sets drawn at random", vec![0.0; found.len()]));
    columns.extend(bootstrap_columns("agreement", unit, "chosen experts in common", &agreements));
    columns.push(Column::null(
        "agreement",
        unit,
        "tokens shuffled: routes that depend on the load alone",
        real(|row| row.load_chance),
    ));
    columns.push(Column::estimate(
        "load_corrected",
        share,
        "agreement above that of the loads alone",
        real(|row| RouteAgreement::corrected(row.plain.estimate, row.load_chance)),
    ));
    let method = "Sets of experts of the same tokens at a checkpoint and at the last one. Does not show agreement in function.";
    Ok(Table::new("saturation", "How far routes had settled", method, columns)?)
}

/// The agreement with chance taken out, its interval with it.
fn corrected(row: &RouteAgreement) -> Bootstrap {
    let of = |agreement: f64| RouteAgreement::corrected(agreement, row.even_chance);
    let plain = row.plain;
    Bootstrap {
        estimate: of(plain.estimate),
        low: of(plain.low),
        high: of(plain.high),
        standard_error: plain.standard_error / (1.0 - row.even_chance),
        ..plain
    }
}

/// Mean corrected agreement at the first and at the latest checkpoint.
fn finding(found: &[Row]) -> String {
    let at = |step: i64| {
        // A layer that chooses all of its experts has nothing to settle.
        let values = || {
            let rows = found.iter().filter(|row| row.1 == step);
            rows.map(|row| corrected(&row.2).estimate).filter(|value| value.is_finite())
        };
        let mean = 100.0 * values().sum::<f64>() / values().count().max(1) as f64;
        // A rounded 0 has no sign.
        mean.round() + 0.0
    };
    let steps = || found.iter().map(|row| row.1);
    match (steps().min(), steps().max()) {
        (Some(first), Some(last)) if first != last => format!(
            "Routes had settled to {:.0} % at the first checkpoint and to {:.0} % at the one before the last, a layer on average",
            at(first),
            at(last)
        ),
        (Some(only), _) => format!("Routes had settled to {:.0} %, a layer on average", at(only)),
        _ => String::new(),
    }
}
