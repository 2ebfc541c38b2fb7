//! Whether the tokens of a path are more alike than those of its experts.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::walks::Walks;
use crate::statistics::{Bootstrap, jackknife, student};

/// How often two tokens of one group agree in a label.
///
/// - **Unit and range:** probability that two tokens of the group, drawn from two different documents, have the same label, from 0 to 1. It does not grow or
///   shrink with the number of tokens, so that a path may be compared with an expert that has many times more; and a word that one document
///   repeats does not make a group pure.
/// - **Source:** Simpson 1949, here over pairs of documents.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Purity {
    /// NaN where all tokens come from one document.
    pub(super) estimate: f64,
    /// The same without each document that has tokens in the group.
    without: BTreeMap<u32, f64>,
}

/// Labels of the tokens of a text, with their documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labelled<'l> {
    /// One for each token.
    pub(super) labels: &'l [u32],
    /// One for each token.
    pub(super) documents: &'l [u32],
}

impl Purity {
    /// Of the tokens at these places.
    pub(super) fn of(tokens: impl Iterator<Item = usize>, of: Labelled<'_>) -> Purity {
        let mut counts = BTreeMap::<u32, BTreeMap<u32, f64>>::new(); // [document][label]
        for token in tokens {
            *counts.entry(of.documents[token]).or_default().entry(of.labels[token]).or_default() += 1.0;
        }
        let (mut all, mut pairs) = (BTreeMap::<u32, f64>::new(), Pairs::default());
        for (label, count) in counts.values().flatten() {
            *all.entry(*label).or_default() += count;
        }
        pairs.agreeing = all.values().map(|count| count * count).sum();
        pairs.tokens = all.values().sum();
        counts.values().for_each(|document| pairs.leave_out_within(document));
        let without = counts.iter().map(|(name, document)| (*name, pairs.without(document, &all).share()));
        Purity { estimate: pairs.share(), without: without.collect() }
    }

    /// Without this document, which need not have a token in the group; with all of them for none.
    fn without(&self, document: Option<u32>) -> f64 {
        document.and_then(|document| self.without.get(&document)).copied().unwrap_or(self.estimate)
    }
}

/// Pairs of tokens from different documents: those that agree, and what all of them follow from.
#[derive(Clone, Copy, Debug, Default)]
struct Pairs {
    agreeing: f64,
    /// Tokens.
    tokens: f64,
    /// Pairs within one document, each token with itself among them.
    within: f64,
}

impl Pairs {
    /// Takes the agreeing pairs within a document out, and counts all pairs within it.
    fn leave_out_within(&mut self, document: &BTreeMap<u32, f64>) {
        self.agreeing -= document.values().map(|count| count * count).sum::<f64>();
        self.within += document.values().sum::<f64>().powi(2);
    }

    /// Without one of the documents; `all` has the tokens of each label.
    fn without(self, document: &BTreeMap<u32, f64>, all: &BTreeMap<u32, f64>) -> Pairs {
        let tokens = document.values().sum::<f64>();
        // Pairs with another document count in both orders.
        let lost = |(label, count): (&u32, &f64)| 2.0 * count * (all[label] - count);
        Pairs {
            agreeing: self.agreeing - document.iter().map(lost).sum::<f64>(),
            tokens: self.tokens - tokens,
            within: self.within - tokens * tokens,
        }
    }

    fn share(&self) -> f64 {
        let pairs = self.tokens * self.tokens - self.within;
        if pairs > 0.5 { self.agreeing / pairs } else { f64::NAN }
    }
}

/// A path, the place of the layer with its purest expert, and that expert.
type Beside<'p> = (Purity, usize, &'p Purity);

/// A path beside the purest of its experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Purer {
    /// Purity of the path, with a jackknife interval over its documents.
    pub(super) path: Bootstrap,
    /// Purity of the purest of its experts.
    pub(super) purest: f64,
    /// Layer of that expert, a place among those of the path.
    pub(super) layer: usize,
    /// Path minus purest expert.
    pub(super) gain: Bootstrap,
    /// Of no gain, one-sided.
    pub(super) p_value: f64,
}

/// Purities of all profiled paths under one label, and their mean.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Purities {
    /// One for each path.
    pub(super) paths: Vec<Purer>,
    /// Mean of the paths, each as often as it has tokens.
    pub(super) mean: Bootstrap,
    /// Mean of the purest experts in the same weights.
    pub(super) purest: f64,
    /// The difference, with an interval over all documents.
    pub(super) gain: Bootstrap,
    /// Of no gain, one-sided.
    pub(super) p_value: f64,
}

/// Compares every path with the purest of its experts.
///
/// Which expert is the purest is read off the same tokens, which favours the experts, and so hides a little of what a path has beyond them.
/// Intervals leave out each document in turn; tests of a path have as many degrees of freedom as documents have tokens on it.
pub(super) fn purities(walks: &Walks, of: Labelled<'_>) -> Purities {
    let experts: Vec<Vec<Purity>> = walks.first.par_iter().map(|first| by_expert(first, of)).collect();
    let one = |path: &super::walks::Path| {
        let own = Purity::of(path.tokens.iter().copied(), of);
        let passed = path.experts.iter().zip(&experts).map(|(expert, of)| &of[*expert as usize]);
        let (layer, purest) = passed
            .enumerate()
            .max_by(|a, b| a.1.estimate.total_cmp(&b.1.estimate).then(b.0.cmp(&a.0)))
            .expect("a path has layers");
        (own, layer, purest)
    };
    let pairs: Vec<Beside<'_>> = walks.paths.par_iter().map(one).collect();
    let weights: Vec<f64> = walks.paths.iter().map(|path| path.tokens.len() as f64).collect();
    let mean = |value: &dyn Fn(&Beside<'_>) -> f64| {
        let sum: f64 = pairs.iter().zip(&weights).map(|(pair, weight)| weight * value(pair)).sum();
        sum / weights.iter().sum::<f64>()
    };
    let documents: BTreeSet<u32> = of.documents.iter().copied().collect();
    let without = |value: &dyn Fn(&Beside<'_>, Option<u32>) -> f64| {
        let of = documents.iter().map(|document| mean(&|pair| value(pair, Some(*document))));
        jackknife(mean(&|pair| value(pair, None)), &of.collect::<Vec<f64>>(), documents.len())
    };
    let gain = without(&|(own, _, purest), document| own.without(document) - purest.without(document));
    Purities {
        mean: without(&|(own, ..), document| own.without(document)),
        purest: mean(&|(_, _, purest)| purest.estimate),
        p_value: above_0(&gain),
        gain,
        paths: pairs.iter().map(|(own, layer, purest)| purer(own, *layer, purest)).collect(),
    }
}

/// Purity of the tokens that choose each expert first: `[expert]`, up to the last that some token chooses.
///
/// Experts that no token chooses have no pairs and a purity of NaN; no path passes them.
fn by_expert(first: &[u32], of: Labelled<'_>) -> Vec<Purity> {
    let mut tokens = vec![Vec::new(); first.iter().max().map_or(0, |last| *last as usize + 1)];
    first.iter().enumerate().for_each(|(token, expert)| tokens[*expert as usize].push(token));
    tokens.into_par_iter().map(|tokens| Purity::of(tokens.into_iter(), of)).collect()
}

fn purer(own: &Purity, layer: usize, purest: &Purity) -> Purer {
    let over = |documents: &BTreeSet<u32>, value: &dyn Fn(Option<u32>) -> f64| {
        let without: Vec<f64> = documents.iter().map(|document| value(Some(*document))).collect();
        jackknife(value(None), &without, without.len())
    };
    let here: BTreeSet<u32> = own.without.keys().copied().collect();
    let both: BTreeSet<u32> = here.iter().chain(purest.without.keys()).copied().collect();
    let gain = over(&both, &|document| own.without(document) - purest.without(document));
    // As many degrees of freedom as documents are on the path.
    let p_value = student::upper_tail(gain.estimate / gain.standard_error, here.len() as f64 - 1.0);
    Purer {
        path: over(&here, &|document| own.without(document)),
        purest: purest.estimate,
        layer,
        p_value,
        gain,
    }
}

/// One-sided p-value of a difference of 0; 1 where neither difference nor spread is there.
fn above_0(gain: &Bootstrap) -> f64 {
    student::upper_tail(gain.estimate / gain.standard_error, gain.replicates as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use rand::RngExt;
    use rand::seq::SliceRandom;

    #[test]
    fn pairs_of_two_documents_by_hand() {
        // Document 0 has the labels a a b, document 1 has a c: of six pairs two agree. What document 0 repeats does not count.
        let of = Labelled { labels: &[0, 0, 1, 0, 2], documents: &[0, 0, 0, 1, 1] };
        let found = Purity::of(0..5, of);
        assert!((found.estimate - 2.0 / 6.0).abs() < 1e-12);
        assert!(found.without(Some(0)).is_nan() && Purity::of(0..3, of).estimate.is_nan());
        let three = Labelled { labels: &[0, 0, 1, 0], documents: &[0, 1, 1, 2] };
        let found = Purity::of(0..4, three);
        // Pairs 0–1: one of two; 0–2: one of one; 1–2: one of two.
        assert!((found.estimate - 3.0 / 5.0).abs() < 1e-12);
        assert!((found.without(Some(1)) - 1.0).abs() < 1e-12 && (found.without(Some(0)) - 0.5).abs() < 1e-12);
        assert_eq!(found.without(Some(9)), found.estimate);
    }

    /// Twenty-four documents of twenty tokens; two layers choose among four experts.
    fn found(seed: u64, route: impl Fn(u32, usize, &mut rand_chacha::ChaCha8Rng) -> u32) -> Purities {
        let mut rng = Seed(seed).child("purity").rng();
        let text = planted::text(24, 20, 16, &mut rng);
        let routes =
            (0..2).map(|layer| text.ids.iter().map(|id| route(*id, layer, &mut rng)).collect()).collect();
        let trace = planted::trace(text.clone(), 4, 1, routes);
        let of = Labelled { labels: &text.ids, documents: &text.documents };
        purities(&Walks::of(&trace).unwrap(), of)
    }

    #[test]
    fn paths_of_layers_that_read_different_things_of_a_token_are_purer() {
        let reads =
            |id: u32, layer: usize, _: &mut rand_chacha::ChaCha8Rng| if layer == 0 { id % 4 } else { id / 4 };
        let both = found(1, reads);
        // A path has one token id, an expert four.
        assert!((both.mean.estimate - 1.0).abs() < 1e-12 && (both.purest - 0.25).abs() < 0.05, "{both:?}");
        assert!(both.gain.low > 0.7 && both.p_value < 1e-6);
        // Where the second layer repeats the first, there is nothing beyond it.
        let same = found(1, |id, _, _| id % 4);
        assert!(same.gain.estimate.abs() < 1e-12 && same.paths.len() == 4 && same.p_value > 0.4);
    }

    #[test]
    fn paths_of_chance_are_called_purer_at_the_stated_rate() {
        let called = |seed: &u64| {
            let found = found(*seed, |_, _, rng| rng.random_range(0..4));
            found.p_value <= 0.05
        };
        // One in twenty, and fewer, since the purest expert is chosen by what it shows: 20 are far beyond chance.
        let count = (0..200).filter(called).count();
        assert!(count < 20, "{count} of 200");
    }

    #[test]
    fn names_of_experts_and_order_of_documents_are_immaterial() {
        let mut rng = Seed(5).rng();
        let text = planted::text(24, 20, 6, &mut rng);
        let routes: Vec<Vec<u32>> = (0..2)
            .map(|layer| text.ids.iter().map(|id| (id + layer + rng.random_range(0..2)) % 4).collect())
            .collect();
        let of = |text: &moescope_trace::TokenTable, routes: Vec<Vec<u32>>| {
            let trace = planted::trace(text.clone(), 4, 1, routes);
            let of = Labelled { labels: &text.ids, documents: &text.documents };
            purities(&Walks::of(&trace).unwrap(), of)
        };
        let plain = of(&text, routes.clone());
        let renamed =
            of(&text, routes.iter().map(|route| route.iter().map(|e| (e + 3) % 4).collect()).collect());
        assert_eq!(plain, renamed);
        let mut order: Vec<u32> = (0..24).collect();
        order.shuffle(&mut rng);
        let place: Vec<usize> =
            order.iter().flat_map(|d| (0..20).map(move |t| *d as usize * 20 + t)).collect();
        let pick = |of: &[u32]| place.iter().map(|at| of[*at]).collect::<Vec<u32>>();
        let moved = planted::tokens(pick(&text.ids), vec![0; 480], pick(&text.documents));
        let moved = of(&moved, routes.iter().map(|route| pick(route)).collect());
        assert!((moved.gain.estimate - plain.gain.estimate).abs() < 1e-12);
        assert!((moved.gain.low - plain.gain.low).abs() < 1e-9);
    }
}
