//! The load of a domain beside that of the mixture without it.
//!
//! Documents are dealt, not tokens: tokens of one document share its subject and its words, and would make any two halves of a text differ.

use moescope_base::Seed;
use moescope_trace::RoutingTrace;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::METHOD;
use super::shift::{shares, total_variation};
use crate::statistics::{PermutationTest, Tail, holm, permutation_test};
use crate::{AnalysisError, check};

/// Draws for each domain, at least: enough that Holm's correction over domains leaves small p-values.
const DRAWS: usize = 40;

/// How far the load of a domain is from that of all others together.
///
/// - **Unit and range:** total variation distance between the shares of slots of experts, mean over layers, 0 to 1.
/// - **Null:** documents dealt to domains anew, with as many in each; the p-value is corrected over domains (Holm).
/// - **Does not show:** whether the domain's own words or its subject decide: see `specialisation`.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainLoad {
    /// Index of the domain.
    pub domain: usize,
    /// Its documents.
    pub documents: usize,
    /// Distance, against documents dealt out.
    pub shift: PermutationTest,
    /// The p-value after Holm's correction.
    pub p_holm: f64,
}

/// Compares every domain of two documents or more with the mixture of the others.
///
/// # Errors
/// If there are fewer than two such domains.
pub fn domain_loads(
    trace: &RoutingTrace,
    permutations: usize,
    seed: Seed,
) -> Result<Vec<DomainLoad>, AnalysisError> {
    let tokens = trace.tokens();
    let mut names: Vec<u32> = tokens.documents.clone();
    names.sort_unstable();
    names.dedup();
    let place = |document: u32| names.binary_search(&document).expect("a document of the list");
    let mut domains = vec![0_usize; names.len()];
    let documents = tokens.documents.iter().zip(&tokens.domains);
    documents.for_each(|(document, domain)| domains[place(*document)] = usize::from(*domain));
    let layers: Vec<Vec<Vec<f64>>> = trace
        .layers()
        .iter()
        .map(|layer| {
            let mut loads = vec![vec![0.0; layer.experts]; names.len()];
            for (token, document) in tokens.documents.iter().enumerate() {
                let own = &mut loads[place(*document)];
                layer.chosen(token).iter().for_each(|expert| own[*expert as usize] += 1.0);
            }
            loads
        })
        .collect();
    let count = |domain: usize| domains.iter().filter(|own| **own == domain).count();
    let wanted: Vec<usize> = (0..tokens.domain_names.len())
        .filter(|domain| count(*domain) > 1 && count(*domain) + 1 < domains.len())
        .collect();
    check::at_least(METHOD, "domains of two documents or more", wanted.len(), 2)?;
    let draws = permutations.max(DRAWS * wanted.len());
    let deal = |domains: &mut Vec<usize>, rng: &mut ChaCha8Rng| domains.shuffle(rng);
    let mut found = Vec::new();
    for domain in wanted {
        let of = |domains: &Vec<usize>| apart(&layers, domains, domain);
        let seed = seed.child("domains").index(domain as u64);
        let shift = permutation_test(&domains, of, deal, draws, Tail::Greater, seed)?;
        found.push(DomainLoad { domain, documents: count(domain), shift, p_holm: f64::NAN });
    }
    let corrected = holm(&found.iter().map(|row| row.shift.p_value).collect::<Vec<f64>>());
    found.iter_mut().zip(corrected).for_each(|(row, p)| row.p_holm = p);
    Ok(found)
}

/// Mean over layers of the distance between the load of a domain and that of the rest.
fn apart(layers: &[Vec<Vec<f64>>], domains: &[usize], domain: usize) -> f64 {
    let (own, rest): (Vec<usize>, Vec<usize>) = (0..domains.len()).partition(|at| domains[*at] == domain);
    let of = |loads: &Vec<Vec<f64>>| total_variation(&shares(loads, &own), &shares(loads, &rest));
    layers.iter().map(of).sum::<f64>() / layers.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;

    fn trace(domains_matter: bool, seed: u64) -> RoutingTrace {
        let mut rng = Seed(seed).rng();
        let text = planted::text(16, 20, 9, &mut rng);
        let mut sets = planted::random_sets(320, 6, 2, |_| 1.0, &mut rng);
        if domains_matter {
            let tokens = sets.chunks_exact_mut(2).zip(&text.domains);
            tokens.filter(|(_, domain)| **domain == 1).for_each(|(set, _)| set.copy_from_slice(&[0, 1]));
        }
        planted::trace(text, 6, 2, vec![sets])
    }

    #[test]
    fn two_documents_by_hand() {
        let layers = vec![vec![vec![3.0, 1.0], vec![1.0, 1.0], vec![0.0, 2.0]]];
        // Three quarters against one quarter of the first expert.
        assert_eq!(apart(&layers, &[1, 0, 0], 1), 0.5);
    }

    #[test]
    fn a_domain_with_experts_of_its_own_is_found() {
        let found = domain_loads(&trace(true, 1), 99, Seed(1)).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|row| row.p_holm < 0.05 && row.shift.observed > 0.5), "{found:?}");
    }

    #[test]
    fn domains_in_name_alone_are_called_apart_at_the_stated_rate() {
        let called = |seed: &u64| {
            domain_loads(&trace(false, *seed), 9, Seed(*seed)).unwrap().iter().any(|row| row.p_holm <= 0.05)
        };
        let rate = (0..200).filter(called).count();
        assert!(rate < 20, "{rate} of 200");
    }

    #[test]
    fn names_of_experts_do_not_matter_and_one_domain_is_refused() {
        let own = trace(true, 2);
        let renamed = planted::renamed(&own, 3);
        let shift = |trace: &RoutingTrace| domain_loads(trace, 9, Seed(1)).unwrap()[0].shift.observed;
        assert!((shift(&own) - shift(&renamed)).abs() < 1e-12);
        let single = planted::tokens(vec![0; 4], vec![0; 4], vec![0, 0, 1, 1]);
        let single = planted::trace(single, 2, 1, vec![vec![0, 1, 0, 1]]);
        assert!(domain_loads(&single, 9, Seed(1)).is_err());
    }
}
