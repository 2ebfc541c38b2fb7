mod claims;
mod exhibits;

use moescope_analysis::effective_width::{EquivalentWidth, effective_width};
use moescope_base::{Answer, QuestionId};

use super::claims_exhibit;
use crate::claim::{Claim, Claims, Decision, decide};
use crate::conclusion::{Chapter, answer as put_together};
use crate::results::{Results, loss, mean};
use crate::tabulate::{digits, with_interval};
use crate::{Family, StudyError};

/// Q2: is MoE a very wide layer, or something of its own?
pub(crate) fn answer(results: &Results) -> Result<(Answer, Chapter), StudyError> {
    let widths = Widths::of(results)?;
    let claims = decide(claims::drafts(results, &widths))?;
    let (mut tables, mut figures) = claims_exhibit("q2", "MoE against dense models", &claims)?;
    for (table, figure) in [exhibits::width_exhibit(results)?, exhibits::similarity_exhibit(results)?] {
        tables.push(table);
        figures.push(figure);
    }
    let mut limits = vec![
        "Loss and similarity of representations at one size and budget; the balance shifts with training length.".to_owned(),
        "CKA compares the geometry of representations, not what the models do with them.".into(),
        "The unrouted model is as sparse, not as cheap: it computes every activation before it drops most of them. It differs from MoE in \
         two things, since it has no router and chooses single neurons, so the comparison cannot tell which of them matters."
            .into(),
        super::RATES_ON_THEIR_OWN_LOSSES.into(),
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
        id: "q2".into(),
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

    /// What must be said where the effective width is a bound and not an estimate; nothing if every seed lies inside the range.
    fn note(&self) -> Option<String> {
        (self.below + self.above > 0).then(|| {
            format!(
                "In {} of {} seeds the MoE's loss lies outside the range of the dense models ({} above the narrowest one's, {} \
                 below the widest one's).",
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

/// Rule: the first sentence says what MoE is worth in loss, from its claims against the active and the total width; the
/// second how a layer does that is as sparse without routing, from the unrouted control, which also chooses neurons rather
/// than experts and computes the whole width; the third whether its representation is that of
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
    let arithmetic = format!("{} times the feed-forward arithmetic", results.config.model.expansion);
    let sparsity = match claims.decision("moe_topk") {
        Decision::Below => {
            "It beats an unrouted layer that is as wide and as sparse, so sparsity alone does not explain it."
                .into()
        }
        Decision::Above => format!(
            "An unrouted layer that is as wide and as sparse is better, at {arithmetic}; what is lost to routing and what to choosing \
             whole experts rather than neurons is not told apart."
        ),
        Decision::Same => format!(
            "An unrouted layer that is as wide and as sparse does as well, within the margin, at {arithmetic}; whether both owe their \
             loss to sparsity, or what routing and what choosing whole experts rather than neurons do cancel out, is not told apart."
        ),
        Decision::Open => "Whether routing or mere sparsity is behind it is not decided.".into(),
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

/// The effective width in a sentence: a number only where the claim about it is decided and no seed gave a mere bound.
fn worth(results: &Results, claims: &Claims<'_>, widths: &Widths) -> String {
    if let Some(note) = widths.note() {
        return format!("Its effective width is known as a bound only: {}.", lower_first(&note));
    }
    let interval = with_interval_plain(claims);
    match claims.decision("width") {
        Decision::Open => {
            format!("Its effective width is not decided (log2 of its ratio to the active width: {interval}).")
        }
        _ => format!(
            "Its effective width is {} times its active width, of {} in total (log2: {interval}).",
            digits(mean(&widths.log2_ratio).exp2()),
            results.config.model.expansion
        ),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The effective width in doublings with its interval, without repeating the unit.
fn with_interval_plain(claims: &Claims<'_>) -> String {
    with_interval(claims.get("width")).replace(" doublings", "")
}
