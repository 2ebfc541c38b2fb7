//! Agreement of the routes of two models, experts as they are named and matched.

use std::collections::BTreeMap;

use moescope_trace::{LayerRouting, RoutingTrace};
use rand::seq::SliceRandom;

use crate::assignment::assignment;
use crate::routing::Permutations;
use crate::statistics::{Bootstrap, Resampling, bootstrap};
use crate::{AnalysisError, check};

/// Its name in messages.
const METHOD: &str = "agreement of models";

/// How far two models send tokens to the same experts of a layer.
///
/// - **Unit and range:** mean over tokens of |S ∩ S'| / k, 0 to 1; where the models choose different numbers, k is the smaller. `matched`
///   first names the experts of the second model anew, by the one-to-one assignment with the most tokens in common on every second
///   document; the agreement is that on the other documents.
/// - **Null:** of `plain`, routes that depend on the load alone, `Σ p q / k`. Of `matched`, the second model's routes dealt to other tokens
///   and matched anew, which is about the chance of matched loads; the p-value is against these.
/// - **Does not show:** that matched experts compute alike: they are chosen by the same tokens.
/// - **Source:** assignment of units across networks, Li et al. 2016 (arXiv 1511.07543), here of experts by their tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteAgreement {
    /// Block of the first model.
    pub layer: usize,
    /// Block of the second.
    pub other: usize,
    /// Agreement by the names that experts have.
    pub plain: Bootstrap,
    /// What loads alone would give.
    pub load_chance: f64,
    /// What even loads would give: `k / n`.
    pub even_chance: f64,
    /// Agreement with experts matched, over documents that did not decide the matching.
    pub matched: Bootstrap,
    /// Mean of the same with the second model's routes dealt to other tokens.
    pub shuffled: f64,
    /// Share of all, the observed one among them, that are at least as large.
    pub p_value: f64,
}

/// Compares layer by layer, the first routed layer with the first and so on.
///
/// Each layer of the second model has its experts matched for itself: no name is carried on from layer to layer.
///
/// # Errors
/// If the traces differ in tokens or number of routed layers, a layer in its number of experts, or there are fewer than four documents.
pub fn route_agreement(
    first: &RoutingTrace,
    second: &RoutingTrace,
    permutations: Permutations,
    resampling: Resampling,
) -> Result<Vec<RouteAgreement>, AnalysisError> {
    let (own, theirs) = (first.tokens(), second.tokens());
    check::same_length(METHOD, "routes of the second model", theirs.len(), own.len())?;
    let (one, other) = (first.layers().len(), second.layers().len());
    check::in_range(
        METHOD,
        "number of routed layers",
        format!("{one} in one model and {other} in the other"),
        one == other,
        "one number in both",
    )?;
    check::in_range(
        METHOD,
        "the text",
        "another for each model",
        own.ids == theirs.ids,
        "one text for both",
    )?;
    let mut documents: Vec<u32> = own.documents.clone();
    documents.sort_unstable();
    documents.dedup();
    check::at_least(METHOD, "documents", documents.len(), 4)?;
    let places: Vec<usize> = own
        .documents
        .iter()
        .map(|document| documents.binary_search(document).expect("a document of the list"))
        .collect();
    let pairs = first.layers().iter().zip(second.layers()).enumerate();
    pairs.map(|(at, (a, b))| of_layer(a, b, &places, permutations.index(at), resampling)).collect()
}

/// One layer of each model; `places` are the documents of the tokens, numbered in order.
///
/// The null deals the second model's tokens out anew and matches again, so that what matching finds in nothing is in it.
///
/// The p-value is one-sided, and at least one over the number of permutations and one.
fn of_layer(
    first: &LayerRouting,
    second: &LayerRouting,
    places: &[usize],
    permutations: Permutations,
    resampling: Resampling,
) -> Result<RouteAgreement, AnalysisError> {
    check::in_range(
        METHOD,
        "number of experts in one block",
        format!("{} in one model and {} in the other", first.experts, second.experts),
        first.experts == second.experts,
        "one number in both: experts are matched one to one",
    )?;
    let order: Vec<usize> = (0..places.len()).collect();
    let names: Vec<usize> = (0..first.experts).collect();
    let plain = Counted::of(first, second, places, &order, &names, |_| true);
    let matched = matched(first, second, places, &order);
    let draws = permutations.draw(
        || order.clone(),
        |shuffled, rng| {
            shuffled.copy_from_slice(&order);
            shuffled.shuffle(rng);
            self::matched(first, second, places, shuffled).mean()
        },
    );
    let observed = matched.mean();
    let above = draws.iter().filter(|draw| **draw >= observed - 1e-12).count();
    Ok(RouteAgreement {
        layer: first.layer,
        other: second.layer,
        plain: plain.interval(resampling)?,
        load_chance: load_chance(first, second),
        even_chance: first.per_token.max(second.per_token) as f64 / first.experts as f64,
        matched: matched.interval(resampling)?,
        shuffled: draws.iter().sum::<f64>() / draws.len() as f64,
        p_value: (1 + above) as f64 / (1 + draws.len()) as f64,
    })
}

/// Agreement on every other document with the matching that the others decide; the second model's tokens stand in this order.
///
/// Documents that decide the matching judge nothing: a matching made and judged on the same tokens finds
/// agreement in noise, the more the more experts there are. The same is done with shuffled tokens for the
/// null, which leaves no advantage of the matching unaccounted for.
fn matched(first: &LayerRouting, second: &LayerRouting, places: &[usize], order: &[usize]) -> Counted {
    let experts = first.experts;
    let mut common = vec![0.0; experts * experts];
    let deciding = (0..places.len()).filter(|token| places[*token].is_multiple_of(2));
    for token in deciding {
        for own in first.chosen(token) {
            for theirs in second.chosen(order[token]) {
                common[*theirs as usize * experts + *own as usize] += 1.0;
            }
        }
    }
    // The expert of the first model that each of the second is called after.
    let names = assignment(&common, experts);
    Counted::of(first, second, places, order, &names, |place| !place.is_multiple_of(2))
}

/// Experts in common and experts at most, by document.
struct Counted(Vec<(f64, f64)>);

impl Counted {
    /// Of some documents; expert `e` of the second model is called `names[e]`.
    fn of(
        first: &LayerRouting,
        second: &LayerRouting,
        places: &[usize],
        order: &[usize],
        names: &[usize],
        counts: impl Fn(usize) -> bool,
    ) -> Counted {
        let most = first.per_token.min(second.per_token) as f64;
        let mut documents: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for (token, place) in places.iter().enumerate().filter(|(_, place)| counts(**place)) {
            let own = first.chosen(token);
            let common =
                second.chosen(order[token]).iter().filter(|e| own.contains(&(names[**e as usize] as u32)));
            let entry = documents.entry(*place).or_default();
            entry.0 += common.count() as f64;
            entry.1 += most;
        }
        Counted(documents.into_values().collect())
    }

    /// Mean agreement over some documents, repeats included.
    fn over(&self, documents: impl Iterator<Item = usize>) -> f64 {
        let (common, most) =
            documents.fold((0.0, 0.0), |sum, at| (sum.0 + self.0[at].0, sum.1 + self.0[at].1));
        common / most
    }

    /// Mean agreement over all documents.
    fn mean(&self) -> f64 {
        self.over(0..self.0.len())
    }

    /// The same with an interval over documents.
    fn interval(&self, resampling: Resampling) -> Result<Bootstrap, AnalysisError> {
        bootstrap(self.0.len(), |drawn| self.over(drawn.iter().copied()), resampling)
    }
}

/// Agreement of routes that depend on the load alone.
fn load_chance(first: &LayerRouting, second: &LayerRouting) -> f64 {
    let shares = |layer: &LayerRouting| {
        let mut counts = vec![0.0; layer.experts];
        layer.choices.iter().for_each(|expert| counts[*expert as usize] += 1.0);
        let tokens = (layer.choices.len() / layer.per_token) as f64;
        counts.into_iter().map(|count| count / tokens).collect::<Vec<f64>>()
    };
    let most = first.per_token.min(second.per_token) as f64;
    shares(first).iter().zip(shares(second)).map(|(p, q)| p * q).sum::<f64>() / most
}

impl RouteAgreement {
    /// An agreement above chance as a share of what was possible: 0 at this chance, 1 for equal routes.
    pub fn corrected(agreement: f64, chance: f64) -> f64 {
        (agreement - chance) / (1.0 - chance)
    }
}
