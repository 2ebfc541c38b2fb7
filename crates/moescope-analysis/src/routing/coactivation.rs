use moescope_base::{Column, Table};
use moescope_trace::{LayerRouting, RoutingTrace};

use super::bit_trade::{BitTrade, Bits, Room};
use super::trade::{Trade, Way};
use super::{NullComparison, Permutations, comparison_columns};
use crate::counting::Pairs;
use crate::statistics::Tail;
use crate::{AnalysisError, check};

/// Which experts of one layer go together.
///
/// - **Source:** all unordered pairs within a token's set, as FLAME-MoE counts them. The published scripts of OLMoE
///   count only pairs that are adjacent in weight rank, which misses most pairs once a token chooses three or more.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCoactivation {
    /// Block.
    pub layer: usize,
    /// Number of experts.
    pub experts: usize,
    /// Experts that each token chooses.
    pub per_token: usize,
    /// Tokens.
    pub tokens: usize,
    /// Tokens that chose both experts; on the diagonal, tokens that chose the expert: `pairs[expert, expert]`.
    pub pairs: Vec<u32>,
    /// Mean over used experts of P(strongest partner | expert), beside its null: tokens trade experts so that every
    /// token keeps its number of experts and every expert its load (swap randomisation, Strona et al. 2014).
    ///
    /// The mean over *all* partners says nothing: it is `(k − 1)/(n − 1)` for every router.
    pub strongest_partner: NullComparison,
}

/// Co-activation of every routed layer.
#[derive(Clone, Debug, PartialEq)]
pub struct CoactivationReport {
    /// In the order of the trace.
    pub layers: Vec<LayerCoactivation>,
}

/// Co-activation of every routed layer, over all pairs of chosen experts.
///
/// - **Does not show:** why two experts go together; similar experts and complementary experts both do.
///
/// # Errors
/// If the trace has no token, or no permutation is asked for.
pub fn coactivation(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<CoactivationReport, AnalysisError> {
    check::at_least("coactivation", "tokens", trace.tokens().len(), 1)?;
    permutations.check("coactivation")?;
    let layers = trace.layers().iter().map(|l| of_layer(l, permutations.child("coactivation"))).collect();
    Ok(CoactivationReport { layers })
}

impl LayerCoactivation {
    /// P(`partner` is chosen | `expert` is chosen), from 0 to 1; NaN if `expert` is never chosen.
    pub fn conditional(&self, expert: usize, partner: usize) -> f64 {
        self.count(expert, partner) / self.count(expert, expert)
    }

    /// [`conditional`](Self::conditional) for a router that draws sets at random: `(k − 1)/(n − 1)`.
    pub fn chance(&self) -> f64 {
        (self.per_token as f64 - 1.0) / (self.experts as f64 - 1.0)
    }

    /// [`conditional`](Self::conditional) when the other slots are filled in proportion to load:
    /// `(k − 1) p_partner / (k − p_expert)`, where `p` is the share of tokens that chose an expert.
    ///
    /// A first-order approximation of drawing without replacement; exact for even load.
    pub fn load_chance(&self, expert: usize, partner: usize) -> f64 {
        let k = self.per_token as f64;
        (k - 1.0) * self.share(partner) / (k - self.share(expert))
    }

    /// Pointwise mutual information of two experts over tokens, bits; NaN if they never meet or one is unused.
    ///
    /// Of a pair that never meets the limit is −∞, which no mean survives and no format of tables holds; what is absent is left out of
    /// sums, so these are over the pairs that meet. Below 0 on average even for a random router, because the slots of a token exclude each other.
    pub fn pointwise_information(&self, expert: usize, partner: usize) -> f64 {
        let joint = self.count(expert, partner) / self.tokens as f64;
        match joint > 0.0 {
            true => (joint / (self.share(expert) * self.share(partner))).log2(),
            false => f64::NAN,
        }
    }

    /// Share of tokens that chose the expert, from 0 to 1.
    pub fn share(&self, expert: usize) -> f64 {
        self.count(expert, expert) / self.tokens as f64
    }

    fn count(&self, expert: usize, partner: usize) -> f64 {
        f64::from(self.pairs[expert * self.experts + partner])
    }
}

fn of_layer(routing: &LayerRouting, permutations: Permutations) -> LayerCoactivation {
    let (experts, per_token) = (routing.experts, routing.per_token);
    let pairs = count_pairs(&routing.choices, per_token, experts);
    let observed = strongest_partner(&pairs, experts);
    // All give the same; narrow sets take less of the cache.
    let ways = [drawn_as_bits::<u16>, drawn_as_bits::<u32>, drawn_as_bits::<u64>, drawn_as_bits::<u128>];
    let draws = ways.iter().find_map(|drawn| drawn(routing, permutations));
    let draws = draws.unwrap_or_else(|| drawn_as_lists(routing, permutations));
    LayerCoactivation {
        layer: routing.layer,
        experts,
        per_token,
        tokens: routing.choices.len() / per_token,
        pairs,
        strongest_partner: NullComparison::new(observed, &draws, Tail::Greater),
    }
}

/// Of the random numbers with which draws go from the data to where they begin.
const HUB: &str = "hub";

/// The statistic under the null, where sets fit into so many bits.
fn drawn_as_bits<B: Bits>(routing: &LayerRouting, permutations: Permutations) -> Option<Vec<f64>> {
    let mut trade = BitTrade::<B>::new(&routing.choices, routing.per_token, routing.experts)?;
    trade.go_back(&mut permutations.child(HUB).seed.rng());
    let one = |room: &mut Room<B>, rng: &mut _| strongest_partner(&trade.pairs(room, rng), routing.experts);
    Some(permutations.draw(|| trade.room(), one))
}

/// The same for any number of experts.
fn drawn_as_lists(routing: &LayerRouting, permutations: Permutations) -> Vec<f64> {
    let (experts, per_token) = (routing.experts, routing.per_token);
    let mut hub = routing.choices.clone();
    Trade::new(experts).randomise(&mut hub, per_token, Way::Back, &mut permutations.child(HUB).seed.rng());
    permutations.draw(
        || (Vec::new(), Trade::new(experts)),
        |(choices, trade): &mut (Vec<u32>, Trade), rng| {
            choices.clone_from(&hub);
            trade.randomise(choices, per_token, Way::There, rng);
            strongest_partner(&count_pairs(choices, per_token, experts), experts)
        },
    )
}

/// Tokens that chose both experts, and on the diagonal one: `[expert, expert]`.
fn count_pairs(choices: &[u32], per_token: usize, experts: usize) -> Vec<u32> {
    let mut pairs = Pairs::new(experts);
    pairs.add(choices, per_token);
    pairs.counts()
}

/// Mean over used experts of the largest conditional probability of a partner.
pub(crate) fn strongest_partner(pairs: &[u32], experts: usize) -> f64 {
    let strongest = |(expert, row): (usize, &[u32])| {
        let partners = row.iter().enumerate().filter(|(partner, _)| *partner != expert);
        let most = partners.map(|(_, count)| *count).max().unwrap_or(0);
        (row[expert] > 0).then(|| f64::from(most) / f64::from(row[expert]))
    };
    let mut used: Vec<f64> = pairs.chunks_exact(experts).enumerate().filter_map(strongest).collect();
    // Ascending, so that renaming the experts does not change a bit of the sum.
    used.sort_unstable_by(f64::total_cmp);
    used.iter().sum::<f64>() / used.len() as f64
}

impl CoactivationReport {
    /// One row for each layer: how strongly experts go together, beside chance.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let comparisons: Vec<NullComparison> = self.layers.iter().map(|l| l.strongest_partner).collect();
        let mut columns = vec![Column::integer_key(
            "layer",
            "",
            "block",
            self.layers.iter().map(|l| l.layer as i64).collect(),
        )];
        columns.extend(comparison_columns(
            "strongest_partner",
            "probability",
            "mean over experts of P(strongest partner | expert)",
            "tokens trade experts, loads kept",
            &comparisons,
        ));
        columns.push(Column::observations(
            "strongest_partner",
            "tokens",
            self.layers.iter().map(|l| l.tokens as i64).collect(),
        ));
        columns.push(Column::estimate(
            "chance",
            "probability",
            "(k - 1)/(n - 1): any partner, even load",
            self.layers.iter().map(LayerCoactivation::chance).collect(),
        ));
        let method = "All pairs within each token's set, not only pairs adjacent in weight rank. The null keeps the \
                      number of experts of each token and the load of each expert.";
        Ok(Table::new("routing_coactivation", "Whether experts go together", method, columns)?)
    }

    /// One row for each layer and ordered pair of distinct experts.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn by_pair(&self) -> Result<Table, AnalysisError> {
        let rows: Vec<(&LayerCoactivation, usize, usize)> = self.layers.iter().flat_map(pairs_of).collect();
        let real = |f: fn(&LayerCoactivation, usize, usize) -> f64| -> Vec<f64> {
            rows.iter().map(|(l, i, j)| f(l, *i, *j)).collect()
        };
        let columns = vec![
            Column::integer_key("layer", "", "block", rows.iter().map(|(l, ..)| l.layer as i64).collect()),
            Column::integer_key("expert", "", "expert", rows.iter().map(|(_, i, _)| *i as i64).collect()),
            Column::integer_key(
                "partner",
                "",
                "other expert",
                rows.iter().map(|(.., j)| *j as i64).collect(),
            ),
            Column::estimate(
                "conditional",
                "probability",
                "P(partner chosen | expert chosen)",
                real(LayerCoactivation::conditional),
            ),
            Column::null(
                "conditional",
                "probability",
                "other slots filled in proportion to load",
                real(LayerCoactivation::load_chance),
            ),
            Column::observations(
                "conditional",
                "tokens that chose the expert",
                real(|l, i, _| l.count(i, i)).iter().map(|c| *c as i64).collect(),
            ),
            Column::estimate(
                "pointwise_information",
                "bits",
                "log2 of joint over product of shares of tokens; absent for pairs that never meet",
                real(LayerCoactivation::pointwise_information),
            ),
        ];
        let method = "All pairs within each token's set. Pointwise information is below 0 on average even at random, \
                      because the slots of a token exclude each other.";
        Ok(Table::new("routing_coactivation_pairs", "Which experts go together", method, columns)?)
    }
}

fn pairs_of(layer: &LayerCoactivation) -> impl Iterator<Item = (&LayerCoactivation, usize, usize)> {
    let experts = layer.experts;
    (0..experts * experts)
        .map(move |pair| (layer, pair / experts, pair % experts))
        .filter(|(_, expert, partner)| expert != partner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    fn run(experts: usize, per_token: usize, choices: Vec<u32>, permutations: usize) -> LayerCoactivation {
        let n = choices.len() / per_token;
        let tokens = planted::tokens(vec![0; n], vec![0; n], vec![0; n]);
        let trace = planted::trace(tokens, experts, per_token, vec![choices]);
        coactivation(&trace, Permutations::new(permutations, Seed(1))).unwrap().layers.remove(0)
    }

    #[test]
    fn a_hand_worked_layer() {
        let layer = run(4, 2, vec![0, 1, 1, 0, 0, 2, 3, 2], 9);
        assert_eq!(layer.conditional(0, 1), 2.0 / 3.0);
        assert_eq!(layer.conditional(1, 0), 1.0);
        assert_eq!((layer.chance(), layer.share(2)), (1.0 / 3.0, 0.5));
        // Joint 2/4 over 3/4 · 2/4.
        assert!((layer.pointwise_information(0, 1) - (4f64 / 3.0).log2()).abs() < 1e-12);
        // Strongest partners: 2/3 of 0, 1 of 1, 1/2 of 2, 1 of 3.
        assert!((layer.strongest_partner.observed - (2.0 / 3.0 + 1.0 + 0.5 + 1.0) / 4.0).abs() < 1e-12);
        assert!(layer.pointwise_information(1, 3).is_nan(), "1 and 3 never meet");
        let pairs = CoactivationReport { layers: vec![layer] }.by_pair().unwrap();
        assert_eq!(pairs.rows(), 12);
        let data = &pairs.column("pointwise_information").unwrap().data;
        let finite = (0..12).filter(|row| data.number(*row).is_some_and(f64::is_finite)).count();
        let infinite = (0..12).filter(|row| data.number(*row).is_some_and(f64::is_infinite)).count();
        assert_eq!((finite, infinite), (6, 0), "of six ordered pairs nothing is known, and none is infinite");
    }

    #[test]
    fn pairs_that_are_adjacent_in_rank_are_not_all_pairs() {
        // Experts 0 and 2 always go together, but with expert 1 between them by weight.
        let choices = vec![0, 1, 2, 2, 1, 0, 0, 1, 2];
        let mut adjacent = [0u32; 16];
        for set in choices.chunks_exact(3) {
            set.windows(2).for_each(|pair| adjacent[pair[0] as usize * 4 + pair[1] as usize] += 1);
        }
        let layer = run(4, 3, choices, 9);
        assert_eq!((layer.conditional(0, 2), adjacent[2] + adjacent[8]), (1.0, 0));
        // Over all pairs each row sums to k − 1 for every router; the adjacent count has no such law.
        for expert in 0..3 {
            let sum: f64 = (0..4).filter(|p| *p != expert).map(|p| layer.conditional(expert, p)).sum();
            assert_eq!(sum, 2.0);
        }
    }

    #[test]
    fn committees_are_found() {
        // Experts 2c and 2c + 1 always go together, beside one expert at random.
        let mut rng = Seed(2).rng();
        let sets: Vec<u32> = (0..200)
            .flat_map(|_| {
                let committee = 2 * rng.random_range(0..3u32);
                [committee, committee + 1, 6 + rng.random_range(0..2u32)]
            })
            .collect();
        let layer = run(8, 3, sets, 39);
        assert!(layer.strongest_partner.p_value <= 0.025 && layer.strongest_partner.excess() > 0.2);
    }

    #[test]
    fn uneven_load_alone_is_not_taken_for_committees() {
        let p_value = |seed| {
            let weight = |e: u32| f64::from(1 + e * e);
            let sets = planted::random_sets(60, 6, 2, weight, &mut Seed(seed).rng());
            run(6, 2, sets, 19).strongest_partner.p_value
        };
        let rate = planted::rejection_rate(200, p_value);
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    }

    proptest! {
        #[test]
        fn trades_keep_sets_and_loads(seed in 0u64..1_000, tokens in 2usize..40) {
            let before = planted::random_sets(tokens, 7, 3, |e| f64::from(e + 1), &mut Seed(seed).rng());
            let mut after = before.clone();
            Trade::new(7).randomise(&mut after, 3, Way::There, &mut Seed(seed).child("trade").rng());
            let loads = |sets: &[u32]| (0..7).map(|e| sets.iter().filter(|x| **x == e).count()).collect::<Vec<_>>();
            prop_assert_eq!(loads(&before), loads(&after));
            let repeats = |set: &[u32]| set.iter().enumerate().any(|(i, e)| set[..i].contains(e));
            prop_assert!(!after.chunks_exact(3).any(repeats));
        }

        #[test]
        fn names_of_experts_and_order_of_tokens_are_immaterial(seed in 0u64..500) {
            let sets = planted::random_sets(30, 6, 2, |e| f64::from(e + 1), &mut Seed(seed).rng());
            let tokens = planted::tokens(vec![0; 30], vec![0; 30], vec![0; 30]);
            let trace = planted::trace(tokens, 6, 2, vec![sets]);
            let observe = |t: &RoutingTrace| {
                let report = coactivation(t, Permutations::new(1, Seed(0))).unwrap();
                report.layers[0].strongest_partner.observed
            };
            prop_assert_eq!(observe(&trace), observe(&planted::renamed(&trace, seed)));
            prop_assert_eq!(observe(&trace), observe(&planted::reordered(&trace, seed)));
        }
    }
}
