use moescope_base::{Column, Figure, FigureKind, Table};

use super::claims::{correlation, lens_gain, selectivity};
use crate::measure::{AttributionMeasure, Measures, technique_subjects};
use crate::results::{Results, mean};
use crate::roster::Workload;
use crate::tabulate::{Estimates, digits};
use crate::{Family, StudyError};

/// Every technique's validity on every model it was tried on, and the picture of attribution.
///
/// One row for each family; each number is the mean over seeds with its interval. Accuracies stand beside those of the control
/// task, without which they cannot be read.
pub(super) fn technique_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
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
        "accuracy of the domain probe on its control task",
    ));
    columns.extend(column(|m| m.probes.as_ref().map(|p| p.class.control))?.columns(
        "class_control",
        "share",
        "accuracy of the class probe on its control task",
    ));
    columns.extend(column(selectivity)?.columns(
        "class_selectivity",
        "share",
        "accuracy of the class probe − control",
    ));
    columns.extend(column(|m| m.probes.as_ref().map(|p| p.class.accuracy))?.columns(
        "class_accuracy",
        "share",
        "accuracy of the probe for the next token's class",
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

/// The logit lens by depth: how far the reading after each block is from the final prediction.
///
/// The last block is zero by construction and is drawn all the same, so that the fall towards it can be seen.
pub(super) fn lens_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
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

/// Error of attribution where routes flip, on the same edits with routes held, and where none flips.
///
/// Only the first two compare like with like: edits that flip a route are also the larger ones.
pub(super) fn flip_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
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
