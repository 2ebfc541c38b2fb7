//! What a path costs or saves beside what its tokens cost elsewhere.

use std::collections::BTreeMap;

use super::walks::Path;
use crate::statistics::{Bootstrap, jackknife, student};

/// Tokens of an id on other paths, at least.
const ELSEWHERE: f64 = 5.0;

/// Share of the mean loss below which differences are those of rounding: where all tokens cost the same, sums of different lengths differ in their last
/// digits, and by about as much whatever is left out.
const ROUNDING: f64 = 1e-9;

/// Losses of a text, by token id and document.
pub(super) struct Losses<'l> {
    ids: &'l [u32],
    documents: &'l [u32],
    losses: &'l [Option<f64>],
    /// Tokens elsewhere that an id must have, so that it is known what it costs there.
    least: f64,
    /// Sum and number of the losses of each token id.
    all: BTreeMap<u32, Sum>,
    /// The same of each document.
    of_document: BTreeMap<u32, BTreeMap<u32, Sum>>,
    /// Variance of the losses of each token id, on whatever path.
    variance: BTreeMap<u32, f64>,
}

/// Loss on a path against that of the same tokens elsewhere.
///
/// - **Unit:** `beyond` in nats per token: mean over the tokens of the path of their loss minus the mean loss of the same token id on all
///   other paths. Token ids of which these have fewer than five tokens are left out. Above 0 the path is harder than its tokens are.
/// - **Null:** 0. The standard error is the larger of two: from leaving out each document in turn that has a token id of the path, there or elsewhere,
///   and from the variance that the losses of each token id have on all paths together. The first knows that tokens of a document are alike; the
///   second, that what is rare, such as a prediction that comes true, may be absent from a path by chance, where the losses differ least. Student's t; no
///   interval where all that is known of elsewhere comes from one document.
/// - **Does not show:** that the path is to blame: what comes before a token decides both its path and how hard the next one is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Beyond {
    pub(super) beyond: Bootstrap,
    /// Two-sided.
    pub(super) p_value: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    of: f64,
    count: f64,
}

impl Sum {
    fn minus(self, other: Option<&Sum>) -> Sum {
        other.map_or(self, |other| Sum { of: self.of - other.of, count: self.count - other.count })
    }
}

impl<'l> Losses<'l> {
    /// Of a text: lists with one entry for each token.
    pub(super) fn new(ids: &'l [u32], documents: &'l [u32], losses: &'l [Option<f64>]) -> Losses<'l> {
        let (all, of_document, variance) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut found = Losses { ids, documents, losses, least: ELSEWHERE, all, of_document, variance };
        (found.all, found.of_document) = found.sums(0..ids.len());
        found.variance = found.variances();
        found
    }

    /// Variance of the losses of each token id; 0 where there is one alone.
    fn variances(&self) -> BTreeMap<u32, f64> {
        let mut found: BTreeMap<u32, f64> = self.all.keys().map(|id| (*id, 0.0)).collect();
        for (id, loss) in self.ids.iter().zip(self.losses) {
            let (Some(loss), Some(sum)) = (loss, self.all.get(id)) else { continue };
            let far = (loss - sum.of / sum.count).powi(2) / (sum.count - 1.0).max(1.0);
            *found.entry(*id).or_default() += far;
        }
        found
    }

    /// Standard error of what these tokens of a path have beyond the same elsewhere, if a path is a draw among the tokens of each id.
    fn error_of_draws(&self, own: &BTreeMap<u32, Sum>) -> f64 {
        let (mut variance, mut tokens) = (0.0, 0.0);
        for (id, sum) in own {
            let (here, elsewhere) = (sum.count, self.all[id].count - sum.count);
            variance += self.variance[id] * here * here * (1.0 / here + 1.0 / elsewhere);
            tokens += here;
        }
        variance.sqrt() / tokens
    }

    /// What sums of losses may be wrong by, for each token.
    fn error_of_rounding(&self) -> f64 {
        let mut total = Sum::default();
        self.all
            .values()
            .for_each(|sum| total = Sum { of: total.of + sum.of, count: total.count + sum.count });
        ROUNDING * total.of.abs() / total.count.max(1.0)
    }

    /// Sums by token id, and the same for each document.
    fn sums(
        &self,
        tokens: impl Iterator<Item = usize>,
    ) -> (BTreeMap<u32, Sum>, BTreeMap<u32, BTreeMap<u32, Sum>>) {
        let mut all = BTreeMap::<u32, Sum>::new();
        let mut of_document = BTreeMap::<u32, BTreeMap<u32, Sum>>::new();
        for token in tokens {
            let (Some(loss), id) = (self.losses[token], self.ids[token]) else { continue };
            let document = of_document.entry(self.documents[token]).or_default();
            for sum in [all.entry(id).or_default(), document.entry(id).or_default()] {
                *sum = Sum { of: sum.of + loss, count: sum.count + 1.0 };
            }
        }
        (all, of_document)
    }

    /// Losses on a path and the documents that they come from.
    pub(super) fn on(&self, path: &Path) -> (Vec<u32>, Vec<f64>) {
        let one = |token: &usize| Some((self.documents[*token], self.losses[*token]?));
        path.tokens.iter().filter_map(one).unzip()
    }

    /// What a path has beyond its tokens; NaN where none of them is walked elsewhere.
    pub(super) fn beyond(&self, path: &Path) -> Beyond {
        let (mut own, of_document) = self.sums(path.tokens.iter().copied());
        own.retain(|id, sum| self.all[id].count - sum.count > self.least - 0.5);
        let mut total = Difference::default();
        own.iter().for_each(|(id, sum)| total.add(*sum, self.all[id].minus(Some(sum))));
        let nothing = BTreeMap::new();
        let without = |(name, everywhere): (&u32, &BTreeMap<u32, Sum>)| {
            let here = of_document.get(name).unwrap_or(&nothing);
            // Token ids of this document alone change when it is left out.
            let (mut left, mut shared) = (total, false);
            for (id, everywhere) in everywhere {
                let Some(sum) = own.get(id) else { continue };
                shared = true;
                let elsewhere = self.all[id].minus(Some(sum));
                left.take(*sum, elsewhere);
                let there = everywhere.minus(here.get(id));
                left.add(sum.minus(here.get(id)), elsewhere.minus(Some(&there)));
            }
            shared.then(|| left.mean())
        };
        // Documents that are not on the path say what its tokens cost elsewhere, and where that is said by few, it is uncertain.
        let without: Vec<f64> = self.of_document.iter().filter_map(without).collect();
        let freedom = self.sides(&own, &of_document).into_iter().min().unwrap_or(0);
        if freedom < 2 || without.iter().any(|mean| mean.is_nan()) {
            let beyond = Bootstrap::without_interval(total.mean(), without.len());
            return Beyond { beyond, p_value: 1.0 };
        }
        let beyond = jackknife(total.mean(), &without, without.len());
        let error = beyond.standard_error.max(self.error_of_draws(&own)).max(self.error_of_rounding());
        // The side that fewer documents tell of decides the degrees of freedom.
        let freedom = freedom as f64 - 1.0;
        let reach = error * student::quantile(0.975, freedom);
        let (low, high) = (beyond.estimate - reach, beyond.estimate + reach);
        let p_value = student::two_sided(beyond.estimate / error, freedom);
        Beyond { beyond: Bootstrap { low, high, standard_error: error, ..beyond }, p_value }
    }

    /// Documents that tell what these token ids cost on the path, and those that tell what they cost elsewhere.
    fn sides(&self, own: &BTreeMap<u32, Sum>, on_path: &BTreeMap<u32, BTreeMap<u32, Sum>>) -> [usize; 2] {
        let known = |of: &BTreeMap<u32, Sum>| of.keys().any(|id| own.contains_key(id));
        let here = on_path.values().filter(|of| known(of)).count();
        let elsewhere = self.of_document.iter().filter(|(name, all)| {
            let on = |id: &u32| on_path.get(*name).and_then(|of| of.get(id)).map_or(0.0, |sum| sum.count);
            all.iter().any(|(id, sum)| own.contains_key(id) && sum.count > on(id) + 0.5)
        });
        [here, elsewhere.count()]
    }
}

/// Sum of the differences between a path and elsewhere over the tokens that both have.
#[derive(Clone, Copy, Debug, Default)]
struct Difference {
    sum: f64,
    tokens: f64,
}

impl Difference {
    fn add(&mut self, here: Sum, elsewhere: Sum) {
        // Counts are whole numbers.
        if here.count > 0.5 && elsewhere.count > 0.5 {
            self.sum += here.of - here.count * elsewhere.of / elsewhere.count;
            self.tokens += here.count;
        }
    }

    fn take(&mut self, here: Sum, elsewhere: Sum) {
        let mut less = Difference::default();
        less.add(here, elsewhere);
        (self.sum, self.tokens) = (self.sum - less.sum, self.tokens - less.tokens);
    }

    fn mean(self) -> f64 {
        if self.tokens > 0.5 { self.sum / self.tokens } else { f64::NAN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::normal;
    use crate::statistics::holm;
    use moescope_base::Seed;
    use rand::RngExt;

    fn path(tokens: Vec<usize>) -> Path {
        Path { experts: vec![0, 0], tokens }
    }

    #[test]
    fn where_all_tokens_cost_the_same_no_path_costs_more() {
        let mut rng = Seed(3).rng();
        let ids: Vec<u32> = (0..4_000).map(|_| rng.random_range(0..9)).collect();
        let documents: Vec<u32> = (0..4_000).map(|token| token / 50).collect();
        let losses = vec![Some(24f64.ln() / 1.7); 4_000];
        let losses = Losses::new(&ids, &documents, &losses);
        for every in [3, 7, 11] {
            let found = losses.beyond(&path((0..4_000).step_by(every).collect()));
            assert!(found.p_value > 0.9 && found.beyond.estimate.abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn a_difference_by_hand() {
        let (ids, documents) = ([1, 1, 1, 2, 2, 3], [0, 1, 2, 0, 3, 1]);
        let losses = [Some(5.0), Some(3.0), Some(1.0), Some(2.0), Some(1.5), Some(9.0)];
        let losses = Losses { least: 1.0, ..Losses::new(&ids, &documents, &losses) };
        // Of the first path: token 1 costs 4 here and 1 elsewhere; token 2 costs 2 and 1.5; token 3 is nowhere else.
        let found = losses.beyond(&path(vec![0, 1, 3, 5]));
        // Without documents 0, 1, 2 and 3: token 1 has no other place without document 2, nor token 2 without document 3.
        let without = [2.0_f64, (4.0 + 0.5) / 2.0, 0.5, 3.0];
        assert!((found.beyond.estimate - (2.0 * 3.0 + 0.5) / 3.0).abs() < 1e-12, "{found:?}");
        assert_eq!(losses.on(&path(vec![0, 5])), (vec![0, 1], vec![5.0, 9.0]));
        assert!(losses.beyond(&path(vec![5])).beyond.estimate.is_nan());
        let mean = without.iter().sum::<f64>() / 4.0;
        let left_out = (without.iter().map(|x| (x - mean).powi(2)).sum::<f64>() * 3.0 / 4.0).sqrt();
        // Two tokens here and one elsewhere of variance 4, one and one of variance 1/8.
        let drawn = (4.0 * 4.0 * 1.5 + 0.125 * 2.0_f64).sqrt() / 3.0;
        assert!(left_out < drawn && (found.beyond.standard_error - drawn).abs() < 1e-12);
        let alike = losses.variance.keys().map(|id| (*id, 0.0)).collect();
        let found = Losses { variance: alike, ..losses }.beyond(&path(vec![0, 1, 3, 5]));
        assert!((found.beyond.standard_error - left_out).abs() < 1e-12);
    }

    /// Thirty documents of twenty tokens with skewed losses that depend on token and document, and two paths.
    fn planted(seed: u64, cost: f64) -> Beyond {
        routed(seed, cost, |_, prefers| prefers)
    }

    /// The same, where each token goes to the path with a probability that follows from its id and from what its document prefers.
    fn routed(seed: u64, cost: f64, goes: impl Fn(u32, f64) -> f64) -> Beyond {
        let mut rng = Seed(seed).child("loss").rng();
        let (mut ids, mut documents, mut losses, mut taken) = (vec![], vec![], vec![], vec![]);
        for document in 0..30 {
            let (hard, prefers) = (0.5 * normal(&mut rng), rng.random_range(0.1..0.9));
            for _ in 0..20 {
                let id = rng.random_range(0..12u32);
                let on = rng.random_bool(goes(id, prefers));
                if on {
                    taken.push(ids.len());
                }
                let size = f64::from(id) / 6.0 + hard + f64::from(u8::from(on)) * cost;
                losses.push(Some(size + normal(&mut rng).exp()));
                ids.push(id);
                documents.push(document);
            }
        }
        Losses::new(&ids, &documents, &losses).beyond(&path(taken))
    }

    #[test]
    fn a_planted_cost_is_found_and_documents_that_are_hard_cost_nothing() {
        let found = planted(1, 1.0);
        assert!(found.beyond.low > 0.5 && found.beyond.high < 1.8 && found.p_value < 0.001, "{found:?}");
        // Binomial of 200 at one in twenty: above 19 in less than one of a hundred.
        let called = (0..200).filter(|seed| planted(*seed, 0.0).p_value <= 0.05).count();
        assert!((1..20).contains(&called), "{called} of 200");
        // Tokens of which few go elsewhere: what they cost there is hardly known.
        let rare = |seed: u64| routed(seed, 0.0, |id, _| if id < 4 { 0.92 } else { 0.0 });
        let called = (0..200).filter(|seed| rare(*seed).p_value <= 0.05).count();
        assert!(called < 20, "{called} of 200");
    }

    #[test]
    fn predictions_that_seldom_come_true_may_be_absent_by_chance() {
        // Forty paths over 48 documents, and one token in two dozen is foretold.
        let called = |seed: &u64| {
            let mut rng = Seed(*seed).child("hits").rng();
            let losses: Vec<Option<f64>> =
                (0..1600).map(|_| Some(if rng.random_bool(1.0 / 24.0) { 0.1 } else { 4.0 })).collect();
            let ids: Vec<u32> = (0..1600).map(|_| rng.random_range(0..24)).collect();
            let documents: Vec<u32> = (0..1600).map(|token| token / 33).collect();
            let mut paths = vec![vec![]; 40];
            (0..1600).for_each(|token| paths[rng.random_range(0..40)].push(token));
            let losses = Losses::new(&ids, &documents, &losses);
            let p: Vec<f64> = paths.into_iter().map(|tokens| losses.beyond(&path(tokens)).p_value).collect();
            holm(&p).into_iter().any(|p| p <= 0.05)
        };
        let called = (0..200).filter(called).count();
        assert!(called < 20, "{called} of 200");
    }
}
