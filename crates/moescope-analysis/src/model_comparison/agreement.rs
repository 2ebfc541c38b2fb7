//! The instrument `model-agreement`.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::matching::{RouteAgreement, route_agreement};
use super::{routes_of_other, wanted};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, Reads, Rule,
};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;

/// Its name in messages and seeds.
const METHOD: &str = "agreement of models";

/// The instrument `model-agreement`.
///
/// One table with a row for each other model and layer; see [`RouteAgreement`] for unit, nulls and limits.
pub struct ModelAgreement;

/// A twin with other names is found once experts are matched.
const EQUAL_ONCE_MATCHED: Reading = Reading {
    says: "two models send tokens to the same experts of block 0 once these are matched",
    table: "model_agreement",
    rows: &[("layer", "0")],
    value: "matched",
    rule: Rule::MoreThan(0.95),
};
/// Names that mean nothing must not look like agreement.
const EQUAL_AS_NAMED: Reading = Reading {
    says: "two models send tokens to the same experts of block 0 as they are named",
    table: "model_agreement",
    rows: &[("layer", "0")],
    value: "plain",
    rule: Rule::MoreThan(0.95),
};

/// A renamed twin is the same once matched and not before; strangers never are.
const PROMISES: &[Promise] = &[
    Promise::finds(Property::PermutedTwin, EQUAL_ONCE_MATCHED),
    Promise::is_silent(Property::PermutedTwin, EQUAL_AS_NAMED),
    Promise::is_silent(Property::Strangers, EQUAL_ONCE_MATCHED),
    Promise::is_silent(Property::Strangers, EQUAL_AS_NAMED),
];

impl Instrument for ModelAgreement {
    fn about(&self) -> About {
        About {
            name: "model-agreement",
            group: Group::Routing,
            question: "Do two models send the same tokens to the same experts, as these are named and once they are matched (`--against`)?",
            null: "routes that depend on the load alone; matched, the other model's routes dealt to other tokens and matched anew",
            does_not_show: "that matched experts compute alike: they are chosen by the same tokens",
            source: "assignment of units across networks, Li et al. 2016 (arXiv 1511.07543), here of experts by their tokens",
            passes: "one for each batch, and one of each other model",
            routed: true,
            gives: super::gives::MODEL_AGREEMENT,
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
        let (permutations, resampling) = (material.permutations(METHOD), material.resampling(METHOD));
        let own = material.routes()?.clone();
        let mut found = Vec::new();
        for number in 0..material.others.len() {
            let theirs = routes_of_other(material, number)?;
            let name = material.others[number].name.clone();
            let rows = route_agreement(&own, &theirs, permutations.index(number), resampling)?;
            found.extend(rows.into_iter().map(|row| (name.clone(), row)));
        }
        let figure = Figure {
            id: "model_agreement".into(),
            title: finding(&found),
            caption: "Share of chosen experts in common with experts matched, on documents that did not decide the matching; beside it the other \
                      model's routes dealt to other tokens."
                .into(),
            table: "model_agreement".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "matched".into(), series: Some("other".into()) },
        };
        Ok(Finding { tables: vec![table(&found)?], figures: vec![figure] })
    }
}

/// One row for each other model and layer.
fn table(found: &[(String, RouteAgreement)]) -> Result<Table, AnalysisError> {
    let of =
        |pick: fn(&RouteAgreement) -> Bootstrap| found.iter().map(|row| pick(&row.1)).collect::<Vec<_>>();
    let real = |pick: fn(&RouteAgreement) -> f64| found.iter().map(|row| pick(&row.1)).collect::<Vec<f64>>();
    let integer = |pick: fn(&RouteAgreement) -> usize| found.iter().map(|row| pick(&row.1) as i64).collect();
    let unit = "share of experts";
    let mut columns = vec![
        Column::key("other", "model that is compared", found.iter().map(|row| row.0.clone()).collect()),
        Column::integer_key("layer", "", "block", integer(|row| row.layer)),
        Column::integer_key("other_layer", "", "block of the other model", integer(|row| row.other)),
    ];
    columns.extend(bootstrap_columns("matched", unit, "in common, experts matched", &of(|row| row.matched)));
    columns.push(Column::null(
        "matched",
        unit,
        "the other's routes dealt to other tokens",
        real(|row| row.shuffled),
    ));
    columns.push(Column::p_value(
        "matched",
        "at least as large with routes dealt out",
        real(|row| row.p_value),
    ));
    columns.extend(bootstrap_columns(
        "plain",
        unit,
        "in common, experts as they are named",
        &of(|row| row.plain),
    ));
    columns.push(Column::null(
        "plain",
        unit,
        "routes that depend on the load alone",
        real(|row| row.load_chance),
    ));
    let method = "The first routed layer with the first and so on, on the same tokens. Experts are matched one to one by the tokens that they have \
                  in common on every second document; the agreement is that on the others. Does not show that matched experts compute alike.";
    Ok(Table::new("model_agreement", "Whether two models route alike", method, columns)?)
}

/// Mean agreement over layers, matched, as named, and by chance: of one model, or of each of a few, or the range over many.
fn finding(found: &[(String, RouteAgreement)]) -> String {
    let mut names: Vec<&str> = found.iter().map(|row| row.0.as_str()).collect();
    names.dedup();
    let mean = |name: &str, of: fn(&RouteAgreement) -> f64| {
        let rows = || found.iter().filter(|row| row.0 == name);
        100.0 * rows().map(|row| of(&row.1)).sum::<f64>() / rows().count().max(1) as f64
    };
    let means = |name: &str| {
        let of: [fn(&RouteAgreement) -> f64; 3] =
            [|row| row.matched.estimate, |row| row.plain.estimate, |row| row.shuffled];
        of.map(|of| mean(name, of))
    };
    let told = |who: &str, [matched, plain, chance]: [String; 3]| {
        format!(
            "Of the experts that a token is sent to, {who} chooses {matched} % as well once experts are matched, {plain} % as they are named; \
             {chance} % by chance"
        )
    };
    match names.as_slice() {
        [] => String::new(),
        [only] => told("another model", means(only).map(|share| format!("{share:.0}"))),
        _ if names.len() <= NAMED => {
            let each = names.iter().map(|name| {
                let [matched, plain, chance] = means(name);
                format!("{name} {matched:.0} % ({plain:.0} % as named, {chance:.0} % by chance)")
            });
            let each: Vec<String> = each.collect();
            format!(
                "Of the experts that a token is sent to, other models choose as well, once experts are matched: {}",
                each.join(", ")
            )
        }
        _ => {
            let all: Vec<[f64; 3]> = names.iter().map(|name| means(name)).collect();
            let range = |which: usize| {
                let values = || all.iter().map(|means| means[which]);
                let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
                format!("{low:.0} to {high:.0}")
            };
            told(&format!("each of {} other models", names.len()), [range(0), range(1), range(2)])
        }
    }
}

/// Models that a title names one by one, at most; of more it tells the range.
const NAMED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wording::found;

    #[test]
    fn the_title_tells_each_model_or_the_range_and_never_a_mean_over_models() {
        let rows = |agreements: &[f64]| -> Vec<(String, RouteAgreement)> {
            let row = |(at, share): (usize, &f64)| {
                let agreement = RouteAgreement {
                    layer: 0,
                    other: 0,
                    plain: found(share / 2.0, 0.0, 1.0),
                    load_chance: 0.2,
                    even_chance: 0.25,
                    matched: found(*share, 0.0, 1.0),
                    shuffled: 0.3,
                    p_value: 0.01,
                };
                (format!("m{at}"), agreement)
            };
            agreements.iter().enumerate().map(row).collect()
        };
        assert!(finding(&rows(&[1.0])).contains("another model chooses 100 % as well"));
        let two = finding(&rows(&[1.0, 0.4]));
        assert!(two.contains("m0 100 % (50 % as named, 30 % by chance), m1 40 % (20 %"), "{two}");
        let five = finding(&rows(&[1.0, 0.4, 0.5, 0.6, 0.7]));
        assert!(five.contains("each of 5 other models chooses 40 to 100 % as well"), "{five}");
    }
}
