use super::super::compare;
use super::Widths;
use crate::Family;
use crate::claim::{Draft, Wording};
use crate::compare::{Comparison, Pair};
use crate::results::{Results, loss, subtract};

/// All claims of the question.
pub(super) fn drafts(results: &Results, widths: &Widths) -> Vec<Draft> {
    let mut drafts = losses(results);
    // A bound is no estimate: with one among the seeds there is no mean to test.
    if widths.below + widths.above == 0 {
        drafts.push(width(results, widths));
    }
    drafts.extend(likenesses(results));
    drafts
}

/// Primary: the loss of granular MoE against three dense models; secondary, against one of them with tuned rates.
fn losses(results: &Results) -> Vec<Draft> {
    let (moe, dense) = (results.primary(), Family::Dense { times: 1 });
    let draft = |key: &str, other: Family, what: &str| Draft {
        key: key.into(),
        metric: "validation loss",
        unit: "nats/token",
        contrast: format!("{moe} − {other}"),
        null: "0: the same loss",
        table: "families",
        values: results.difference(moe, other, loss),
        primary: true,
        margin: Some(results.config.margins.loss),
        wording: compare("granular MoE", "loss", what),
    };
    let mut drafts = vec![
        draft("moe_dense", dense, "a dense layer of the same active width"),
        draft("moe_wide", results.wide(), "a dense layer of the same total width"),
        draft("moe_topk", Family::TopKDense, "an unrouted layer that is as wide and as sparse"),
    ];
    // At the study's own rate for both it would be the first claim again.
    if results.best_rates_differ(moe, dense) {
        drafts.push(Draft {
            contrast: format!("{moe} − {dense}, each at its best learning rate"),
            table: "rates",
            values: results.difference_at_best_rates(moe, dense),
            primary: false,
            ..draft(
                "moe_dense_rates",
                dense,
                "a dense layer of the same active width, each at its best learning rate",
            )
        });
    }
    drafts
}

/// Secondary: which dense width has the loss of granular MoE.
fn width(results: &Results, widths: &Widths) -> Draft {
    Draft {
        key: "width".into(),
        metric: "effective width",
        unit: "doublings",
        contrast: format!("log2(effective width of {} / d_ff)", results.primary()),
        null: "0: as wide as its active part",
        table: "q2_width",
        values: widths.log2_ratio.clone(),
        primary: false,
        margin: None,
        wording: Wording {
            above: "granular MoE is worth a dense layer wider than its active part".into(),
            below: "granular MoE is worth a dense layer narrower than its active part".into(),
            same: "granular MoE is worth a dense layer of its active width".into(),
            open: "not decided: how wide a dense layer granular MoE is worth".into(),
        },
    }
}

/// What the similarity of MoE to a wide model is set against: the key of the claim, the pair whose second model is wide as
/// well, what that pair stands for in words, and the null.
struct Place {
    key: &'static str,
    pair: String,
    other: fn(&Comparison) -> &Pair,
    in_words: &'static str,
    null: &'static str,
}

/// The place of MoE between floor and ceiling of similarity (the ceiling is primary), whether other models have the same
/// place, and its agreement about hard tokens.
fn likenesses(results: &Results) -> Vec<Draft> {
    let (moe, wide) = (results.primary(), results.wide());
    let place = |key, pair, other, in_words, null| Place { key, pair, other, in_words, null };
    let ceiling = place(
        "position",
        format!("{wide}, {wide}"),
        |c| &c.wide_wide,
        "another wide model",
        "0: as similar to a wide model as another wide model is",
    );
    let floor = place(
        "floor",
        format!("{moe}, untrained {wide}"),
        |c| &c.moe_untrained,
        "an untrained one",
        "0: no more similar than to an untrained model",
    );
    let dense = place(
        "position_dense",
        format!("{}, {wide}", Family::Dense { times: 1 }),
        |c| &c.dense_wide,
        "a dense model of its active width",
        "0: as similar to a wide model as a dense one of the active width is",
    );
    let topk = place(
        "position_topk",
        format!("{}, {wide}", Family::TopKDense),
        |c| &c.topk_wide,
        "an unrouted model as sparse",
        "0: as similar to a wide model as an unrouted sparse one is",
    );
    vec![
        Draft { primary: true, ..similarity(results, &ceiling) },
        Draft { margin: None, ..similarity(results, &floor) },
        similarity(results, &dense),
        similarity(results, &topk),
        agreement(results, &ceiling),
    ]
}

/// Secondary: the similarity of MoE to a wide model minus that of another pair.
fn similarity(results: &Results, place: &Place) -> Draft {
    Draft {
        key: place.key.into(),
        metric: "CKA after the last block",
        unit: "CKA",
        contrast: format!("({}, {}′) − ({}′)", results.primary(), results.wide(), place.pair),
        null: place.null,
        table: "q2_similarity",
        values: beyond(results, Pair::last_similarity, place.other),
        primary: false,
        margin: Some(results.config.margins.similarity),
        wording: compare("MoE", "similarity to a wide model", place.in_words),
    }
}

/// Secondary: whether MoE errs on the tokens on which a wide model errs, as another wide model does. No margin: tokens that are
/// hard for every model bring all trained models within any that one would choose.
fn agreement(results: &Results, ceiling: &Place) -> Draft {
    Draft {
        key: "agreement".into(),
        metric: "correlation of per-token losses",
        unit: "correlation",
        null: "0: errs on the same tokens as another wide model does",
        values: beyond(results, |p| p.loss_correlation, ceiling.other),
        margin: None,
        wording: compare("MoE", "agreement with a wide model about hard tokens", "another wide model"),
        ..similarity(results, ceiling)
    }
}

/// One number of the pair of MoE and a wide model minus that of another pair: `[seed]`.
fn beyond(results: &Results, pick: fn(&Pair) -> f64, other: fn(&Comparison) -> &Pair) -> Vec<f64> {
    subtract(&results.compared(|c| pick(&c.moe_wide)), &results.compared(|c| pick(other(c))))
}
