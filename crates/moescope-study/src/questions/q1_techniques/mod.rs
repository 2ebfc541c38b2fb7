mod claims;
mod exhibits;

use moescope_base::{Answer, QuestionId};

use super::{claims_exhibit, enumerate};
use crate::StudyError;
use crate::claim::{Claim, Claims, Decision, decide};
use crate::conclusion::{Chapter, answer as put_together};
use crate::results::{Results, mean};
use crate::tabulate::digits;

/// Q1: linear probe, logit lens and gradient attribution, on dense models and on MoE.
pub(crate) fn answer(results: &Results) -> Result<(Answer, Chapter), StudyError> {
    let claims = decide(claims::drafts(results)?)?;
    let (mut tables, mut figures) = claims_exhibit("q1", "Techniques on MoE and on dense models", &claims)?;
    for (table, figure) in [
        exhibits::technique_exhibit(results)?,
        exhibits::lens_exhibit(results)?,
        exhibits::flip_exhibit(results)?,
    ] {
        tables.push(table);
        figures.push(figure);
    }
    let limits = vec![
        "Three techniques, on small models; others may fare differently.".to_owned(),
        "A probe shows that information can be read out linearly, not that the model uses it.".into(),
        "The attribution test edits one position at a time by mean replacement; larger edits flip more routes.".into(),
    ];
    let needed = [
        "probe_works",
        "domain_works",
        "lens_works",
        "attribution_works",
        "probe_equal",
        "domain_equal",
        "lens_equal",
        "attribution_equal",
    ];
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

/// What a reader needs to know about the three techniques and their controls.
fn method() -> Vec<String> {
    vec![
        "Linear probe: multinomial logistic regression with L2 on the residual stream after the last block, predicting the \
             class of the next token and the domain of the text; folds never share a document. Selectivity = accuracy − accuracy on a control task in which every token type \
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

/// Rule: a technique *transfers* if it beats its control on MoE and equals dense within the margin, or is better;
/// *transfers with loss* if it beats its control and is worse than on dense; *fails* if it falls below its control;
/// otherwise it is not decided.
fn verdict(results: &Results, claims: &[Claim]) -> String {
    let claims = Claims(claims);
    let memory = match claims.decision("domain_selective") {
        Decision::Above => "",
        _ => " (but no better than it reads random labels of tokens, so vocabulary may be all it reads)",
    };
    let parts = [
        format!("the linear probe for token classes {}", transfer(&claims, "probe_works", "probe_equal")),
        format!("the one for domains {}{memory}", transfer(&claims, "domain_works", "domain_equal")),
        format!("the logit lens {}", transfer(&claims, "lens_works", "lens_equal")),
        format!("gradient attribution {}", transfer(&claims, "attribution_works", "attribution_equal")),
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

/// How a technique fares, from its claim against its control and its claim against dense; see [`verdict`] for the rule.
fn transfer(claims: &Claims<'_>, works: &str, equal: &str) -> &'static str {
    match (claims.decision(works), claims.decision(equal)) {
        (Decision::Open, _) => "is not decided",
        (Decision::Below | Decision::Same, _) => "fails",
        (Decision::Above, Decision::Same) => "transfers, as good as on dense within the margin",
        (Decision::Above, Decision::Above) => "transfers, better than on dense",
        (Decision::Above, Decision::Below) => "transfers with loss",
        (Decision::Above, Decision::Open) => "works, but whether as well as on dense is not decided",
    }
}
