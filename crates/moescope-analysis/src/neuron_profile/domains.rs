//! Whether a neuron keeps to a domain.

use std::collections::BTreeMap;

use moescope_base::Seed;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::share::Parts;

/// The domain in which a neuron is strongest.
///
/// - **Unit:** `times` is the mean size of its activation over the tokens of that domain, in units of the mean over all tokens: 1 is everywhere
///   alike. Where a token does not reach its expert it is 0, so that a neuron keeps to the domains that its expert is chosen in.
/// - **Null:** whole documents exchanged between domains.
/// - **Does not show:** whether it is the topic or the vocabulary of the domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Strongest {
    pub(crate) domain: usize,
    pub(crate) times: f64,
    pub(crate) null: f64,
    pub(crate) p_value: f64,
}

/// Domains of the documents of a bank, and ways of dealing documents out to them, which all neurons share.
pub(crate) struct Domains {
    /// Domain of each document.
    own: Vec<u16>,
    /// The same dealt out anew.
    dealt: Vec<Vec<u16>>,
}

impl Domains {
    /// Of the documents of some tokens, in the order of [`Parts`]; none where there are fewer than two domains.
    pub(crate) fn new(documents: &[u32], domains: &[u16], draws: usize, seed: Seed) -> Option<Domains> {
        let of: BTreeMap<u32, u16> = documents.iter().copied().zip(domains.iter().copied()).collect();
        let own: Vec<u16> = of.into_values().collect();
        let deal = |own: &[u16], draw: usize| {
            let mut dealt = own.to_vec();
            dealt.shuffle(&mut seed.index(draw as u64).rng());
            dealt
        };
        let several = own.iter().any(|domain| *domain != own[0]);
        let dealt = (0..draws).into_par_iter().map(|draw| deal(&own, draw)).collect();
        several.then_some(Domains { own, dealt })
    }

    /// Where a neuron is strongest; `sizes` are sums of its activations in each document. None where it is nowhere active.
    pub(crate) fn strongest(&self, sizes: &Parts) -> Option<Strongest> {
        let sizes: Vec<(f64, f64)> = sizes.each().collect();
        let last = self.own.iter().max().map_or(0, |last| *last as usize + 1);
        let (domain, times) = strongest(&sizes, &self.own, last)?;
        let dealt = self.dealt.iter();
        let null: Vec<f64> = dealt.filter_map(|dealt| Some(strongest(&sizes, dealt, last)?.1)).collect();
        // Sums in another order may differ in the last digit.
        let as_much = null.iter().filter(|null| **null >= times * (1.0 - 1e-12)).count();
        let p_value = (1 + as_much) as f64 / (1 + null.len()) as f64;
        Some(Strongest { domain, times, null: null.iter().sum::<f64>() / null.len() as f64, p_value })
    }
}

/// The domain with the largest mean, and how many times the mean over all it is.
fn strongest(sizes: &[(f64, f64)], domains: &[u16], count: usize) -> Option<(usize, f64)> {
    let mut sums = vec![(0.0, 0.0); count];
    for (domain, (sum, count)) in domains.iter().zip(sizes) {
        let own = &mut sums[*domain as usize];
        *own = (own.0 + sum, own.1 + count);
    }
    let (sum, count) = sums.iter().fold((0.0, 0.0), |all, own| (all.0 + own.0, all.1 + own.1));
    let all = sum / count;
    let times = sums.iter().map(|(sum, count)| sum / count / all).enumerate();
    times.filter(|(_, times)| times.is_finite()).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::normal;

    fn parts(documents: &[u32], values: &[f64]) -> Parts {
        Parts::new(documents, values.iter().copied())
    }

    #[test]
    fn the_strongest_domain_by_hand() {
        // Documents 0 and 1 are of domain 0 with mean 1, document 2 is of domain 1 with mean 4; all have mean 2.
        let documents = [0, 0, 1, 1, 2, 2];
        let domains = Domains::new(&documents, &[0, 0, 0, 0, 1, 1], 200, Seed(1)).unwrap();
        let found = domains.strongest(&parts(&documents, &[0.0, 2.0, 1.0, 1.0, 5.0, 3.0])).unwrap();
        assert_eq!((found.domain, found.times), (1, 2.0));
        assert!(found.p_value > 0.2, "one document of three: {found:?}");
        assert!(Domains::new(&documents, &[3; 6], 20, Seed(1)).is_none());
        assert!(domains.strongest(&parts(&documents, &[0.0; 6])).is_none());
    }

    /// Twenty documents of ten tokens in two domains.
    fn labels() -> (Vec<u32>, Vec<u16>) {
        let documents: Vec<u32> = (0..200).map(|token| token / 10).collect();
        let domains = documents.iter().map(|document| (document % 2) as u16).collect();
        (documents, domains)
    }

    #[test]
    fn a_planted_domain_is_found_and_documents_may_be_reordered() {
        let (documents, domains) = labels();
        let mut rng = Seed(2).rng();
        let values: Vec<f64> =
            domains.iter().map(|domain| normal(&mut rng).abs() + f64::from(*domain)).collect();
        let found = Domains::new(&documents, &domains, 199, Seed(3)).unwrap();
        let plain = found.strongest(&parts(&documents, &values)).unwrap();
        assert!(plain.domain == 1 && plain.p_value < 0.02 && plain.times > plain.null, "{plain:?}");
        let mut order: Vec<usize> = (0..200).collect();
        order.rotate_left(70);
        let turned: Vec<u32> = order.iter().map(|token| documents[*token]).collect();
        let values: Vec<f64> = order.iter().map(|token| values[*token]).collect();
        let again = found.strongest(&parts(&turned, &values)).unwrap();
        assert_eq!((again.domain, again.p_value), (plain.domain, plain.p_value));
    }

    #[test]
    fn documents_that_differ_are_no_domain_more_often_than_they_should() {
        // 200 seeds at one in twenty: above 19 is far beyond chance.
        let (documents, domains) = labels();
        let beyond = (0..200)
            .filter(|seed| {
                let mut rng = Seed(*seed).child("documents").rng();
                let of_document: Vec<f64> = (0..20).map(|_| normal(&mut rng).exp()).collect();
                let values: Vec<f64> =
                    documents.iter().map(|d| of_document[*d as usize] * normal(&mut rng).abs()).collect();
                let found = Domains::new(&documents, &domains, 99, Seed(*seed)).unwrap();
                found.strongest(&parts(&documents, &values)).unwrap().p_value <= 0.05
            })
            .count();
        assert!((2..20).contains(&beyond), "{beyond} of 200");
    }
}
