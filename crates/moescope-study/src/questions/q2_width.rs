use moescope_analysis::effective_width::{EquivalentWidth, effective_width};
use moescope_base::{Answer, Column, Figure, FigureKind, QuestionId, Table};

use super::{claims_exhibit, compare};
use crate::claim::{Claim, Claims, Decision, Draft, Wording, decide};
use crate::compare::{Comparison, Pair};
use crate::conclusion::{Chapter, answer as put_together};
use crate::results::{Results, loss, mean, subtract};
use crate::tabulate::{Estimates, digits, with_interval};
use crate::{Family, StudyError};

/// Q2: is MoE a very wide layer, or something of its own?
pub(crate) fn answer(results: &Results) -> Result<(Answer, Chapter), StudyError> {
    let widths = Widths::of(results)?;
    let claims = decide(drafts(results, &widths))?;
    let (mut tables, mut figures) = claims_exhibit("q2", "MoE against dense models", &claims)?;
    for (table, figure) in [width_exhibit(results, &widths)?, similarity_exhibit(results)?] {
        tables.push(table);
        figures.push(figure);
    }
    let mut limits = vec![
        "Loss and similarity of representations at one size and budget; the balance shifts with training length.".to_owned(),
        "CKA compares the geometry of representations, not what the models do with them.".into(),
        "The pairs of seeds behind ceiling and MoE–wide share members around the ring of seeds, so their intervals are \
         somewhat too narrow."
            .into(),
    ];
    if let Some(note) = widths.note() {
        limits.push(note);
    }
    let needed = ["moe_dense", "moe_wide", "moe_topk", "position"];
    let answer = put_together(QuestionId::Q2, verdict(results, &claims, &widths), &needed, &claims, &limits);
    let chapter = Chapter {
        question: Some(QuestionId::Q2),
        heading: "A very wide layer, or something of its own?".into(),
        prose: vec![
            "A MoE layer with all experts on is a wide dense layer. Routing takes most of it away for each token. So the MoE is \
             set against dense models of its active and of its total width, and against a wide layer that is just as sparse \
             but has no router."
                .into(),
        ],
        figures,
        tables,
        method: vec![
            "Effective width: the width at which the dense models of the same seed reach the MoE's loss, by linear interpolation \
             of loss in the logarithm of width; never extrapolated."
                .into(),
            "Similarity: unbiased linear CKA (Song et al. 2012; Kornblith et al. 2019) of residual streams on the same tokens. \
             Ceiling: two wide models of different seeds. Floor: the MoE against an untrained wide model. The MoE is compared \
             with the wide model of the next seed, so that it has no more in common with it than the wide models have with each \
             other."
                .into(),
        ],
        limits,
    };
    Ok((answer, chapter))
}

/// Effective width of the primary MoE for each seed, as log2 of its ratio to `d_ff`.
struct Widths {
    log2_ratio: Vec<f64>,
    below: usize,
    above: usize,
}

impl Widths {
    fn of(results: &Results) -> Result<Widths, StudyError> {
        let times = &results.config.model.dense_widths;
        let by_width: Vec<Vec<f64>> =
            times.iter().map(|t| results.language(Family::Dense { times: *t }, loss)).collect();
        let seeds = 0..results.config.seeds as usize;
        let dense: Vec<Vec<f64>> =
            seeds.map(|seed| by_width.iter().map(|losses| losses[seed]).collect()).collect();
        let widths: Vec<f64> = times.iter().map(|t| *t as f64).collect();
        let found = effective_width(&widths, &dense, &results.language(results.primary(), loss))?;
        let (below, above) = found.bounds();
        Ok(Widths { log2_ratio: found.by_seed.iter().map(log2_bound).collect(), below, above })
    }

    fn note(&self) -> Option<String> {
        (self.below + self.above > 0).then(|| {
            format!(
                "In {} of {} seeds the MoE's loss lies outside the range of the dense models ({} above the narrowest one's, {} \
                 below the widest one's); the end of the range then stands for the effective width, which makes it a bound.",
                self.below + self.above,
                self.log2_ratio.len(),
                self.below,
                self.above
            )
        })
    }
}

/// log2 of a width; where only a bound is known, of the bound.
fn log2_bound(width: &EquivalentWidth) -> f64 {
    let (EquivalentWidth::At(width) | EquivalentWidth::Below(width) | EquivalentWidth::Above(width)) = width;
    width.log2()
}

fn drafts(results: &Results, widths: &Widths) -> Vec<Draft> {
    let moe = results.primary();
    let margins = &results.config.margins;
    let (dense, wide) = (Family::Dense { times: 1 }, results.wide());
    let loss_draft = |key: &str, other: Family, what: &str| Draft {
        key: key.into(),
        metric: "validation loss",
        unit: "nats/token",
        contrast: format!("{moe} − {other}"),
        null: "0: the same loss",
        table: "families",
        values: results.difference(moe, other, loss),
        margin: Some(margins.loss),
        wording: compare("granular MoE", "loss", what),
    };
    let pairs = |pick: fn(&Pair) -> f64, a: fn(&Comparison) -> &Pair, b: fn(&Comparison) -> &Pair| {
        subtract(&results.compared(|c| pick(a(c))), &results.compared(|c| pick(b(c))))
    };
    vec![
        loss_draft("moe_dense", dense, "a dense layer of the same active width"),
        loss_draft("moe_wide", wide, "a dense layer of the same total width"),
        loss_draft("moe_topk", Family::TopKDense, "an unrouted layer that is as wide and as sparse"),
        Draft {
            key: "width".into(),
            metric: "effective width",
            unit: "doublings",
            contrast: format!("log2(effective width of {moe} / d_ff)"),
            null: "0: as wide as its active part",
            table: "q2_width",
            values: widths.log2_ratio.clone(),
            margin: None,
            wording: Wording {
                above: "granular MoE is worth a dense layer wider than its active part".into(),
                below: "granular MoE is worth a dense layer narrower than its active part".into(),
                same: "granular MoE is worth a dense layer of its active width".into(),
                open: "not decided: how wide a dense layer granular MoE is worth".into(),
            },
        },
        Draft {
            key: "position".into(),
            metric: "CKA after the last block",
            unit: "CKA",
            contrast: format!("({moe}, {wide}′) − ({wide}, {wide}′)"),
            null: "0: as similar to a wide model as another wide model is",
            table: "q2_similarity",
            values: pairs(Pair::last_similarity, |c| &c.moe_wide, |c| &c.wide_wide),
            margin: Some(margins.similarity),
            wording: compare(
                "the representation of MoE",
                "similarity to a wide model",
                "another wide model's",
            ),
        },
        Draft {
            key: "floor".into(),
            metric: "CKA after the last block",
            unit: "CKA",
            contrast: format!("({moe}, {wide}′) − ({moe}, untrained {wide}′)"),
            null: "0: no more similar than to an untrained model",
            table: "q2_similarity",
            values: pairs(Pair::last_similarity, |c| &c.moe_wide, |c| &c.moe_untrained),
            margin: None,
            wording: compare(
                "MoE",
                "similarity to a trained wide model",
                "what it has with an untrained one",
            ),
        },
        Draft {
            key: "agreement".into(),
            metric: "correlation of per-token losses",
            unit: "correlation",
            contrast: format!("({moe}, {wide}′) − ({wide}, {wide}′)"),
            null: "0: errs on the same tokens as another wide model does",
            table: "q2_similarity",
            values: pairs(|p| p.loss_correlation, |c| &c.moe_wide, |c| &c.wide_wide),
            margin: Some(margins.correlation),
            wording: compare("MoE", "agreement with a wide model about hard tokens", "another wide model"),
        },
    ]
}

/// Rule: the first sentence says what MoE is worth in loss, from its claims against the active and the total width; the
/// second whether sparsity alone explains it, from the unrouted control; the third whether its representation is that of
/// a wide layer, from its place between floor and ceiling.
fn verdict(results: &Results, claims: &[Claim], widths: &Widths) -> String {
    let claims = Claims(claims);
    let gain = match (claims.decision("moe_dense"), claims.decision("moe_wide")) {
        (Decision::Below, Decision::Same | Decision::Below) => {
            "In loss, granular MoE is worth the very wide layer at a fraction of its compute."
        }
        (Decision::Below, Decision::Above) => {
            "In loss, granular MoE lies between a dense layer of its active width and one of its total width: better than the \
             first, worse than the second."
        }
        (Decision::Below, Decision::Open) => {
            "In loss, granular MoE beats a dense layer of its active width; against one of its total width nothing is decided."
        }
        (Decision::Same, _) => {
            "In loss, granular MoE is worth no more than a dense layer of its active width at this budget."
        }
        (Decision::Above, _) => {
            "In loss, granular MoE is worse than a dense layer of its active width at this budget."
        }
        (Decision::Open, Decision::Above) => {
            "In loss, granular MoE falls short of a dense layer of its total width; against one of its active width nothing is \
             decided."
        }
        (Decision::Open, _) => {
            "Whether granular MoE differs in loss from a dense layer of its active width is not decided."
        }
    };
    let sparsity = match claims.decision("moe_topk") {
        Decision::Below => {
            "It beats an unrouted layer that is as wide and as sparse, so sparsity alone does not explain it."
        }
        Decision::Above => {
            "An unrouted layer that is as wide and as sparse is better, so the router costs more than it gives."
        }
        Decision::Same => {
            "An unrouted layer that is as wide and as sparse does as well, so sparsity explains the loss."
        }
        Decision::Open => "Whether routing or mere sparsity is behind it is not decided.",
    };
    let nature = match claims.decision("position") {
        Decision::Same => "It represents text as another wide layer would, within the margin.",
        Decision::Below => {
            "Its representation is its own: less similar to a wide layer's than two wide layers are to each other."
        }
        Decision::Above => {
            "Its representation is even nearer to a wide layer's than another wide layer's is."
        }
        Decision::Open => "Whether its representation is that of a wide layer is not decided.",
    };
    format!("{gain} {} {sparsity} {nature}", worth(results, &claims, widths))
}

fn worth(results: &Results, claims: &Claims<'_>, widths: &Widths) -> String {
    let ratio = mean(&widths.log2_ratio).exp2();
    let bound = if widths.below + widths.above == widths.log2_ratio.len() {
        "at the end of the measured range, "
    } else {
        ""
    };
    format!(
        "Its effective width is {bound}{} times its active width, of {} in total ({} doublings).",
        digits(ratio),
        results.config.model.expansion,
        with_interval_plain(claims)
    )
}

fn with_interval_plain(claims: &Claims<'_>) -> String {
    with_interval(claims.get("width")).replace(" doublings", "")
}

fn width_exhibit(results: &Results, widths: &Widths) -> Result<(Table, Figure), StudyError> {
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
            "Granular MoE reaches the loss of a dense layer of {} times its active width",
            digits(mean(&widths.log2_ratio).exp2())
        ),
        caption: "Validation loss against the width of the feed-forward layer. MoE and top-k are drawn at their total width; \
                  each token passes through 1 × d_ff of it. Bands and bars are 95 % t-intervals over seeds."
            .into(),
        table: "q2_width".into(),
        kind: FigureKind::Lines { x: "width".into(), y: "loss".into(), series: Some("kind".into()), log2_x: true },
    };
    Ok((table, figure))
}

fn similarity_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
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
