//! Counting statistics of routes over any number of traces, in one pass and in bounded memory.
//!
//! All that is kept are integers that add up (sums of real numbers included, see [`ExactSum`]), and samples of keys that depend on what was seen
//! alone (see [`KeySample`]). So one trace, a hundred of its parts in any order, and parts that were counted elsewhere and merged give the same
//! numbers to the bit, and the analyses of single traces count with the same code.
//!
//! There are no permutation nulls here: a shuffle needs all routes at once. Where one trace is enough, use
//! [`chapters`](crate::route_report::chapters); over very many tokens a null by formula, which each table states, serves as well.

mod cache_table;
mod cell_sample;
mod committee_tables;
mod contingency;
mod decisions;
mod documents;
mod exact_sum;
mod foretold_table;
mod halves;
mod handover;
mod key_sample;
mod layer;
mod masses;
mod names;
mod naming;
mod naming_table;
mod pairs;
mod path_table;

mod recency;
mod sampled_keys;
mod state;
mod tables;
#[cfg(test)]
mod tests;
mod token_counts;

use moescope_trace::RoutingTrace;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use cell_sample::{CellSample, SampledRatio};
pub use contingency::{Contingency, LabelInformation};
pub use decisions::{DecisionSums, RelativeMargins};
pub use exact_sum::ExactSum;
pub use halves::Foretold;
pub(crate) use handover::is_followed;
pub use handover::{Handover, RatioSums};
pub use key_sample::KeySample;
pub use layer::LayerCounts;
pub use masses::Masses;
pub use naming::{NamedByPath, PathLabels};
pub use pairs::Pairs;
pub use recency::CountedHits;
pub use state::{CountsManifest, Filling};
pub use token_counts::{TokenCounts, ToldBeyondToken};

use crate::AnalysisError;
use key_sample::mixed;
use names::Names;
use sampled_keys::SampledKeys;

const METHOD: &str = "counting of routes";

/// Slots of a layer that can be counted together: counts then fit into 32 bits, and sums of squares over documents into 64.
const MOST_SLOTS: u64 = 1 << 31;

/// Experts that a layer of stored counts may have: tables of pairs are square.
const MOST_EXPERTS: usize = 1 << 14;

/// How much memory counting may take. Counts of different plans do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountingPlan {
    /// Rows of the tables by token id: ids from here on share the row of their remainder. What experts tell about the row is at most what
    /// they tell about the token, so with more ids than rows that number is a lower bound. A row takes 12 bytes for each layer and expert.
    pub token_rows: usize,
    /// Distinct paths that are kept, see [`KeySample`]: 64 bytes for each, at most.
    pub paths: usize,
    /// Distinct sets of each layer that are kept: 32 bytes for each, at most.
    pub sets: usize,
    /// Rows of the tables by domain, half of the documents and token id of each layer: as many of the lowest ids as there is room for with all
    /// domains.
    pub low_rows: usize,
    /// Cells of the two samples of labels of paths, see [`CellSample`]: 96 bytes for each, at most.
    pub cells: usize,
    /// Distinct pairs of a token and the one before it that are kept: 8 bytes for each of them, layer and expert.
    pub bigrams: usize,
    /// Documents whose caches are looked at: 8 bytes for each of them, layer and expert.
    pub documents: usize,
}

impl Default for CountingPlan {
    fn default() -> CountingPlan {
        CountingPlan {
            token_rows: 1 << 16,
            paths: 1 << 20,
            sets: 1 << 16,
            low_rows: 1 << 14,
            cells: 1 << 14,
            bigrams: 1 << 12,
            documents: 128,
        }
    }
}

impl CountingPlan {
    /// Bytes that counts of these layers, `(experts, per token)`, take at most; those of a small vocabulary or few paths are fewer. Routed weight by
    /// domain, and what saving takes for a while, come on top.
    pub fn bytes(&self, layers: &[(usize, usize)]) -> u64 {
        // Tables and samples grow in doublings.
        let table = |rows: usize, experts: usize| 4 * (rows * experts).next_power_of_two();
        let of_layer = |(experts, _): &(usize, usize)| {
            let by_token =
                table(self.low_rows + 2 * self.token_rows, *experts) + table(self.token_rows, *experts);
            by_token + (8 * (self.bigrams + self.documents) + 8 * experts) * (experts + 1)
        };
        let keys = |kept: usize| 32 * kept.next_power_of_two();
        let samples = 2 * keys(self.paths) + keys(self.sets) * layers.len() + 2 * 96 * self.cells;
        (layers.iter().map(of_layer).sum::<usize>() + samples) as u64
    }
}

/// What was counted so far.
#[derive(Clone, Debug)]
pub struct RouteCounts {
    plan: CountingPlan,
    /// In the order of appearance; every output is by name.
    domains: Vec<String>,
    classes: Vec<String>,
    /// Rows of domain and class of each kind of token, in the order of appearance.
    pairs: Vec<[u32; 2]>,
    /// Documents of each domain.
    documents: Vec<u64>,
    tokens: u64,
    largest_id: u32,
    layers: Vec<LayerCounts>,
    /// Paths of sets, paths of first choices.
    paths: [KeySample; 2],
    /// Labels of the tokens of each of these.
    path_labels: [PathLabels; 2],
    /// Bigrams and documents that layers count.
    sampled: [SampledKeys; 2],
    /// Names of what was counted.
    parts: Vec<String>,
    /// Whether a part began within a window, so that a pair of neighbours may have been cut.
    cut: bool,
}

impl RouteCounts {
    /// Nothing counted.
    ///
    /// # Errors
    /// If the plan has a size of 0.
    pub fn new(plan: CountingPlan) -> Result<RouteCounts, AnalysisError> {
        let CountingPlan { token_rows, paths, sets, low_rows, cells, bigrams, documents } = plan;
        let sizes = [token_rows, paths, sets, low_rows, cells, bigrams, documents];
        let fits = |size: &usize| (1..1 << 31).contains(size);
        let wrong = sizes.iter().find(|size| !fits(size)).copied();
        crate::check::in_range(
            METHOD,
            "a size of the plan",
            wrong.unwrap_or(1),
            wrong.is_none(),
            "1 to 2^31 - 1",
        )?;
        Ok(RouteCounts {
            plan,
            domains: Vec::new(),
            classes: Vec::new(),
            pairs: Vec::new(),
            documents: Vec::new(),
            tokens: 0,
            largest_id: 0,
            layers: Vec::new(),
            paths: [KeySample::new(plan.paths), KeySample::new(plan.paths)],
            path_labels: [PathLabels::new(plan.cells), PathLabels::new(plan.cells)],
            sampled: [SampledKeys::new(plan.bigrams), SampledKeys::new(plan.documents)],
            parts: Vec::new(),
            cut: false,
        })
    }

    /// Counts a trace under a name, by which it cannot be counted twice.
    ///
    /// Traces are cut between windows: a first token at a position above 0 would have lost its predecessor. They are best cut between documents,
    /// since tokens on end with one document number count as one document.
    ///
    /// # Errors
    /// If the name was counted before, the layers are others, there are too many tokens, or a trace was cut within a window.
    pub fn add(&mut self, trace: &RoutingTrace, name: &str) -> Result<(), AnalysisError> {
        let shape = trace.layers().iter().map(|l| (l.layer, l.experts, l.per_token)).collect::<Vec<_>>();
        let tokens = trace.tokens();
        self.admit(&[name.to_owned()], &shape, tokens.len() as u64, {
            tokens.positions.first().is_some_and(|position| *position > 0)
        })?;
        let domains = self.rows_of_domains(&tokens.domain_names);
        let classes = rows(&mut self.classes, &tokens.class_names);
        let Some(at) = self.layers.first().map(|layer| layer.tokens.rows()) else { return Ok(()) };
        let mut names = Names::of(tokens, &domains, &classes, &mut self.pairs, at, &self.plan);
        names.domains.iter().for_each(|domain| self.documents[*domain as usize] += 1);
        self.tokens += tokens.len() as u64;
        let ids = tokens.ids.iter().chain(&tokens.next_ids).copied();
        self.largest_id = self.largest_id.max(ids.max().unwrap_or(0));
        self.sample(&mut names);
        let layers = self.layers.par_iter_mut().zip(trace.layers());
        let stops: Vec<[Vec<u64>; 2]> = layers.map(|(counts, layer)| counts.add(layer, &names)).collect();
        let pairs = trace.layers().par_windows(2);
        self.layers.par_iter_mut().zip(pairs).for_each(|(counts, two)| counts.add_next(&two[0], &two[1]));
        let kinds = if self.one_each() { 1 } else { 2 };
        let samples = self.paths[..kinds].par_iter_mut().zip(&mut self.path_labels[..kinds]);
        samples.enumerate().for_each(|(kind, (sample, labels))| {
            // Where a layer has one expert for each token, the key of its set is that of its first choice.
            let of = |both: &'_ [Vec<u64>; 2]| if both[1].is_empty() { 0 } else { kind };
            let stops: Vec<&[u64]> = stops.iter().map(|both| both[of(both)].as_slice()).collect();
            add_paths(sample, labels, &stops, &names);
        });
        Ok(())
    }

    /// Takes up the bigrams and documents of a trace, and says which of them are kept.
    fn sample(&mut self, names: &mut Names<'_>) {
        self.admit_keys(0, &names.bigrams);
        self.admit_keys(1, &names.documents.keys);
        let kept = |keys: &[u64], sample: &SampledKeys| -> Vec<(usize, u32)> {
            let slot = |(place, key): (usize, &u64)| Some((place, sample.slot(*key)?));
            keys.iter().enumerate().filter_map(slot).collect()
        };
        names.sampled_bigrams = kept(&names.bigrams, &self.sampled[0]);
        names.sampled_documents = kept(&names.documents.keys, &self.sampled[1]);
    }

    /// Takes up bigrams (0) or documents (1); what has to go for them is forgotten in all layers.
    fn admit_keys(&mut self, which: usize, keys: &[u64]) {
        let dropped = self.sampled[which].admit(keys.iter().copied());
        self.forget(which, &dropped);
    }

    fn forget(&mut self, which: usize, slots: &[u32]) {
        self.layers.iter_mut().for_each(|layer| layer.sampled_rows()[which].clear(slots));
    }

    /// Adds what was counted elsewhere.
    ///
    /// # Errors
    /// As [`add`](Self::add), and if the plans differ.
    pub fn merge(&mut self, other: &RouteCounts) -> Result<(), AnalysisError> {
        let mut filling = self.begin(&other.manifest())?;
        other.groups().iter().try_for_each(|group| filling.take(group))?;
        filling.finish()
    }

    /// Whether every token chooses one expert in each layer, so that paths of sets are paths of first choices and are counted once.
    fn one_each(&self) -> bool {
        self.layers.iter().all(|layer| layer.per_token == 1)
    }

    /// Paths of sets, or of first choices.
    fn path_sample(&self, kind: usize) -> &KeySample {
        &self.paths[if self.one_each() { 0 } else { kind }]
    }

    /// Labels of paths of sets, or of first choices.
    fn labels_of_paths(&self, kind: usize) -> &PathLabels {
        &self.path_labels[if self.one_each() { 0 } else { kind }]
    }

    /// Tokens counted.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Counts of each routed layer, in order.
    pub fn layers(&self) -> &[LayerCounts] {
        &self.layers
    }

    /// Names of what was counted, in order of the alphabet.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// Names of the domains, in order of the alphabet.
    pub fn domain_names(&self) -> Vec<String> {
        let mut names = self.domains.clone();
        names.sort_unstable();
        names
    }

    /// Refuses what does not add up, and makes room for the layers of the first part.
    fn admit(
        &mut self,
        parts: &[String],
        shape: &[(usize, usize, usize)],
        tokens: u64,
        cut: bool,
    ) -> Result<(), AnalysisError> {
        let refused = |what, found: String, wanted: &str| {
            Err(AnalysisError::OutOfRange { method: METHOD, what, found, wanted: wanted.into() })
        };
        if let Some(twice) = parts.iter().find(|part| self.parts.binary_search(part).is_ok()) {
            return refused("a part", format!("{twice} a second time"), "each part once");
        }
        let first = self.parts.is_empty();
        let like = self.layers.len() == shape.len()
            && self.layers.iter().zip(shape).all(|(own, more)| own.is_like(*more));
        if !first && !like {
            let wanted =
                "(block, experts, experts per token) as in the other parts; count one model at a time";
            return refused("the routed layers", format!("{shape:?}"), wanted);
        }
        let possible =
            |(_, experts, k): &(usize, usize, usize)| (1..=*experts).contains(k) && *experts <= MOST_EXPERTS;
        if let Some(layer) = shape.iter().find(|layer| !possible(layer)) {
            let wanted = "(block, experts up to 16,384, experts per token up to these)";
            return refused("a routed layer", format!("{layer:?}"), wanted);
        }
        let per_token = shape.iter().map(|layer| layer.2 as u64).max().unwrap_or(1);
        let slots = self.tokens.checked_add(tokens).and_then(|tokens| tokens.checked_mul(per_token));
        if slots.is_none_or(|slots| slots >= MOST_SLOTS) {
            let found = format!("{tokens} beside {} of before, {per_token} experts for each", self.tokens);
            let wanted = "fewer than 2^31 routed slots of a layer; count the rest by itself";
            return refused("the number of tokens", found, wanted);
        }
        if !first && (self.cut || cut) {
            let wanted = "the beginning of a window (position 0); cut traces between windows";
            return refused("the first token of a part", "within a window".into(), wanted);
        }
        if first {
            let layer = |(layer, experts, k): &(usize, usize, usize)| {
                LayerCounts::new(*layer, *experts, *k, self.plan)
            };
            self.layers = shape.iter().map(layer).collect();
            for (counts, (_, experts, _)) in self.layers.iter_mut().zip(shape.iter().skip(1)) {
                counts.next_layer = Contingency::new(*experts);
            }
        }
        self.cut |= cut;
        self.parts.extend_from_slice(parts);
        self.parts.sort_unstable();
        Ok(())
    }

    fn rows_of_domains(&mut self, names: &[String]) -> Vec<u32> {
        let rows = rows(&mut self.domains, names);
        self.documents.resize(self.domains.len(), 0);
        for layer in &mut self.layers {
            layer.tokens.make_room(self.domains.len());
            layer.masses.make_room(self.domains.len());
        }
        rows
    }
}

/// Equal counts give equal tables and equal files.
impl PartialEq for RouteCounts {
    fn eq(&self, other: &RouteCounts) -> bool {
        self.manifest() == other.manifest() && self.groups() == other.groups()
    }
}

/// Places of names in a list, to which those that are new are added.
fn rows(all: &mut Vec<String>, names: &[String]) -> Vec<u32> {
    let mut place = |name: &String| {
        let known = all.iter().position(|own| own == name);
        known.unwrap_or_else(|| {
            all.push(name.clone());
            all.len() - 1
        }) as u32
    };
    names.iter().map(&mut place).collect()
}

/// Counts the path of each token over its stops, `stops[layer][token]`, and its labels.
fn add_paths(sample: &mut KeySample, labels: &mut PathLabels, stops: &[&[u64]], names: &Names<'_>) {
    let tokens = stops.first().map_or(0, |layer| layer.len());
    for token in 0..tokens {
        let path = stops
            .iter()
            .fold(0u64, |path, layer| mixed(path.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ layer[token]));
        sample.add(path);
        labels.0.add(path, names.marks[token], 1);
    }
}
