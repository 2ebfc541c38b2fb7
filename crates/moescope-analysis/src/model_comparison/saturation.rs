//! The instrument `saturation`.
//!
//! The subject is the last checkpoint; the others are earlier ones, in whatever order they were named.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::matching::{RouteAgreement, route_agreement};
use super::{routes_of_other, wanted};
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, Reads, Rule,
};
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

    fn reads(&self) -> Reads {
        Reads::Whole
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use crate::statistics::BootstrapMethod;
    use crate::statistics::Resampling;
    use moescope_base::Seed;
    use moescope_trace::RoutingTrace;

    /// Four documents of four tokens; two of four experts for each token.
    fn trace(choices: [u32; 8]) -> RoutingTrace {
        let choices = choices.repeat(4);
        let documents = (0..16).map(|token| token / 4).collect();
        planted::trace(planted::tokens(vec![0; 16], vec![0; 16], documents), 4, 2, vec![choices])
    }

    fn row(name: &str, step: i64, earlier: &RoutingTrace, last: &RoutingTrace) -> Row {
        let resampling =
            Resampling { replicates: 50, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        let found = route_agreement(earlier, last, Permutations::new(1, Seed(1)), resampling).unwrap();
        (name.to_owned(), step, found[0].clone())
    }

    #[test]
    fn chance_is_taken_out_by_hand() {
        // Of every eight slots seven agree: 7 / 8, of which 2 / 4 are what sets drawn at random have in common.
        let last = trace([0, 1, 0, 1, 0, 1, 2, 3]);
        let earlier = trace([0, 2, 0, 1, 0, 1, 2, 3]);
        let found = vec![row("first", 10, &earlier, &last), row("second", 20, &last, &last)];
        let table = table(&found).unwrap();
        let number = |column: &str, row: usize| table.column(column).unwrap().data.number(row).unwrap();
        assert_eq!((number("agreement", 0), number("corrected", 0)), (0.875, 0.75));
        assert_eq!((number("agreement", 1), number("corrected", 1)), (1.0, 1.0));
        // Loads of the experts: 3/4, 1/2, 1/2 and 1/4 then, and 3/4, 3/4, 1/4 and 1/4 in the end, which share Σ p q / 2 = 9/16 of the slots.
        assert_eq!(number("agreement_null", 0), 0.5625);
        assert!((number("load_corrected", 0) - 5.0 / 7.0).abs() < 1e-12);
        assert_eq!((number("step", 0), number("step", 1), number("corrected_null", 0)), (10.0, 20.0, 0.0));
        assert!(finding(&found).contains("to 75 % at the first checkpoint and to 100 %"));
        // All documents agree alike, so that the interval is the estimate.
        assert_eq!((number("corrected_low", 0), number("corrected_high", 0)), (0.75, 0.75));
    }

    #[test]
    fn routes_that_nothing_relates_are_settled_to_nothing() {
        let mut rng = Seed(3).rng();
        let text = planted::text(40, 40, 9, &mut Seed(1).rng());
        let mut drawn = || planted::random_sets(1600, 6, 2, |_| 1.0, &mut rng);
        let [one, other] = [drawn(), drawn()].map(|sets| planted::trace(text.clone(), 6, 2, vec![sets]));
        let found = row("stranger", 1, &one, &other);
        assert!(corrected(&found.2).estimate.abs() < 0.05, "{found:?}");
    }

    #[test]
    fn both_checkpoints_renamed_alike_have_settled_as_far_and_one_alone_has_not() {
        let mut rng = Seed(4).rng();
        let text = planted::text(20, 20, 9, &mut Seed(1).rng());
        let last = planted::random_sets(400, 6, 2, |_| 1.0, &mut rng);
        let others = planted::random_sets(400, 6, 2, |_| 1.0, &mut rng);
        // A third of the tokens go elsewhere at the earlier checkpoint.
        let earlier = (0..400).flat_map(|token: usize| {
            let of = if token.is_multiple_of(3) { &others } else { &last };
            of[2 * token..][..2].to_vec()
        });
        let earlier = planted::trace(text.clone(), 6, 2, vec![earlier.collect()]);
        let last = planted::trace(text, 6, 2, vec![last]);
        let settled = |earlier: &RoutingTrace, last: &RoutingTrace| {
            let found = row("earlier", 1, earlier, last).2;
            (corrected(&found), found.load_chance)
        };
        let plain = settled(&earlier, &last);
        assert!(plain.0.estimate > 0.6 && plain.0.estimate < 0.75, "{plain:?}");
        let (new, old) = (planted::renamed(&last, 5), planted::renamed(&earlier, 5));
        let both = settled(&old, &new);
        assert_eq!(both.0, plain.0);
        assert!((both.1 - plain.1).abs() < 1e-12);
        assert!(settled(&earlier, &new).0.estimate < 0.5);
    }
}
