//! Activation patching: two texts that differ in one token, and what one activation of the one does in the other.

mod cases;
mod figures;
mod gives;
mod instrument;
mod measure;
mod passes;
mod sums;
mod tables;
#[cfg(test)]
mod tests;
mod titles;

use moescope_base::{FeedForwardShape, HookPoint, Observation, Site, Subject, SubjectShape};

pub use cases::Tried;
pub use instrument::ActivationPatching;

use crate::depth::spread_over;
use crate::statistics::{Bootstrap, Resampling};
use crate::{AnalysisError, Sample, check};
use cases::Case;
use passes::Pair;
use sums::Sums;

const METHOD: &str = "activation patch";
/// Heads of a block that are patched, at most; evenly spaced where there are more.
const HEADS: usize = 16;
/// Experts of a token that are patched alone, those with the largest weights first.
const SLOTS: usize = 2;

/// Which prediction is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    /// That of the token right after the exchanged one.
    Next,
    /// A later one, which sees the exchanged token through attention alone.
    Later,
}

impl Read {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Read::Next => "next",
            Read::Later => "later",
        }
    }
}

/// At which token an activation is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The exchanged token itself.
    Exchanged,
    /// The first token after it.
    First,
    /// The second token after it.
    Second,
    /// The token after which the prediction is read.
    Reader,
}

impl Place {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Place::Exchanged => "exchanged",
            Place::First => "1 after",
            Place::Second => "2 after",
            Place::Reader => "reader",
        }
    }
}

/// Which activation is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The residual stream after a block.
    Stream,
    /// What attention adds: all heads together.
    Attention,
    /// What the feed-forward layer adds: all chosen experts together.
    FeedForward,
    /// What one expert adds: the one that has this rank, from 0, by its weight in the clean text.
    Ranked(usize),
    /// What one expert adds, of the cases in which the clean text has it among its first two.
    Expert(usize),
    /// What one head has gathered, before it is written.
    Head(usize),
    /// The choice of experts in all routed layers at all tokens, and nothing else.
    Routes,
}

impl Part {
    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Part::Stream => "stream".to_owned(),
            Part::Attention => "attention".to_owned(),
            Part::FeedForward => "feed-forward".to_owned(),
            Part::Ranked(0) => "first expert".to_owned(),
            Part::Ranked(1) => "second expert".to_owned(),
            Part::Ranked(rank) => format!("expert of rank {}", rank + 1),
            Part::Expert(expert) => format!("expert {expert}"),
            Part::Head(head) => format!("head {head}"),
            Part::Routes => "routes".to_owned(),
        }
    }
}

/// Which text is run, and which gives the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The corrupted text is run, with an activation of the clean one: does that suffice to bring its prediction back?
    Denoise,
    /// The clean text is run, with an activation of the corrupted one: is what it had there needed?
    Noise,
}

impl Direction {
    /// Both of them.
    pub const BOTH: [Direction; 2] = [Direction::Denoise, Direction::Noise];
}

/// One activation: what, in which block, at which token, for which prediction. Routes are those of all blocks and tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Which prediction is looked at.
    pub read: Read,
    /// Block; 0 of routes, which are those of all.
    pub layer: usize,
    /// Which activation.
    pub part: Part,
    /// At which token; the exchanged one of routes, which are those of all.
    pub place: Place,
}

/// What is patched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PatchOptions {
    /// Blocks in which activations are exchanged, at most; evenly spaced where there are more.
    pub layers: usize,
    /// Tokens of each sequence that are tried as the one to exchange.
    pub candidates: usize,
    /// Intervals over documents.
    pub resampling: Resampling,
}

/// How far one activation moves the prediction of the text that is run towards that of the text that gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Share of the way, in the difference of two logits.
    pub share: Bootstrap,
    /// The same with the vector of an unrelated sequence.
    pub null: f64,
    /// Of no difference between the two, two-sided: Student's t of their differences over documents.
    pub p_value: f64,
    /// Share of the divergence between the two predictions that is gone.
    pub kl: Bootstrap,
    /// The same with the vector of an unrelated sequence.
    pub kl_null: f64,
}

/// What one activation carries of the difference between two texts that are alike but for one token.
///
/// The clean text is a sequence; the corrupted one has, at one place, the token that the next sequence of the batch has there. With `a` the most
/// probable next token of the clean text and `b` that of the corrupted one, the measure is `logit(a) − logit(b)`, which is 0 or more in the clean run and 0 or
/// less in the corrupted one.
///
/// - **Unit and range:** `share` is the change of the measure from that of the run without a patch, over the whole difference of the two texts: 0 if nothing
///   moves, 1 if the prediction is the other text's; it can be above 1 or below 0. `kl` is one less the divergence from the other text's prediction
///   with the patch over that without it: at most 1, below 0 if the patch leads away. Ratios of sums over cases; intervals resample documents.
/// - **Null:** the vector that an unrelated sequence of the batch has at the same place of its own pair, in the run that gives the activation.
/// - **Small denominators:** cases in which both texts predict the same token, or the difference is below half a nat, are left out and counted in
///   [`Tried`]; what is left counts by its difference.
/// - **Does not show:** which way an effect takes from there on (see `path-patch`), nor what happens where other tokens are exchanged: of
///   several in a sequence the one is taken that moves the prediction most.
/// - **Source:** Heimersheim and Nanda 2024 (arXiv 2404.15255), noising and denoising; Zhang and Nanda 2023 (arXiv 2309.16042), exchanged tokens in the
///   place of noise and logit difference in the place of probability; here with single experts and routes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carried {
    /// Which activation.
    pub spot: Spot,
    /// The corrupted text with an activation of the clean one.
    pub denoised: Moved,
    /// The clean text with an activation of the corrupted one.
    pub noised: Moved,
    /// Pairs of texts.
    pub cases: usize,
}

/// What was tried, and what it gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What became of the sequences, of each kind of prediction.
    pub tried: Vec<Tried>,
    /// One for each activation, in the order of spots.
    pub carried: Vec<Carried>,
}

/// Exchanges activations between each sequence and the same with one token exchanged, in both directions.
///
/// # Errors
/// If the subject cannot answer, no batch has two sequences, or exchanged tokens change no prediction in four documents.
pub fn activation_patch(
    subject: &mut dyn Subject,
    samples: &[Sample],
    options: PatchOptions,
) -> Result<Found, AnalysisError> {
    let layers: Vec<usize> = spread_over(subject.shape().layers(), options.layers).collect();
    let (mut sums, mut tried) = (Sums::default(), [Read::Next, Read::Later].map(Tried::none));
    for sample in samples {
        if sample.tokens().batch() == 1 {
            tried.iter_mut().for_each(Tried::enter_lone);
            continue;
        }
        let clean = passes::observe(subject, sample.tokens(), &layers)?;
        let pairs = cases::find(subject, sample, &clean, options.candidates, &mut tried)?;
        for (read, cases) in [Read::Next, Read::Later].into_iter().zip(pairs) {
            if !cases.is_empty() {
                patch(subject, sample, (&clean, &layers), (read, &cases), &mut sums)?;
            }
        }
    }
    let carried = sums.carried(options.resampling)?;
    check::at_least(
        METHOD,
        "predictions of four documents, in batches of two sequences and more, that an exchanged token changes",
        carried.len(),
        1,
    )?;
    Ok(Found { tried: tried.to_vec(), carried })
}

/// Exchanges one activation of every case at a time.
fn patch(
    subject: &mut dyn Subject,
    sample: &Sample,
    (clean, layers): (&Observation, &[usize]),
    (read, cases): (Read, &[Case]),
    sums: &mut Sums,
) -> Result<(), AnalysisError> {
    let pair = Pair::observe(subject, sample, (clean, layers), cases)?;
    for spot in spots(subject.shape(), layers, read) {
        for direction in Direction::BOTH {
            let own = pair.patched(subject, spot, direction, false)?;
            let foreign = pair.patched(subject, spot, direction, true)?;
            for (case, (own, foreign)) in own.iter().zip(&foreign).enumerate() {
                let apart = &pair.apart[case];
                let here = sums::moved(apart, direction, own, foreign);
                sums.add(spot, direction, cases[case].document, here);
                if let (Read::Next, Part::Ranked(rank)) = (read, spot.part) {
                    let expert = Part::Expert(pair.expert(spot.layer, cases[case].exchanged, rank)?);
                    sums.add(Spot { part: expert, ..spot }, direction, cases[case].document, here);
                }
            }
        }
    }
    Ok(())
}

/// What is patched where, block by block.
///
/// Of the next prediction the stream is left out: there is one token at which the texts differ, and its stream after any block is all that the rest of
/// the model has of the difference. Single heads carry what a later token reads, so they are patched at the reader alone.
fn spots(shape: &SubjectShape, layers: &[usize], read: Read) -> Vec<Spot> {
    let routed = shape.routed_layers();
    let mut found = Vec::new();
    if !routed.is_empty() {
        found.push(Spot { read, layer: 0, part: Part::Routes, place: Place::Exchanged });
    }
    for layer in layers {
        let ranked = match shape.feed_forward[*layer] {
            FeedForwardShape::Routed { per_token, .. } => per_token.min(SLOTS),
            FeedForwardShape::Dense { .. } => 0,
        };
        let spot = |part: Part, place: Place| Spot { read, layer: *layer, part, place };
        let whole = [Part::Attention, Part::FeedForward];
        let places = [Place::Exchanged, Place::First, Place::Second, Place::Reader];
        match read {
            Read::Next => {
                let parts = whole.into_iter().chain((0..ranked).map(Part::Ranked));
                found.extend(parts.map(|part| spot(part, Place::Exchanged)));
            }
            Read::Later => {
                found.extend(places.map(|place| spot(Part::Stream, place)));
                for part in whole.into_iter().chain((ranked > 0).then_some(Part::Ranked(0))) {
                    found.extend([Place::Exchanged, Place::Reader].map(|place| spot(part, place)));
                }
                let heads = if has_heads(shape) { shape.heads } else { 0 };
                found.extend(spread_over(heads, HEADS).map(|head| spot(Part::Head(head), Place::Reader)));
            }
        }
    }
    found
}

/// Whether single heads are values of their own; where attention weights experts they are not.
fn has_heads(shape: &SubjectShape) -> bool {
    shape.options.has(Site::AttnResult)
}

/// Values that the passes of the two texts keep: those of both stand in memory together.
pub fn looked_at(shape: &SubjectShape) -> Vec<HookPoint> {
    let layers: Vec<usize> = spread_over(shape.layers(), instrument::LAYERS).collect();
    let one = passes::looked_at(shape, &layers);
    [one.clone(), one].concat()
}
