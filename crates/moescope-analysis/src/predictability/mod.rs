//! Predictability: how much of a route is known before the model has computed anything, and how much from the cluster of what the router reads.

mod cases;
mod contexts;
mod gives;
mod instrument;
mod router_inputs;
#[cfg(test)]
mod tests;

use moescope_base::{Column, Seed, Table};
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};
use rand::seq::SliceRandom;
use rayon::prelude::*;

pub use contexts::{ContextAgreement, context_agreement};
pub use instrument::Predictability;
pub(crate) use router_inputs::Sorting;
pub use router_inputs::{InputClusters, input_clusters};

use self::cases::{Cases, Guesses};
use crate::statistics::{Bootstrap, LEAST_UNITS, Resampling, bootstrap};
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
    /// The cluster of the vector that the router reads, one of a stated number that were learned on other documents.
    Cluster,
}

impl Predictor {
    /// All of them, the weakest first.
    pub const ALL: [Predictor; 5] =
        [Predictor::Load, Predictor::Position, Predictor::Token, Predictor::Bigram, Predictor::Cluster];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Predictor::Load => "load alone",
            Predictor::Position => "position",
            Predictor::Token => "token",
            Predictor::Bigram => "token and the one before",
            Predictor::Cluster => "cluster of the router's input",
        }
    }

    /// What it sees of a token in the text.
    fn sees(self, tokens: &TokenTable, token: usize) -> u64 {
        let id = u64::from(tokens.ids[token]);
        let follows = token > 0
            && tokens.documents[token - 1] == tokens.documents[token]
            && tokens.positions[token - 1].checked_add(1) == Some(tokens.positions[token]);
        match self {
            Predictor::Load | Predictor::Cluster => 0,
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
            Predictor::Position | Predictor::Token | Predictor::Cluster => Some(Predictor::Load),
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
///   Nor is a cluster a baseline of the text: it is made of the vector that the router itself reads, and says that routes follow the geometry
///   of the stream, of whatever that is made.
/// - **Source:** the baselines that claims of specialisation need; compare the token-level routing of OpenMoE (Xue et al. 2024), and for the
///   geometry of the stream arXiv 2604.09780.
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
/// Clusters must have been learned on the half that teaches, with the same seed; without them their predictor is left out.
///
/// # Errors
/// If there are fewer documents than the judged half needs for an interval, or the intervals cannot be made.
pub fn predictability(
    trace: &RoutingTrace,
    clusters: Option<&InputClusters>,
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<LayerPredictability>, AnalysisError> {
    let halves = Halves::new(trace.tokens(), seed)?;
    let of_text = |predictor: &Predictor| Cases::of_text(*predictor, trace.tokens(), &halves);
    let text: Vec<Cases> = Predictor::ALL[..4].par_iter().map(of_text).collect();
    let of_layer = |(place, layer): (usize, &LayerRouting)| {
        let clusters = clusters.and_then(|clusters| clusters.of.get(place)?.as_deref());
        let clusters = clusters.map(|clusters| Cases::of_clusters(clusters, &halves));
        let cases: Vec<&Cases> = text.iter().chain(&clusters).collect(); // [predictor]
        let learned: Vec<Guesses> = cases.par_iter().map(|cases| cases.learn(layer)).collect();
        let guessed = |predictor: &Predictor| guess(layer, *predictor, (&cases, &learned), &halves);
        let known = &Predictor::ALL[..cases.len()];
        let guessed: Vec<Guessed> = known.par_iter().map(guessed).collect();
        // `load alone` comes first.
        let judged = known.iter().zip(&guessed);
        judged.map(|(of, own)| judge(layer.layer, *of, own, &guessed[0], resampling)).collect()
    };
    let found: Vec<Vec<LayerPredictability>> =
        trace.layers().iter().enumerate().map(of_layer).collect::<Result<_, AnalysisError>>()?;
    Ok(found.into_iter().flatten().collect())
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
        check::at_least("predictability of routes", "documents", names.len(), 2 * LEAST_UNITS)?;
        let number = |name: &u32| names.binary_search(name).expect("a document of the list");
        let document = tokens.documents.iter().map(number).collect();
        let mut half: Vec<usize> = (0..names.len()).map(|place| place % 2).collect();
        half.shuffle(&mut seed.rng());
        Ok(Halves { document, half })
    }

    /// Whether a token is of a document that teaches.
    fn teaches(&self, token: usize) -> bool {
        self.half[self.document[token]] == 0
    }
}

/// What was guessed, by document of the half that is judged.
struct Guessed {
    hits: Vec<f64>,
    slots: Vec<f64>,
    /// Share of the tokens whose case was seen.
    seen: f64,
}

/// What one predictor guesses of a layer, where it has not seen the case what the weaker one guesses; cases and guesses are those of [`Predictor::ALL`].
fn guess(
    layer: &LayerRouting,
    predictor: Predictor,
    (cases, learned): (&[&Cases], &[Guesses]),
    halves: &Halves,
) -> Guessed {
    let guess_of = |of: Predictor, token: usize| learned[of as usize].of(cases[of as usize].of(token));
    let judged: Vec<usize> = (0..halves.half.len()).filter(|document| halves.half[*document] == 1).collect();
    let mut places = vec![None; halves.half.len()];
    judged.iter().enumerate().for_each(|(place, document)| places[*document] = Some(place));
    let (mut hits, mut slots) = (vec![0.0; judged.len()], vec![0.0; judged.len()]);
    let (mut seen, mut all) = (0usize, 0usize);
    for (token, document) in halves.document.iter().enumerate() {
        let Some(place) = places[*document] else { continue };
        let own = guess_of(predictor, token);
        seen += usize::from(own.is_some());
        all += 1;
        let mut weaker = std::iter::successors(predictor.weaker(), |predictor| predictor.weaker());
        let guess = own.or_else(|| weaker.find_map(|predictor| guess_of(predictor, token)));
        let chosen = layer.chosen(token);
        let guessed = |expert: &&u32| guess.is_some_and(|guess| guess.contains(expert));
        hits[place] += chosen.iter().filter(guessed).count() as f64;
        slots[place] += chosen.len() as f64;
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
                  load. Clusters are four for each expert, by k-means of at most 2,000 vectors that the router reads in the first half. Does not show that the router looks at what the guess is made from.";
    Ok(Table::new("predictability", "How much of a route is known beforehand", method, columns)?)
}
