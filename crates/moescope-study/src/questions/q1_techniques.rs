use moescope_base::{Answer, Column, Figure, FigureKind, QuestionId, Table};

use super::{beyond_chance, claims_exhibit, compare, enumerate};
use crate::claim::{Claim, Claims, Decision, Draft, Wording, decide};
use crate::conclusion::{Chapter, answer as put_together};
use crate::measure::{AttributionMeasure, Measures, technique_subjects};
use crate::results::{Results, mean};
use crate::roster::Workload;
use crate::tabulate::{Estimates, digits};
use crate::{Family, StudyError};

/// Q1: linear probe, logit lens and gradient attribution, on dense models and on MoE.
pub(crate) fn answer(results: &Results) -> Result<(Answer, Chapter), StudyError> {
    let claims = decide(drafts(results))?;
    let (mut tables, mut figures) = claims_exhibit("q1", "Techniques on MoE and on dense models", &claims)?;
    for (table, figure) in [technique_exhibit(results)?, lens_exhibit(results)?, flip_exhibit(results)?] {
        tables.push(table);
        figures.push(figure);
    }
    let limits = vec![
        "Three techniques, on small models; others may fare differently.".to_owned(),
        "A probe shows that information can be read out linearly, not that the model uses it.".into(),
        "The attribution test edits one position at a time by mean replacement; larger edits flip more routes.".into(),
    ];
    let needed = ["probe_works", "probe_equal", "lens_works", "attribution_works", "attribution_equal"];
    let answer = put_together(QuestionId::Q1, verdict(results, &claims), &needed, &claims, &limits);
    let chapter = Chapter {
        question: Some(QuestionId::Q1),
        heading: "Do techniques made for dense networks work on MoE?".into(),
        prose: vec![
            "A technique works on MoE if its measure of validity beats its own control; it works as well as on dense models \
             if the two agree within a margin that was fixed before the study ran."
                .into(),
        ],
        figures,
        tables,
        method: method(),
        limits,
    };
    Ok((answer, chapter))
}

fn method() -> Vec<String> {
    vec![
        "Linear probe: multinomial logistic regression with L2 on the residual stream after the last block, predicting the \
         domain; folds never share a document. Selectivity = accuracy − accuracy on a control task in which every token type \
         has a random label (Hewitt and Liang 2019)."
            .into(),
        "Logit lens: final norm and unembedding applied to the residual stream after each block (nostalgebraist 2020); \
         measured by the Kullback–Leibler divergence of the final prediction from the lens', against the lens of a randomly \
         rotated residual stream."
            .into(),
        "Attribution: gradient × difference predicts what replacing the output of one attention or feed-forward layer at one \
         position by its mean does to the loss of the sequence; truth is the replacement itself. A route flips when any \
         token's chosen set changes in any layer."
            .into(),
    ]
}

fn selectivity(m: &Measures) -> Option<f64> {
    m.probes.as_ref().map(|p| p.domain.selectivity())
}

fn lens_gain(m: &Measures) -> Option<f64> {
    m.lens.as_ref().map(|l| l.rotated - l.last_inner())
}

fn correlation(m: &Measures) -> Option<f64> {
    m.attribution.as_ref().map(|a| a.pearson)
}

fn drafts(results: &Results) -> Vec<Draft> {
    let (moe, dense) = (results.primary(), Family::Dense { times: 1 });
    let margins = &results.config.margins;
    let own = |pick: fn(&Measures) -> Option<f64>| results.language(moe, pick);
    let flip_cost = |m: &Measures| m.attribution.as_ref().and_then(AttributionMeasure::cost_of_flips);
    vec![
        Draft {
            key: "probe_works".into(),
            metric: "selectivity of a linear probe for the domain",
            unit: "accuracy",
            contrast: format!("{moe}: accuracy − control"),
            null: "0: the probe reads domains no better than random labels",
            table: "q1_techniques",
            values: own(selectivity),
            margin: None,
            wording: beyond_chance(
                "a linear probe reads the domain from the residual stream of MoE",
                "its control task",
            ),
        },
        Draft {
            key: "probe_equal".into(),
            metric: "selectivity of a linear probe for the domain",
            unit: "accuracy",
            contrast: format!("{moe} − {dense}"),
            null: "0: as on dense",
            table: "q1_techniques",
            values: results.difference(moe, dense, selectivity),
            margin: Some(margins.accuracy),
            wording: compare("the probe on MoE", "selectivity", "the probe on dense"),
        },
        Draft {
            key: "lens_works".into(),
            metric: "Kullback–Leibler divergence of the logit lens after the last inner block",
            unit: "nats",
            contrast: format!("{moe}: rotated control − lens"),
            null: "0: no better than a rotated residual stream",
            table: "q1_techniques",
            values: own(lens_gain),
            margin: None,
            wording: beyond_chance(
                "the logit lens on MoE comes near the final prediction",
                "a rotated control",
            ),
        },
        Draft {
            key: "attribution_works".into(),
            metric: "correlation of attributed with true effect",
            unit: "correlation",
            contrast: format!("{moe}: correlation"),
            null: "0: attribution says nothing about the effect",
            table: "q1_techniques",
            values: own(correlation),
            margin: None,
            wording: beyond_chance("gradient attribution on MoE predicts true effects", "no correlation"),
        },
        Draft {
            key: "attribution_equal".into(),
            metric: "correlation of attributed with true effect",
            unit: "correlation",
            contrast: format!("{moe} − {dense}"),
            null: "0: as on dense",
            table: "q1_techniques",
            values: results.difference(moe, dense, correlation),
            margin: Some(margins.correlation),
            wording: compare("attribution on MoE", "correlation with the truth", "attribution on dense"),
        },
        Draft {
            key: "flip_cost".into(),
            metric: "absolute error of attribution over the mean true effect",
            unit: "relative error",
            contrast: format!("{moe}: edits that flip a route, routes free − the same edits, routes held"),
            null: "0: flips do not hurt",
            table: "q1_flips",
            values: results.language(moe, flip_cost),
            margin: None,
            wording: Wording {
                above: "flipped routes make attribution err more".into(),
                below: "flipped routes make attribution err less".into(),
                same: "flipped routes leave the error of attribution as it is".into(),
                open: "not decided: whether flipped routes make attribution err more".into(),
            },
        },
    ]
}

/// Rule: a technique *transfers* if it beats its control on MoE and equals dense within the margin, or is better;
/// *transfers with loss* if it beats its control and is worse than on dense; *fails* if it falls below its control;
/// otherwise it is not decided.
fn verdict(results: &Results, claims: &[Claim]) -> String {
    let claims = Claims(claims);
    let lens = match claims.decision("lens_works") {
        Decision::Above => "works",
        Decision::Open => "is not decided",
        _ => "fails",
    };
    let parts = [
        format!("the linear probe {}", transfer(&claims, "probe_works", Some("probe_equal"))),
        format!("the logit lens {lens}"),
        format!("gradient attribution {}", transfer(&claims, "attribution_works", Some("attribution_equal"))),
    ];
    let flips = mean(&results.language(results.primary(), |m| m.attribution.as_ref().map(|a| a.flip_share)));
    let cost = match claims.decision("flip_cost") {
        Decision::Above => "which makes attribution err more than with the routes held",
        Decision::Below => "yet attribution errs less than with the routes held",
        Decision::Same => "without making attribution worse than with the routes held",
        Decision::Open => {
            "and whether that makes attribution err more than with the routes held is not decided"
        }
    };
    format!(
        "On granular MoE, {}. {} % of the single-position edits flip a route somewhere, {cost}.",
        enumerate(&parts),
        digits(100.0 * flips)
    )
}

fn transfer(claims: &Claims<'_>, works: &str, equal: Option<&str>) -> &'static str {
    match (claims.decision(works), equal.map(|key| claims.decision(key))) {
        (Decision::Open, _) => "is not decided",
        (Decision::Below | Decision::Same, _) => "fails",
        (Decision::Above, Some(Decision::Same)) => "transfers, as good as on dense within the margin",
        (Decision::Above, Some(Decision::Above)) => "transfers, better than on dense",
        (Decision::Above, Some(Decision::Below)) => "transfers with loss",
        (Decision::Above, _) => "works, but whether as well as on dense is not decided",
    }
}

fn technique_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let families = technique_subjects(&results.config);
    let column = |pick: fn(&Measures) -> Option<f64>| {
        Estimates::of(&families.iter().map(|f| results.language(*f, pick)).collect::<Vec<_>>())
    };
    let mut columns =
        vec![Column::key("family", "kind of model", families.iter().map(ToString::to_string).collect())];
    columns.extend(column(|m| m.probes.as_ref().map(|p| p.domain.accuracy))?.columns(
        "domain_accuracy",
        "share",
        "accuracy of the domain probe",
    ));
    columns.extend(column(|m| m.probes.as_ref().map(|p| p.domain.control))?.columns(
        "domain_control",
        "share",
        "accuracy on the control task",
    ));
    columns.extend(column(selectivity)?.columns("domain_selectivity", "share", "accuracy − control"));
    columns.extend(column(|m| m.probes.as_ref().map(|p| p.class.selectivity()))?.columns(
        "class_selectivity",
        "share",
        "selectivity of the probe for the next token's class",
    ));
    columns.extend(column(lens_gain)?.columns(
        "lens_gain",
        "nats",
        "divergence of the rotated control − of the lens, last inner block",
    ));
    columns.extend(column(correlation)?.columns(
        "attribution_correlation",
        "",
        "Pearson correlation of attributed and true effect",
    ));
    let table = Table::new(
        "q1_techniques",
        "Validity of each technique on each model",
        "One value per seed and model.",
        columns,
    )?;
    let (moe, dense) = (results.primary(), Family::Dense { times: 1 });
    let of = |family| digits(mean(&results.language(family, correlation)));
    let figure = Figure {
        id: "q1_attribution".into(),
        title: format!("Attribution correlates with the truth at {} on {moe} and at {} on {dense}", of(moe), of(dense)),
        caption: "Correlation of gradient × difference with the true effect of replacing one layer's output at one position; \
                  1 would be perfect, 0 useless. Bars are 95 % t-intervals over seeds."
            .into(),
        table: "q1_techniques".into(),
        kind: FigureKind::Bars { x: "family".into(), y: "attribution_correlation".into(), series: None },
    };
    Ok((table, figure))
}

fn lens_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let mut keys = Vec::new();
    let mut layers = Vec::new();
    let mut rows = Vec::new();
    for family in technique_subjects(&results.config) {
        for layer in 0..results.config.model.layers {
            keys.push(family.to_string());
            layers.push(layer as i64 + 1);
            rows.push(
                results.language(family, |m| m.lens.as_ref().and_then(|l| l.divergence.get(layer).copied())),
            );
        }
    }
    let mut columns = vec![
        Column::key("family", "kind of model", keys),
        Column::integer_key("block", "", "after this many blocks", layers),
    ];
    columns.extend(Estimates::of(&rows)?.columns(
        "divergence",
        "nats",
        "divergence of the final prediction from the lens'",
    ));
    let table = Table::new(
        "q1_lens",
        "Logit lens by depth",
        "Mean over tokens of the validation windows, per seed.",
        columns,
    )?;
    let first = |family| mean(&results.language(family, |m| m.lens.as_ref().map(|l| l.divergence[0])));
    let figure = Figure {
        id: "q1_lens".into(),
        title: format!(
            "After the first block the lens is {} nats from the final prediction on {}, {} on dense-1x",
            digits(first(results.primary())),
            results.primary(),
            digits(first(Family::Dense { times: 1 }))
        ),
        caption: "Lower is nearer; after the last block the lens is the prediction itself, by construction. Bands are 95 % \
                  t-intervals over seeds."
            .into(),
        table: "q1_lens".into(),
        kind: FigureKind::Lines { x: "block".into(), y: "divergence".into(), series: Some("family".into()), log2_x: false },
    };
    Ok((table, figure))
}

fn flip_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let families: Vec<Family> =
        technique_subjects(&results.config).into_iter().filter(|f| f.is_routed()).collect();
    let mut keys = Vec::new();
    let mut cases = Vec::new();
    let mut rows = Vec::new();
    for family in &families {
        let of = |pick: fn(&Measures) -> Option<f64>| results.values(Workload::Language, *family, pick);
        for (case, values) in [
            ("a route flips", of(|m| m.attribution.as_ref().and_then(|a| a.error_with_flip))),
            (
                "the same edits, routes held",
                of(|m| m.attribution.as_ref().and_then(|a| a.frozen_error_with_flip)),
            ),
            ("no route flips", of(|m| m.attribution.as_ref().and_then(|a| a.error_without_flip))),
        ] {
            keys.push(family.to_string());
            cases.push(case.to_owned());
            rows.push(values);
        }
    }
    let mut columns = vec![
        Column::key("family", "kind of model", keys),
        Column::key("case", "whether the edit changed any token's experts", cases),
    ];
    columns.extend(Estimates::of(&rows)?.columns(
        "error",
        "of the mean effect",
        "mean absolute error of attribution over the mean absolute true effect",
    ));
    let table = Table::new(
        "q1_flips",
        "Attribution error with and without a flipped route",
        "One edit per sequence; means per seed.",
        columns,
    )?;
    let shares: Vec<f64> =
        results.language(results.primary(), |m| m.attribution.as_ref().map(|a| a.flip_share));
    let costs = results
        .language(results.primary(), |m| m.attribution.as_ref().and_then(AttributionMeasure::cost_of_flips));
    let figure = Figure {
        id: "q1_flips".into(),
        title: format!(
            "{} % of edits flip a route on {}; the flips change attribution's relative error by {}",
            digits(100.0 * mean(&shares)),
            results.primary(),
            digits(mean(&costs))
        ),
        caption: "Mean absolute error over mean absolute effect of the same edits. What flips do is seen between the first two bars: \
                  the same edits, with routes free and with routes held; edits without a flip are smaller ones, too."
            .into(),
        table: "q1_flips".into(),
        kind: FigureKind::Bars { x: "family".into(), y: "error".into(), series: Some("case".into()) },
    };
    Ok((table, figure))
}
