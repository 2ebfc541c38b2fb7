mod claims;
mod exhibits;

use moescope_base::{Answer, QuestionId};

use self::claims::on_paths;
use super::{claims_exhibit, enumerate};
use crate::StudyError;
use crate::claim::{Claim, Claims, Decision, decide};
use crate::conclusion::{Chapter, answer as put_together};
use crate::measure::PathMeasure;
use crate::results::{Results, mean};
use crate::tabulate::{count_in_words, digits};

/// Q4: what the many paths do.
pub(crate) fn answer(results: &Results) -> Result<(Answer, Chapter), StudyError> {
    let claims = decide(claims::drafts(results))?;
    let (mut tables, mut figures) = claims_exhibit("q4", "Paths and what restricting them does", &claims)?;
    for (table, figure) in [
        exhibits::restriction_exhibit(results)?,
        exhibits::number_exhibit(results)?,
        exhibits::coverage_exhibit(results)?,
        exhibits::information_exhibit(results)?,
    ] {
        tables.push(table);
        figures.push(figure);
    }
    let limits = vec![
        "The restriction acts on a trained model that never learned to live with few paths; one trained under it might lose less."
            .to_owned(),
        "Hash and random routes use equal weights that sum to 1, learned ones their raw scores. The claims against learned routing \
         with renormalised weights keep the sum alike; equal weights remain a difference."
            .into(),
        "Few sets are also few experts: K sets of G experts reach K × G of them at most. And under raw softmax weights a token in a \
         set that it did not prefer gets a smaller output. Both add to what the restriction costs."
            .into(),
        "A path joins its layers, so it cannot truly tell less than one of them; with nearly as many paths as tokens the correction \
         of the estimate is weak."
            .into(),
        "The number of paths is estimated from a sample and is in effect a lower bound; that of shuffled layers, which are more, is too \
         low by more."
            .into(),
        "K sets in each layer allow up to K paths to the power of the layers: the restriction is of sets, not of paths.".into(),
    ];
    let needed = ["few", "committee", "random", "frozen", "hash"];
    let answer = put_together(QuestionId::Q4, verdict(results, &claims), &needed, &claims, &limits);
    let chapter = Chapter {
        id: "q4".into(),
        question: Some(QuestionId::Q4),
        heading: "What do the many paths do?".into(),
        prose: vec![
            "The path of a token is the sequence of the expert sets that it chose, layer by layer. Counting paths says how many \
             are used; only taking them away says what they are for."
                .into(),
        ],
        figures,
        tables,
        method: vec![
            "Restriction: from a trace of training text the K most used sets of each layer are kept; on validation text every \
             token takes the allowed set whose scores have the largest sum. Control: K observed sets drawn at random."
                .into(),
            "Committee routing trains fine experts that can be chosen only in fixed groups: the weights are as granular, the \
             choice is as coarse as at granularity 1."
                .into(),
            "Number of paths: exponential of the Chao–Shen entropy (Chao and Shen 2003), beside the number when the layers' sets \
             are shuffled independently. Information: mutual information minus the mean of a permutation null."
                .into(),
        ],
        limits,
    };
    Ok((answer, chapter))
}

/// Rule: the first sentence says whether few sets suffice (the restriction), the second whether free combination of fine
/// experts matters (the committee control), the third whether a learned choice matters (random, frozen, hash).
fn verdict(results: &Results, claims: &[Claim]) -> String {
    let claims = Claims(claims);
    let moe = results.primary();
    let sets = &results.config.instruments.restriction;
    let number = count_in_words(mean(&results.language(moe, on_paths(PathMeasure::effective))));
    let possible = count_in_words(mean(&results.language(moe, on_paths(|p| p.log2_possible))).exp2());
    let few = &claims.get("few").evidence;
    let restriction = match (claims.decision("few"), claims.decision("many")) {
        (Decision::Same, _) => {
            format!("The {} most used sets per layer would do, within the margin.", sets[0])
        }
        (Decision::Above, Decision::Same) => format!(
            "This trained model needs more than a few expert sets: with {} per layer the loss rises by {} nats, with the {} most used it stays within the margin.",
            sets[0],
            digits(few.estimate),
            sets[sets.len() - 1]
        ),
        (Decision::Above, Decision::Above) => format!(
            "This trained model needs more than a few expert sets: with {} per layer the loss rises by {} nats, and even {} do not suffice.",
            sets[0],
            digits(few.estimate),
            sets[sets.len() - 1]
        ),
        (Decision::Above, _) => {
            format!(
                "This trained model needs more than a few expert sets: with {} per layer the loss rises by {} nats.",
                sets[0],
                digits(few.estimate)
            )
        }
        (Decision::Below, _) => {
            format!("The model does better when it may use only {} sets per layer.", sets[0])
        }
        (Decision::Open, _) => "Whether a few of them would do is not decided.".to_owned(),
    };
    let combination = match claims.decision("committee") {
        Decision::Above => "Combining fine experts freely is better than choosing them in fixed groups.",
        Decision::Below => "Choosing fine experts in fixed groups is even better than combining them freely.",
        Decision::Same => "Combining fine experts freely gains nothing over fixed groups, within the margin.",
        Decision::Open => {
            "Whether combining fine experts freely gains anything over fixed groups is not decided."
        }
    };
    format!(
        "Of {possible} possible paths the tokens use about {number}. {restriction} {combination} {}",
        learning(&claims)
    )
}

/// The third sentence of the verdict: what a learned choice is worth beside each way of not learning it.
fn learning(claims: &Claims<'_>) -> String {
    let controls =
        [("random", "random routes"), ("frozen", "an untrained router"), ("hash", "routes by token id")];
    let of = |wanted: Decision| -> Vec<String> {
        let chosen = controls.iter().filter(|(key, _)| claims.decision(key) == wanted);
        chosen.map(|(_, name)| (*name).to_owned()).collect()
    };
    let sentence = |names: Vec<String>, text: &str| {
        (!names.is_empty()).then(|| format!("{text} {}.", enumerate(&names)))
    };
    let parts = [
        sentence(of(Decision::Above), "A learned choice of path beats"),
        sentence(of(Decision::Same), "A learned choice of path does no better, within the margin, than"),
        sentence(of(Decision::Below), "A learned choice of path does worse than"),
        sentence(of(Decision::Open), "Nothing is decided between a learned choice of path and"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
