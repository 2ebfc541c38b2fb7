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
        "domain_selective",
        "lens_works",
        "attribution_works",
        "probe_equal",
        "domain_equal",
        "lens_equal",
        "attribution_equal",
    ];
    let answer = put_together(QuestionId::Q1, verdict(results, &claims), &needed, &claims, &limits);
    let chapter = Chapter {
        id: "q1".into(),
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
/// *transfers with loss* if it beats its control and is worse than on dense; *fails* if it does not rise above its
/// control; otherwise it is not decided. The probe for domains has two controls to beat, chance and its control task. The verdict
/// lists the techniques by how they fare.
fn verdict(results: &Results, claims: &[Claim]) -> String {
    let claims = Claims(claims);
    let techniques = [
        ("the linear probe for token classes", Fate::of(&claims, "probe")),
        (
            "the linear probe for domains",
            Fate::of(&claims, "domain").beyond(claims.decision("domain_selective")),
        ),
        ("the logit lens", Fate::of(&claims, "lens")),
        ("gradient attribution", Fate::of(&claims, "attribution")),
    ];
    let list = |fate: Fate| {
        let names: Vec<String> =
            techniques.iter().filter(|(_, f)| *f == fate).map(|(name, _)| (*name).to_owned()).collect();
        (!names.is_empty()).then(|| format!("{}: {}.", fate.in_words(), enumerate(&names)))
    };
    let lists = Fate::ALL.into_iter().filter_map(list);
    let memory = (claims.decision("domain_works") == Decision::Above
        && claims.decision("domain_selective") != Decision::Above)
        .then(|| {
            "The probe for domains beats chance, but is not decided to read them better than random labels of tokens, so vocabulary may be all that it reads."
                .to_owned()
        });
    lists.chain(memory).chain([flips(results, &claims)]).collect::<Vec<_>>().join(" ")
}

/// How often edits flip routes, and what that does to attribution.
fn flips(results: &Results, claims: &Claims<'_>) -> String {
    let share = mean(&results.language(results.primary(), |m| m.attribution.as_ref().map(|a| a.flip_share)));
    let cost = match claims.decision("flip_cost") {
        Decision::Above => "which makes attribution err more than with the routes held",
        Decision::Below => "yet attribution errs less than with the routes held",
        Decision::Same => "without making attribution worse than with the routes held",
        Decision::Open => {
            "and whether that makes attribution err more than with the routes held is not decided"
        }
    };
    format!("{} % of the single-position edits flip a route somewhere, {cost}.", digits(100.0 * share))
}

/// How a technique fares on MoE; see [`verdict`] for the rule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Equal,
    Better,
    Worse,
    Works,
    Fails,
    Open,
}

impl Fate {
    /// All of them, in the order in which a verdict lists them.
    const ALL: [Fate; 6] = [Fate::Equal, Fate::Better, Fate::Worse, Fate::Works, Fate::Fails, Fate::Open];

    /// From the claim of a technique against its control and its claim against dense.
    fn of(claims: &Claims<'_>, technique: &str) -> Fate {
        let decision = |what: &str| claims.decision(&format!("{technique}_{what}"));
        match (decision("works"), decision("equal")) {
            (Decision::Open, _) => Fate::Open,
            (Decision::Below | Decision::Same, _) => Fate::Fails,
            (Decision::Above, Decision::Same) => Fate::Equal,
            (Decision::Above, Decision::Above) => Fate::Better,
            (Decision::Above, Decision::Below) => Fate::Worse,
            (Decision::Above, Decision::Open) => Fate::Works,
        }
    }

    /// The fate of a technique that has a second control to beat.
    fn beyond(self, second: Decision) -> Fate {
        match (self, second) {
            (Fate::Fails, _) | (_, Decision::Above) => self,
            (_, Decision::Below | Decision::Same) => Fate::Fails,
            (_, Decision::Open) => Fate::Open,
        }
    }

    /// The words that stand before the list of techniques.
    fn in_words(self) -> &'static str {
        match self {
            Fate::Equal => "Transfers to granular MoE, as good as on dense within the margin",
            Fate::Better => "Transfers to granular MoE, better than on dense",
            Fate::Worse => "Transfers to granular MoE with loss",
            Fate::Works => "Works on granular MoE, though whether as well as on dense is not decided",
            Fate::Fails => "Fails on granular MoE",
            Fate::Open => "Not decided whether it works on granular MoE",
        }
    }
}
