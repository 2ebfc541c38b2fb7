//! Text that a model makes of the first halves of sequences, and the routes of both texts.

use std::collections::BTreeMap;

use moescope_base::{HookPoint, Request, Seed, Site, Subject, Tokens};
use rand::RngExt;

use crate::{AnalysisError, Sample};

/// Tokens that are generated for each sequence, at most.
const LONGEST: usize = 24;

/// Routes of one layer: sets of experts and the entropy of the router, for each token that is compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    /// `[token, slot]`.
    pub(super) sets: Vec<u32>,
    /// Nats, `[token]`.
    pub(super) entropy: Vec<f64>,
}

/// One sequence, with what followed its prompt in the text and in the model.
#[derive(Clone, Debug)]
pub(super) struct Spoken {
    pub(super) document: u32,
    /// By layer: experts of the tokens of the prompt, `[token, slot]`.
    pub(super) prompt: BTreeMap<usize, Vec<u32>>,
    /// By layer: the routes of the text's own tokens, and of those that were generated at the same positions.
    pub(super) layers: BTreeMap<usize, [Routes; 2]>,
    /// Tokens that had the same set of experts when they were the last of the sequence and when others followed, and all: `[layer]`.
    pub(super) same: BTreeMap<usize, (usize, usize)>,
}

/// Routed layers, with the experts that each has and a token chooses.
pub(super) type Layers = [(usize, usize, usize)];

/// Lets the model go on from the first half of each sequence, and looks at the routes of both second halves.
///
/// Tokens are drawn at temperature 1 from the prediction after the last position, each with a draw that follows from seed, sequence and step, so
/// that results do not depend on how sequences are put together. Every step runs the sequence anew: slower than a cache of keys and
/// values, and free of what such a cache may change.
///
/// # Errors
/// If the subject cannot answer or leaves out a value.
pub(super) fn spoken(
    subject: &mut dyn Subject,
    sample: &Sample,
    layers: &Layers,
    (seed, before): (Seed, u64),
) -> Result<Vec<Spoken>, AnalysisError> {
    let positions = sample.tokens().positions();
    let (prompt, count) = (positions / 2, (positions - positions / 2).min(LONGEST));
    let sequences = sample.tokens().batch();
    let of = |row: usize| sample.tokens().sequence(row).to_vec();
    let own: Vec<Vec<u32>> = (0..sequences).map(|row| of(row)[..prompt + count].to_vec()).collect();
    let mut made: Vec<Vec<u32>> = own.iter().map(|ids| ids[..prompt].to_vec()).collect();
    let mut as_last = Vec::new();
    for step in 0..=count {
        let last = step == count;
        let seen = look(subject, &made, layers, !last)?;
        // The last of a growing sequence: what decoding would send it to.
        if step > 0 {
            as_last.push(seen.routes(made[0].len() - 1, made[0].len(), layers)?);
        }
        if !last {
            let logits = seen.logits(subject)?;
            for (row, (ids, logits)) in made.iter_mut().zip(logits).enumerate() {
                ids.push(draw(&logits, seed.index(before + row as u64).index(step as u64)));
            }
        }
    }
    let whole = [look(subject, &own, layers, false)?, look(subject, &made, layers, false)?];
    let [own_routes, made_routes] =
        [whole[0].routes(prompt, prompt + count, layers)?, whole[1].routes(prompt, prompt + count, layers)?];
    let prompt_routes = whole[1].routes(0, prompt, layers)?;
    let one = |row: usize| {
        let (mut by_layer, mut same, mut prompts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (layer, _, per_token) in layers {
            let [own, made] = [&own_routes, &made_routes].map(|routes| routes[&(*layer, row)].clone());
            let steps = as_last.iter().zip(made.sets.chunks_exact(*per_token));
            let agree = steps.filter(|(step, set)| alike(&step[&(*layer, row)].sets, set)).count();
            same.insert(*layer, (agree, as_last.len()));
            prompts.insert(*layer, prompt_routes[&(*layer, row)].sets.clone());
            by_layer.insert(*layer, [own, made]);
        }
        Spoken { document: sample.documents()[row * positions], prompt: prompts, layers: by_layer, same }
    };
    Ok((0..sequences).map(one).collect())
}

/// Whether two sets have the same experts.
fn alike(one: &[u32], other: &[u32]) -> bool {
    one.len() == other.len() && one.iter().all(|expert| other.contains(expert))
}

/// What was seen of some sequences of equal length.
struct Seen {
    values: BTreeMap<HookPoint, moescope_base::Value>,
    length: usize,
    sequences: usize,
    stream: HookPoint,
}

fn look(
    subject: &mut dyn Subject,
    sequences: &[Vec<u32>],
    layers: &Layers,
    logits: bool,
) -> Result<Seen, AnalysisError> {
    let length = sequences[0].len();
    let tokens = Tokens::new(sequences.concat(), sequences.len(), length)?;
    let stream = HookPoint::block(Site::ResidPost, subject.shape().layers() - 1);
    let routers = layers.iter().flat_map(|(layer, ..)| {
        [Site::RouterIndices, Site::RouterScores].map(|site| HookPoint::block(site, *layer))
    });
    let mut record: Vec<HookPoint> = routers.chain(logits.then_some(stream)).collect();
    record.sort_unstable();
    let seen = subject.run(&Request::recording(&tokens, &record))?;
    Ok(Seen { values: seen.values, length, sequences: sequences.len(), stream })
}

impl Seen {
    fn value(&self, point: HookPoint) -> Result<&moescope_base::Value, AnalysisError> {
        self.values.get(&point).ok_or(AnalysisError::NotRecorded { point })
    }

    /// Routes of the tokens at these positions, by layer and sequence.
    fn routes(
        &self,
        from: usize,
        to: usize,
        layers: &Layers,
    ) -> Result<BTreeMap<(usize, usize), Routes>, AnalysisError> {
        let mut found = BTreeMap::new();
        for (layer, experts, per_token) in layers {
            let sets = self.value(HookPoint::block(Site::RouterIndices, *layer))?.integer().unwrap_or(&[]);
            let scores = self.value(HookPoint::block(Site::RouterScores, *layer))?.real().unwrap_or(&[]);
            for row in 0..self.sequences {
                let tokens = row * self.length + from..row * self.length + to;
                let of = &sets[tokens.start * per_token..tokens.end * per_token];
                let entropy = scores[tokens.start * experts..tokens.end * experts].chunks_exact(*experts);
                let routes = Routes {
                    sets: of.iter().map(|expert| *expert as u32).collect(),
                    entropy: entropy.map(entropy_of).collect(),
                };
                found.insert((*layer, row), routes);
            }
        }
        Ok(found)
    }

    /// Logits after the last token of each sequence.
    fn logits(&self, subject: &mut dyn Subject) -> Result<Vec<Vec<f32>>, AnalysisError> {
        let value = self.value(self.stream)?;
        let (numbers, width) = (value.real().unwrap_or(&[]), value.columns());
        let last = |row: usize| &numbers[((row + 1) * self.length - 1) * width..][..width];
        let rows: Vec<f32> = (0..self.sequences).flat_map(last).copied().collect();
        let logits = subject.unembed(&rows)?;
        Ok(logits.chunks_exact(logits.len() / self.sequences).map(<[f32]>::to_vec).collect())
    }
}

/// Entropy of scores brought to sum one, nats.
fn entropy_of(scores: &[f32]) -> f64 {
    let sum: f64 = scores.iter().map(|score| f64::from(*score)).sum();
    let parts = scores.iter().map(|score| f64::from(*score) / sum).filter(|part| *part > 0.0);
    parts.map(|part| -part * part.ln()).sum()
}

/// One token drawn from the distribution of these logits.
fn draw(logits: &[f32], seed: Seed) -> u32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(logit - most).exp()).collect();
    let mut left = seed.rng().random::<f64>() * weights.iter().sum::<f64>();
    let chosen = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    // Rounding may leave a little beyond the last token.
    chosen.unwrap_or(logits.len() - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drawn_as_often_as_their_logits_say() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY];
        let ones = (0..3000).filter(|seed| draw(&logits, Seed(*seed)) == 1).count();
        assert!((1900..2100).contains(&ones), "{ones}");
        assert!((0..300).all(|seed| draw(&logits, Seed(seed)) < 2));
    }

    #[test]
    fn entropies_and_sets_by_hand() {
        assert!((entropy_of(&[0.5, 0.5, 0.0]) - 2f64.ln()).abs() < 1e-9);
        assert!((entropy_of(&[2.0, 2.0]) - 2f64.ln()).abs() < 1e-9);
        assert!(alike(&[3, 1], &[1, 3]) && !alike(&[3, 1], &[1, 2]));
    }
}
