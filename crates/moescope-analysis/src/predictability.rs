//! Predictability: how much of a route is known before the model has computed anything.

use std::collections::HashMap;

use moescope_base::{Column, Figure, FigureKind, Seed, Table};
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::{Bootstrap, Resampling, bootstrap};
use crate::tabulate::bootstrap_columns;
use crate::{AnalysisError, check};

/// What a route is guessed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Predictor {
    /// Nothing: the most used experts of the layer.
    Load,
    /// The position in the window.
    Position,
    /// The token.
    Token,
    /// The token and the one before it.
    Bigram,
}

impl Predictor {
    /// All of them, the weakest first.
    pub const ALL: [Predictor; 4] =
        [Predictor::Load, Predictor::Position, Predictor::Token, Predictor::Bigram];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Predictor::Load => "load alone",
            Predictor::Position => "position",
            Predictor::Token => "token",
            Predictor::Bigram => "token and the one before",
        }
    }

    /// What it sees of a token; where it has seen too little, what the weaker one below it sees.
    fn sees(self, tokens: &TokenTable, token: usize) -> u64 {
        let id = u64::from(tokens.ids[token]);
        let follows = token > 0
            && tokens.documents[token - 1] == tokens.documents[token]
            && tokens.positions[token - 1].checked_add(1) == Some(tokens.positions[token]);
        match self {
            Predictor::Load => 0,
            Predictor::Position => u64::from(tokens.positions[token]),
            Predictor::Token => id,
            Predictor::Bigram if follows => (u64::from(tokens.ids[token - 1]) + 1) << 32 | id,
            Predictor::Bigram => id,
        }
    }

    /// What is asked where this one has never seen the case.
    fn weaker(self) -> Option<Predictor> {
        match self {
            Predictor::Load => None,
            Predictor::Position | Predictor::Token => Some(Predictor::Load),
            Predictor::Bigram => Some(Predictor::Token),
        }
    }
}

/// How well one predictor guesses the routes of one layer, on documents that it has not seen.
///
/// - **Unit and range:** `overlap` is the mean share of a token's experts that are guessed, from 0 to 1.
/// - **Null:** the predictor `load alone`: it knows the layer's most used experts and nothing of the token. Uniform loads put it at
///   k / experts. `gain` is the paired difference from it, 0 where there is nothing to find; the interval of `overlap` alone is no test
///   against it, since the null is an estimate from the same documents.
/// - **Does not show:** that the router looks at the token and not at what goes with it; and a table of counts is a weak
///   reader: what it cannot guess may still follow from the token by another rule.
/// - **Source:** the baseline that claims of specialisation need; compare the token-level routing of OpenMoE (Xue et al. 2024).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerPredictability {
    /// Block.
    pub layer: usize,
    /// What is known.
    pub predictor: Predictor,
    /// Mean share of a token's experts that are guessed, with a 95 % interval over documents.
    pub overlap: Bootstrap,
    /// The same minus that of the predictor `load alone` on the same documents: above 0 where what is seen tells something.
    pub gain: Bootstrap,
    /// Share of the tokens whose case the predictor itself has seen in training, from 0 to 1.
    pub seen: f64,
}

/// Learns each predictor on a random half of the documents and judges it on the other.
///
/// The guess is as many experts as a token chooses: those that were chosen most often in the same case. The halves do not change
/// places for a second judgement: what both directions find varies together, and an interval over documents would not know it.
///
/// # Errors
/// If there are fewer than four documents, or the intervals cannot be made.
pub fn predictability(
    trace: &RoutingTrace,
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<LayerPredictability>, AnalysisError> {
    let halves = Halves::new(trace.tokens(), seed)?;
    let jobs: Vec<(&LayerRouting, Predictor)> =
        trace.layers().iter().flat_map(|layer| Predictor::ALL.map(|predictor| (layer, predictor))).collect();
    let guessed: Vec<Guessed> =
        jobs.par_iter().map(|(layer, predictor)| guess(trace.tokens(), layer, *predictor, &halves)).collect();
    // The predictors of a layer stand together, `load alone` first.
    let predictors = Predictor::ALL.len();
    let of = |(place, (layer, predictor)): (usize, &(&LayerRouting, Predictor))| {
        let (own, load) = (&guessed[place], &guessed[place - place % predictors]);
        judge(layer.layer, *predictor, own, load, resampling)
    };
    jobs.iter().enumerate().map(of).collect()
}

/// Which half each document is in.
struct Halves {
    /// Document of each token, numbered from 0.
    document: Vec<usize>,
    /// Half of each document: 0 teaches, 1 is judged.
    half: Vec<usize>,
}

impl Halves {
    fn new(tokens: &TokenTable, seed: Seed) -> Result<Halves, AnalysisError> {
        let mut names = tokens.documents.clone();
        names.sort_unstable();
        names.dedup();
        check::at_least("predictability of routes", "documents", names.len(), 4)?;
        let number = |name: &u32| names.binary_search(name).expect("a document of the list");
        let document = tokens.documents.iter().map(number).collect();
        let mut half: Vec<usize> = (0..names.len()).map(|place| place % 2).collect();
        half.shuffle(&mut seed.rng());
        Ok(Halves { document, half })
    }
}

/// How often each expert was chosen in each case.
type Counts = HashMap<u64, Vec<u32>>;

/// What was guessed, by document of the half that is judged.
struct Guessed {
    hits: Vec<f64>,
    slots: Vec<f64>,
    /// Share of the tokens whose case was seen.
    seen: f64,
}

fn guess(tokens: &TokenTable, layer: &LayerRouting, predictor: Predictor, halves: &Halves) -> Guessed {
    let mut chain = vec![predictor];
    while let Some(weaker) = chain[chain.len() - 1].weaker() {
        chain.push(weaker);
    }
    let learn = |step: &Predictor| best(&count(tokens, layer, *step, halves), layer.per_token);
    let learned: Vec<HashMap<u64, Vec<u32>>> = chain.iter().map(learn).collect();
    let judged: Vec<usize> = (0..halves.half.len()).filter(|document| halves.half[*document] == 1).collect();
    let (mut hits, mut slots) = (vec![0.0; judged.len()], vec![0.0; judged.len()]);
    let (mut seen, mut all) = (0usize, 0usize);
    for token in 0..tokens.len() {
        let Ok(document) = judged.binary_search(&halves.document[token]) else { continue };
        let guess =
            chain.iter().zip(&learned).find_map(|(step, guesses)| guesses.get(&step.sees(tokens, token)));
        seen += usize::from(learned[0].contains_key(&predictor.sees(tokens, token)));
        all += 1;
        let chosen = layer.chosen(token);
        let guessed = |expert: &&u32| guess.is_some_and(|guess| guess.contains(expert));
        hits[document] += chosen.iter().filter(guessed).count() as f64;
        slots[document] += chosen.len() as f64;
    }
    Guessed { hits, slots, seen: seen as f64 / all.max(1) as f64 }
}

/// The overlap, and how far it is above that of the loads on the same documents.
fn judge(
    layer: usize,
    predictor: Predictor,
    own: &Guessed,
    load: &Guessed,
    resampling: Resampling,
) -> Result<LayerPredictability, AnalysisError> {
    let share = |drawn: &[usize], of: &dyn Fn(usize) -> f64| {
        let sum = |of: &dyn Fn(usize) -> f64| drawn.iter().map(|document| of(*document)).sum::<f64>();
        sum(of) / sum(&|document| own.slots[document])
    };
    let documents = own.slots.len();
    let overlap = bootstrap(documents, |drawn| share(drawn, &|document| own.hits[document]), resampling)?;
    let beyond = |document: usize| own.hits[document] - load.hits[document];
    let gain = bootstrap(documents, |drawn| share(drawn, &beyond), resampling)?;
    Ok(LayerPredictability { layer, predictor, overlap, gain, seen: own.seen })
}

/// Choices of the documents of the half that teaches.
fn count(tokens: &TokenTable, layer: &LayerRouting, predictor: Predictor, halves: &Halves) -> Counts {
    let mut counts = Counts::new();
    for token in (0..tokens.len()).filter(|token| halves.half[halves.document[*token]] == 0) {
        let of_case = counts.entry(predictor.sees(tokens, token)).or_insert_with(|| vec![0; layer.experts]);
        layer.chosen(token).iter().for_each(|expert| of_case[*expert as usize] += 1);
    }
    counts
}

/// The most chosen experts of each case, the lower number first where two are equal.
fn best(counts: &Counts, per_token: usize) -> HashMap<u64, Vec<u32>> {
    let of_case = |(case, counts): (&u64, &Vec<u32>)| {
        let mut order: Vec<u32> = (0..counts.len() as u32).collect();
        order.sort_by_key(|expert| std::cmp::Reverse(counts[*expert as usize]));
        order.truncate(per_token);
        (*case, order)
    };
    counts.iter().map(of_case).collect()
}

/// One row for each layer and predictor.
///
/// # Errors
/// If the columns make no table.
pub fn table(found: &[LayerPredictability]) -> Result<Table, AnalysisError> {
    let of = |pick: &dyn Fn(&LayerPredictability) -> f64| found.iter().map(pick).collect::<Vec<f64>>();
    let load = |row: &LayerPredictability| {
        let same =
            |other: &&LayerPredictability| other.layer == row.layer && other.predictor == Predictor::Load;
        found.iter().find(same).map_or(f64::NAN, |load| load.overlap.estimate)
    };
    let unit = "share of experts";
    let mut columns = vec![
        Column::integer_key("layer", "", "block", found.iter().map(|row| row.layer as i64).collect()),
        Column::key(
            "known",
            "what the guess is made from",
            found.iter().map(|row| row.predictor.name().to_owned()).collect(),
        ),
        Column::estimate(
            "overlap",
            unit,
            "experts of a token that are guessed",
            of(&|row| row.overlap.estimate),
        ),
    ];
    let (low, high) = (of(&|row| row.overlap.low), of(&|row| row.overlap.high));
    columns.extend(Column::interval("overlap", unit, "95 % bootstrap interval over documents", low, high));
    let documents = found.iter().map(|row| row.overlap.units as i64).collect();
    columns.push(Column::observations("overlap", "documents", documents));
    columns.push(Column::null(
        "overlap",
        unit,
        "the layer's most used experts, whatever the token",
        of(&load),
    ));
    let gains: Vec<Bootstrap> = found.iter().map(|row| row.gain).collect();
    columns.extend(bootstrap_columns(
        "gain",
        unit,
        "beyond those that the loads alone guess, paired",
        &gains,
    ));
    columns.push(Column::null("gain", unit, "what is seen tells nothing", of(&|_| 0.0)));
    columns.push(Column::estimate(
        "seen",
        "share of tokens",
        "the case stood in the other half of the text",
        of(&|row| row.seen),
    ));
    let method = "Counts from one half of the documents, judged on the other; an unseen case falls back to the token, then to \
                  load. Does not show that the router looks at what the guess is made from.";
    Ok(Table::new("predictability", "How much of a route is known beforehand", method, columns)?)
}

/// The instrument `predictability`.
pub struct Predictability;

const BY_TOKEN: Reading = Reading {
    says: "the token tells the route",
    table: "predictability",
    rows: &[("known", "token")],
    value: "gain",
    rule: Rule::MoreThan(0.0),
};
const BY_POSITION: Reading = Reading {
    says: "the position tells the route",
    table: "predictability",
    rows: &[("known", "position")],
    value: "gain",
    rule: Rule::MoreThan(0.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::TokenRoutes, BY_TOKEN),
    Promise::finds(Property::PositionRoutes, BY_POSITION),
    Promise::is_silent(Property::TokenRoutes, BY_POSITION),
    Promise::is_silent(Property::PositionRoutes, BY_TOKEN),
    Promise::is_silent(Property::RandomRoutes, BY_TOKEN),
    Promise::is_silent(Property::RandomRoutes, BY_POSITION),
];

impl Instrument for Predictability {
    fn about(&self) -> About {
        About {
            name: "predictability",
            group: Group::Routing,
            question: "How much of a route follows from the token, from the bigram, or from the position alone?",
            null: "the layer's most used experts, whatever the token",
            does_not_show: "that the router looks at the token and not at what goes with it",
            source: "the baseline behind context-independent specialisation, Xue et al. 2024 (OpenMoE)",
            passes: "one for each batch",
            routed: true,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) = (material.seed.child("halves"), material.resampling("predictability"));
        let found = predictability(material.routes()?, seed, resampling)?;
        let figure = Figure {
            id: "predictability".into(),
            title: finding(&found),
            caption: "Share of a token's experts that are guessed in documents not seen, with 95 % intervals over documents.".into(),
            table: "predictability".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "overlap".into(), series: Some("known".into()) },
        };
        Ok(Finding { tables: vec![table(&found)?], figures: vec![figure] })
    }
}

/// What the token tells, in words.
fn finding(found: &[LayerPredictability]) -> String {
    let mean = |predictor| {
        let of: Vec<f64> =
            found.iter().filter(|row| row.predictor == predictor).map(|row| row.overlap.estimate).collect();
        100.0 * of.iter().sum::<f64>() / of.len().max(1) as f64
    };
    format!(
        "The token alone tells {:.0} % of a route, the bigram {:.0} %; knowing the loads tells {:.0} %",
        mean(Predictor::Token),
        mean(Predictor::Bigram),
        mean(Predictor::Load)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use crate::statistics::BootstrapMethod;
    use proptest::prelude::*;

    const RESAMPLING: Resampling =
        Resampling { replicates: 200, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(3) };

    fn run(
        text: &TokenTable,
        experts: usize,
        per_token: usize,
        choices: Vec<u32>,
    ) -> HashMap<Predictor, LayerPredictability> {
        let trace = planted::trace(text.clone(), experts, per_token, vec![choices]);
        let found = predictability(&trace, Seed(1), RESAMPLING).unwrap();
        found.into_iter().map(|row| (row.predictor, row)).collect()
    }

    fn text() -> TokenTable {
        planted::text(40, 25, 12, &mut Seed(7).rng())
    }

    #[test]
    fn four_documents_by_hand() {
        // Two documents teach the two others, whichever these are. Token 1 goes to 0 in all; token 2 to another expert in each.
        let text = planted::tokens([1, 1, 2].repeat(4), vec![0; 12], (0..12).map(|t| t / 3).collect());
        let found = run(&text, 5, 1, vec![0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4]);
        assert!((found[&Predictor::Token].overlap.estimate - 4.0 / 6.0).abs() < 1e-12);
        assert!((found[&Predictor::Load].overlap.estimate - 4.0 / 6.0).abs() < 1e-12);
        assert_eq!((found[&Predictor::Token].seen, found[&Predictor::Token].gain.estimate), (1.0, 0.0));
    }

    #[test]
    fn routes_by_token_id_are_known_from_the_token_and_not_from_the_position() {
        let text = text();
        let found = run(&text, 6, 1, text.ids.iter().map(|id| id % 6).collect());
        assert_eq!(found[&Predictor::Token].overlap.estimate, 1.0);
        assert!(found[&Predictor::Position].overlap.high < 0.4 && found[&Predictor::Load].overlap.high < 0.4);
    }

    #[test]
    fn routes_by_the_token_before_need_the_bigram() {
        let text = text();
        let before = |t: usize| if text.positions[t] == 0 { 0 } else { text.ids[t - 1] % 3 };
        let found = run(&text, 3, 1, (0..text.len()).map(before).collect());
        assert!(found[&Predictor::Bigram].overlap.low > 0.9, "{found:?}");
        assert!(found[&Predictor::Token].overlap.high < 0.6);
    }

    #[test]
    fn random_routes_are_not_known_from_anything() {
        let text = text();
        let (mut overlaps, mut gains) = (0, 0);
        for seed in 0..200 {
            let choices =
                planted::random_sets(text.len(), 8, 1, |_| 1.0, &mut Seed(seed).child("null").rng());
            let trace = planted::trace(text.clone(), 8, 1, vec![choices]);
            let found = predictability(&trace, Seed(seed), RESAMPLING).unwrap();
            let token = found.iter().find(|row| row.predictor == Predictor::Token).unwrap();
            overlaps += u32::from(token.overlap.low > 1.0 / 8.0);
            gains += u32::from(token.gain.low > 0.0);
        }
        // An interval of 95 % lies wholly above the truth in 2.5 % of the cases: 5 of 200, and 12 in 1 of 400.
        assert!(overlaps <= 12 && gains <= 12, "{overlaps} and {gains} of 200");
    }

    proptest! {
        #[test]
        fn names_of_experts_matter_only_where_counts_tie(seed in any::<u64>()) {
            let text = text();
            let choices = text.ids.iter().map(|id| id % 5).collect();
            let trace = planted::trace(text, 5, 1, vec![choices]);
            let of = |trace: &RoutingTrace| {
                let found = predictability(trace, Seed(1), RESAMPLING).unwrap();
                found.iter().find(|row| row.predictor == Predictor::Token).copied()
            };
            prop_assert_eq!(of(&trace), of(&planted::renamed(&trace, seed)));
        }
    }
}
