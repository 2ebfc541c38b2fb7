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
    vec![
        draft("moe_dense", dense, "a dense layer of the same active width"),
        draft("moe_wide", results.wide(), "a dense layer of the same total width"),
        Draft {
            contrast: format!("{moe} − {dense}, each at its best learning rate"),
            table: "rates",
            values: results.difference_at_best_rates(moe, dense),
            primary: false,
            ..draft(
                "moe_dense_rates",
                dense,
                "a dense layer of the same active width, each at its best learning rate,",
            )
        },
        draft("moe_topk", Family::TopKDense, "an unrouted layer that is as wide and as sparse"),
    ]
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

/// The place of MoE between floor and ceiling of similarity (primary), whether other models have the same place, and its
/// agreement about hard tokens.
fn likenesses(results: &Results) -> Vec<Draft> {
    let (moe, wide, margins) = (results.primary(), results.wide(), &results.config.margins);
    let pairs = |pick: fn(&Pair) -> f64, other: fn(&Comparison) -> &Pair| {
        subtract(&results.compared(|c| pick(&c.moe_wide)), &results.compared(|c| pick(other(c))))
    };
    let draft = |key: &str, metric, unit, against: &str, null, values| Draft {
        key: key.into(),
        metric,
        unit,
        contrast: format!("({moe}, {wide}′) − ({against}′)"),
        null,
        table: "q2_similarity",
        values,
        primary: false,
        margin: None,
        wording: compare("the representation of MoE", "similarity to a wide model", "another wide model's"),
    };
    let two_wide = format!("{wide}, {wide}");
    let (similarity, floor) = ("CKA after the last block", format!("{moe}, untrained {wide}"));
    vec![
        Draft {
            primary: true,
            margin: Some(margins.similarity),
            ..draft(
                "position",
                similarity,
                "CKA",
                &two_wide,
                "0: as similar to a wide model as another wide model is",
                pairs(Pair::last_similarity, |c| &c.wide_wide),
            )
        },
        Draft {
            wording: compare(
                "MoE",
                "similarity to a trained wide model",
                "what it has with an untrained one",
            ),
            ..draft(
                "floor",
                similarity,
                "CKA",
                &floor,
                "0: no more similar than to an untrained model",
                pairs(Pair::last_similarity, |c| &c.moe_untrained),
            )
        },
        Draft {
            margin: Some(margins.similarity),
            wording: compare(
                "MoE",
                "similarity to a wide model",
                "what a dense model of its active width has",
            ),
            ..draft(
                "position_dense",
                similarity,
                "CKA",
                &format!("{}, {wide}", Family::Dense { times: 1 }),
                "0: as similar to a wide model as a dense one of the active width is",
                pairs(Pair::last_similarity, |c| &c.dense_wide),
            )
        },
        Draft {
            margin: Some(margins.similarity),
            wording: compare("MoE", "similarity to a wide model", "what an unrouted layer as sparse has"),
            ..draft(
                "position_topk",
                similarity,
                "CKA",
                &format!("{}, {wide}", Family::TopKDense),
                "0: as similar to a wide model as an unrouted sparse one is",
                pairs(Pair::last_similarity, |c| &c.topk_wide),
            )
        },
        Draft {
            margin: Some(margins.correlation),
            wording: compare("MoE", "agreement with a wide model about hard tokens", "another wide model"),
            ..draft(
                "agreement",
                "correlation of per-token losses",
                "correlation",
                &two_wide,
                "0: errs on the same tokens as another wide model does",
                pairs(|p| p.loss_correlation, |c| &c.wide_wide),
            )
        },
    ]
}
