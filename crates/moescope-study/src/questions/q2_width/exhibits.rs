use moescope_base::{Column, Figure, FigureKind, Table};

use crate::compare::{Comparison, Pair};
use crate::results::{Results, loss, mean};
use crate::tabulate::{Estimates, digits};
use crate::{Family, StudyError};

/// Loss against feed-forward width: the dense curve, with MoE and the unrouted sparse layer at their total width.
///
/// A MoE on the dense curve is worth its total width; one level with its left end is worth its active width only.
pub(super) fn width_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let mut series = Vec::new();
    let mut x = Vec::new();
    let mut rows = Vec::new();
    for times in &results.config.model.dense_widths {
        series.push("dense".to_owned());
        x.push(*times as i64);
        rows.push(results.language(Family::Dense { times: *times }, loss));
    }
    for (name, family) in [
        ("granular MoE, at its total width", results.primary()),
        ("unrouted top-k, at its total width", Family::TopKDense),
    ] {
        series.push(name.to_owned());
        x.push(results.config.model.expansion as i64);
        rows.push(results.language(family, loss));
    }
    let mut columns = vec![
        Column::key("kind", "kind of model", series),
        Column::integer_key("width", "× d_ff", "feed-forward width, all of it", x),
    ];
    columns.extend(Estimates::of(&rows)?.columns("loss", "nats/token", "validation loss"));
    let table =
        Table::new("q2_width", "Loss against feed-forward width", "One model per family and seed.", columns)?;
    let figure = Figure {
        id: "q2_width".into(),
        title: format!(
            "Mean loss: {} for granular MoE, {} for dense of its active width, {} of its total width",
            digits(mean(&results.language(results.primary(), loss))),
            digits(mean(&results.language(Family::Dense { times: 1 }, loss))),
            digits(mean(&results.language(results.wide(), loss)))
        ),
        caption: "Validation loss against the width of the feed-forward layer. MoE and top-k are drawn at their total width; \
                  1 × d_ff of it writes for each token. Bands and bars are 95 % t-intervals over seeds."
            .into(),
        table: "q2_width".into(),
        kind: FigureKind::Lines { x: "width".into(), y: "loss".into(), series: Some("kind".into()), log2_x: true },
    };
    Ok((table, figure))
}

/// Similarity of representations by depth: MoE with a wide model, between the ceiling of two wide models and the floor of an
/// untrained one; and the agreement about hard tokens of the same pairs.
pub(super) fn similarity_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    type Pick = fn(&Comparison) -> &Pair;
    let kinds: [(&str, Pick); 5] = [
        ("wide – wide′ (ceiling)", |c| &c.wide_wide),
        ("MoE – wide′", |c| &c.moe_wide),
        ("top-k – wide′", |c| &c.topk_wide),
        ("dense – wide′", |c| &c.dense_wide),
        ("MoE – untrained (floor)", |c| &c.moe_untrained),
    ];
    let mut pairs = Vec::new();
    let mut blocks = Vec::new();
    let (mut similarity, mut correlation) = (Vec::new(), Vec::new());
    for (name, pick) in kinds {
        for block in 0..results.config.model.layers {
            pairs.push(name.to_owned());
            blocks.push(block as i64 + 1);
            similarity.push(results.compared(|c| pick(c).similarity[block]));
            correlation.push(results.compared(|c| pick(c).loss_correlation));
        }
    }
    let mut columns = vec![
        Column::key("pair", "two models; ′ is another seed", pairs),
        Column::integer_key("block", "", "after this many blocks", blocks),
    ];
    columns.extend(Estimates::of(&similarity)?.columns(
        "similarity",
        "CKA",
        "unbiased linear CKA of the residual streams",
    ));
    columns.extend(Estimates::of(&correlation)?.columns(
        "loss_correlation",
        "correlation",
        "of the losses of single tokens; the same for all blocks",
    ));
    let table = Table::new(
        "q2_similarity",
        "Similarity of representations and of errors",
        "Same tokens for all models; one pair per seed.",
        columns,
    )?;
    let last = |pick: Pick| digits(mean(&results.compared(|c| pick(c).last_similarity())));
    let figure = Figure {
        id: "q2_similarity".into(),
        title: format!(
            "MoE's similarity to a wide model is {}, between a floor of {} and a ceiling of {}",
            last(|c| &c.moe_wide),
            last(|c| &c.moe_untrained),
            last(|c| &c.wide_wide)
        ),
        caption: "CKA of residual streams by depth: 1 is the same geometry up to rotation and scale, 0 none in common. Bands \
                  are 95 % t-intervals over seeds."
            .into(),
        table: "q2_similarity".into(),
        kind: FigureKind::Lines { x: "block".into(), y: "similarity".into(), series: Some("pair".into()), log2_x: false },
    };
    Ok((table, figure))
}
