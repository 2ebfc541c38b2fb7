//! Induction heads: heads that look at what followed the last time the present token was there.

mod gives;

use moescope_base::{
    Column, Edit, Figure, FigureKind, HookPoint, Request, Seed, Site, Subject, Table, TokenSelection, Tokens,
    Value, ValueEdit,
};
use rand::RngExt;

use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::{Resampling, Summary, bootstrap, one_sample, pearson};
use crate::{AnalysisError, check};

/// Sequences of random tokens, each one document of its own.
const SEQUENCES: usize = 24;
/// Tokens before the repetition.
const PERIOD: usize = 24;

/// One head.
///
/// - **Unit and range:** `score` is the mean attention, from 0 to 1, that a token of the second copy pays to the token that followed its
///   first occurrence.
/// - **Null:** `elsewhere`: the attention to an average earlier position, which a head without a preference pays.
/// - **Does not show:** that the head is all of the mechanism: a head that moves the previous token feeds it. The score says where a
///   head looks; `loss` says what is lost without it.
/// - **Source:** Olsson et al. 2022, "In-context Learning and Induction Heads": prefix-matching score on repeated random tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InductionHead {
    /// Block.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// Attention to the token after the first occurrence, mean and 95 % t-interval over sequences.
    pub score: Summary,
    /// Attention to an earlier position on average.
    pub elsewhere: f64,
    /// Rise of the loss on the second copy when the output of the head is set to zero, in nats per token, mean and 95 % t-interval
    /// over sequences; of the heads with the highest scores and of as many with the lowest.
    pub loss: Option<Summary>,
}

/// What repetition does for the model, and which heads do it.
#[derive(Clone, Debug, PartialEq)]
pub struct Induction {
    /// Every head, in order.
    pub heads: Vec<InductionHead>,
    /// Loss on the first copy minus loss on the second, in nats per token, over sequences: what repetition is worth to the model.
    pub gain: Summary,
    /// Correlation over the ablated heads of score and rise, with an interval over sequences; `None` where neither varies.
    pub proof: Option<(f64, f64, f64)>,
}

/// Scores every head on repeated random tokens, and takes out the `ablated` highest and lowest, one at a time.
///
/// Cost: one pass for the scores, and one more for each head that is taken out.
///
/// # Errors
/// If the subject cannot answer, does not report its attention, or the model's limit is below the length of the sequences.
pub fn induction(
    subject: &mut dyn Subject,
    ablated: usize,
    seed: Seed,
    resampling: Resampling,
) -> Result<Induction, AnalysisError> {
    check::at_least("induction heads", "entries of the vocabulary", subject.shape().vocab, 2 * PERIOD)?;
    let tokens = repeated(subject.shape().vocab, seed)?;
    let layers = subject.shape().layers();
    let at = |site: Site| (0..layers).map(move |layer| HookPoint::block(site, layer));
    let record: Vec<HookPoint> = at(Site::AttnPattern).chain(at(Site::AttnZ)).collect();
    let seen = subject.run(&Request { record: &record, ..Request::of(&tokens) })?;
    let value = |point: HookPoint| seen.values.get(&point).ok_or(AnalysisError::NotRecorded { point });
    let mut heads = Vec::new();
    for layer in 0..layers {
        heads.extend(scores(layer, value(HookPoint::block(Site::AttnPattern, layer))?)?);
    }
    let base = copies(&seen.loss);
    let gain = one_sample(&base.iter().map(|(first, second)| first - second).collect::<Vec<f64>>())?;
    let mut rises: Vec<(usize, Vec<f64>)> = Vec::new();
    for place in extremes(&heads, ablated) {
        let (layer, head) = (heads[place].layer, heads[place].head);
        let point = HookPoint::block(Site::AttnZ, layer);
        let edit = without_head(point, value(point)?, head, subject.shape().heads)?;
        let edits = [edit];
        let edited = subject.run(&Request { edits: &edits, ..Request::of(&tokens) })?;
        let rise: Vec<f64> =
            copies(&edited.loss).iter().zip(&base).map(|(with, without)| with.1 - without.1).collect();
        heads[place].loss = Some(one_sample(&rise)?);
        rises.push((place, rise));
    }
    let proof = proof(&heads, &rises, resampling);
    Ok(Induction { heads, gain, proof })
}

/// Random tokens, the same again: `[SEQUENCES, 2 × PERIOD]`. Within a copy no token repeats.
fn repeated(vocabulary: usize, seed: Seed) -> Result<Tokens, AnalysisError> {
    let mut ids = Vec::with_capacity(SEQUENCES * 2 * PERIOD);
    for sequence in 0..SEQUENCES {
        let mut rng = seed.index(sequence as u64).rng();
        let mut copy: Vec<u32> = Vec::with_capacity(PERIOD);
        while copy.len() < PERIOD {
            let id = rng.random_range(0..vocabulary as u32);
            if !copy.contains(&id) {
                copy.push(id);
            }
        }
        ids.extend(copy.iter().chain(&copy));
    }
    Ok(Tokens::new(ids, SEQUENCES, 2 * PERIOD)?)
}

/// Scores of all heads of a layer from its pattern `[batch, head, query, key]`.
fn scores(layer: usize, pattern: &Value) -> Result<Vec<InductionHead>, AnalysisError> {
    let point = HookPoint::block(Site::AttnPattern, layer);
    let numbers = pattern.real().ok_or(AnalysisError::NotRecorded { point })?;
    let (heads, length) = (pattern.shape()[1], 2 * PERIOD);
    let weight = |sequence: usize, head: usize, query: usize, key: usize| {
        f64::from(numbers[((sequence * heads + head) * length + query) * length + key])
    };
    // The first token of the second copy is left out: nothing has told yet that there is one.
    let queries = || PERIOD + 1..length;
    let of_head = |head: usize| {
        let score = |sequence: usize| {
            queries().map(|query| weight(sequence, head, query, query - PERIOD + 1)).sum::<f64>()
                / queries().len() as f64
        };
        let elsewhere = |sequence: usize| {
            let of_query = |query: usize| {
                (0..query).map(|key| weight(sequence, head, query, key)).sum::<f64>() / query as f64
            };
            queries().map(of_query).sum::<f64>() / queries().len() as f64
        };
        let elsewhere = (0..SEQUENCES).map(elsewhere).sum::<f64>() / SEQUENCES as f64;
        let score = one_sample(&(0..SEQUENCES).map(score).collect::<Vec<f64>>())?;
        Ok(InductionHead { layer, head, score, elsewhere, loss: None })
    };
    (0..heads).map(of_head).collect()
}

/// Mean loss of the first and of the second copy of each sequence.
///
/// The prediction of the first token of the second copy is left out, as in the scores.
fn copies(loss: &[f32]) -> Vec<(f64, f64)> {
    let mean = |part: &[f32]| part.iter().map(|x| f64::from(*x)).sum::<f64>() / part.len() as f64;
    loss.chunks(2 * PERIOD - 1).map(|of| (mean(&of[..PERIOD - 1]), mean(&of[PERIOD + 1..]))).collect()
}

/// Places of the heads with the highest scores, and of as many with the lowest.
fn extremes(heads: &[InductionHead], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..heads.len()).collect();
    order.sort_by(|a, b| heads[*b].score.mean.total_cmp(&heads[*a].score.mean).then(a.cmp(b)));
    let count = count.min(heads.len() / 2).max(usize::from(heads.len() == 1));
    let lowest = order[order.len() - count.min(order.len())..].to_vec();
    let mut chosen = [&order[..count], &lowest[..]].concat();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// Writes back what a layer's heads put out, `[batch, pos, head × coordinate]`, with zeros for one of them.
fn without_head(at: HookPoint, value: &Value, head: usize, heads: usize) -> Result<Edit, AnalysisError> {
    let width = value.columns() / heads;
    let mut rows = value.real().ok_or(AnalysisError::NotRecorded { point: at })?.to_vec();
    rows.chunks_mut(heads * width).for_each(|token| token[head * width..(head + 1) * width].fill(0.0));
    Ok(Edit::Value { at, tokens: TokenSelection::default(), change: ValueEdit::Patch { rows } })
}

/// Correlation of score and rise over the heads that were taken out, with a 95 % interval over sequences.
fn proof(
    heads: &[InductionHead],
    rises: &[(usize, Vec<f64>)],
    resampling: Resampling,
) -> Option<(f64, f64, f64)> {
    let scores: Vec<f64> = rises.iter().map(|(place, _)| heads[*place].score.mean).collect();
    let correlation = |drawn: &[usize]| {
        let rise =
            |(_, rise): &(usize, Vec<f64>)| drawn.iter().map(|s| rise[*s]).sum::<f64>() / drawn.len() as f64;
        pearson(&scores, &rises.iter().map(rise).collect::<Vec<f64>>())
            .map_or(f64::NAN, |found| found.coefficient)
    };
    let found = bootstrap(SEQUENCES, correlation, resampling).ok()?;
    Some((found.estimate, found.low, found.high))
}

impl Induction {
    /// One row for each head.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let of = |pick: &dyn Fn(&InductionHead) -> f64| self.heads.iter().map(pick).collect::<Vec<f64>>();
        let rise = |pick: fn(&Summary) -> f64| of(&|head| head.loss.as_ref().map_or(f64::NAN, pick));
        let mut columns = vec![
            Column::integer_key(
                "layer",
                "",
                "block",
                self.heads.iter().map(|head| head.layer as i64).collect(),
            ),
            Column::integer_key("head", "", "head", self.heads.iter().map(|head| head.head as i64).collect()),
            Column::estimate(
                "score",
                "attention",
                "to the token that followed the first occurrence",
                of(&|h| h.score.mean),
            ),
        ];
        let interval = "95 % t-interval over sequences";
        columns.extend(Column::interval(
            "score",
            "attention",
            interval,
            of(&|h| h.score.low),
            of(&|h| h.score.high),
        ));
        columns.push(Column::observations("score", "sequences", vec![SEQUENCES as i64; self.heads.len()]));
        columns.push(Column::null(
            "score",
            "attention",
            "to an earlier position on average",
            of(&|h| h.elsewhere),
        ));
        let meaning =
            "rise of the loss on the repetition without the head; empty for heads that were not taken out";
        columns.push(Column::estimate("loss_without", "nats per token", meaning, rise(|s| s.mean)));
        columns.extend(Column::interval(
            "loss_without",
            "nats per token",
            interval,
            rise(|s| s.low),
            rise(|s| s.high),
        ));
        let method = "Random tokens, repeated once. The loss is that of the repetition with the output of one head set to zero. Does not show that \
                      the head is all of the mechanism.";
        Ok(Table::new("induction_heads", "Which heads look at what followed last time", method, columns)?)
    }

    /// One row: what repetition is worth, and whether the heads with high scores are those that matter.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn summary(&self) -> Result<Table, AnalysisError> {
        let (correlation, low, high) = self.proof.unwrap_or((f64::NAN, f64::NAN, f64::NAN));
        let mut columns = vec![Column::estimate(
            "gain",
            "nats per token",
            "loss on the first copy minus loss on the second",
            vec![self.gain.mean],
        )];
        let interval = "95 % t-interval over sequences";
        columns.extend(Column::interval(
            "gain",
            "nats per token",
            interval,
            vec![self.gain.low],
            vec![self.gain.high],
        ));
        columns.push(Column::observations("gain", "sequences", vec![self.gain.n as i64]));
        let meaning = "over the heads taken out: correlation of score and rise of the loss";
        columns.push(Column::estimate("proof", "correlation", meaning, vec![correlation]));
        columns.extend(Column::interval(
            "proof",
            "correlation",
            "95 % bootstrap interval over sequences",
            vec![low],
            vec![high],
        ));
        let method = "Random tokens, repeated once.";
        Ok(Table::new(
            "induction",
            "What a repetition is worth, and to which heads it is owed",
            method,
            columns,
        )?)
    }
}

/// The instrument `induction`.
pub struct InductionHeads;

/// Heads that are taken out at either end of the scores.
const ABLATED: usize = 6;

const LOOKS: Reading = Reading {
    says: "a head looks at what followed",
    table: "induction_heads",
    rows: &[],
    value: "score",
    rule: Rule::Above(2.0),
};
const NEEDED: Reading = Reading {
    says: "the model loses without a head",
    table: "induction_heads",
    rows: &[],
    value: "loss_without",
    rule: Rule::MoreThan(0.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::CopyingHead, LOOKS),
    Promise::finds(Property::CopyingHead, NEEDED),
    Promise::is_silent(Property::SilentHeads, LOOKS),
    Promise::is_silent(Property::SilentHeads, NEEDED),
];

impl Instrument for InductionHeads {
    fn about(&self) -> About {
        About {
            name: "induction",
            group: Group::Causal,
            question: "Which heads continue what the text has said before, and does the model need them for it?",
            null: "attention to an earlier position on average; heads with the lowest scores taken out",
            does_not_show: "that these heads are all of the mechanism",
            source: "Olsson et al. 2022, prefix-matching score on repeated random tokens",
            passes: "13 of a small batch of its own",
            routed: false,
            gives: gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) = (material.seed.child("repeated tokens"), material.resampling("induction"));
        let found = induction(material.subject, ABLATED, seed, resampling)?;
        let figure = Figure {
            id: "induction".into(),
            title: finding(&found),
            caption: "Attention to the token that followed the first occurrence, on repeated random tokens."
                .into(),
            table: "induction_heads".into(),
            kind: FigureKind::Heatmap {
                x: "head".into(),
                y: "layer".into(),
                value: "score".into(),
                center: None,
            },
        };
        Ok(Finding { tables: vec![found.summary()?, found.table()?], figures: vec![figure] })
    }
}

/// The strongest head, in words.
fn finding(found: &Induction) -> String {
    let strongest = found.heads.iter().max_by(|a, b| a.score.mean.total_cmp(&b.score.mean));
    let Some(head) = strongest else { return "No heads".into() };
    if head.score.low <= 2.0 * head.elsewhere {
        return format!(
            "No head looks at what followed last time more than twice as much as anywhere; repeating is worth {:.2} nats",
            found.gain.mean
        );
    }
    format!(
        "Head {} of layer {} looks there with {:.0} % of its attention; repeating is worth {:.2} nats per token",
        head.head,
        head.layer,
        100.0 * head.score.mean,
        found.gain.mean
    )
}

#[cfg(test)]
mod tests;
