//! Experts in an order in which those that go together stand together.
//!
//! A table of all pairs of experts in the order of their numbers looks like noise, because numbers mean
//! nothing. Average linkage joins, again and again, the two groups of experts whose members are nearest on
//! average, where two experts are the nearer the larger their lift is. The leaves of the tree that this
//! makes, read from left to right, put groups side by side; the tree itself is not kept.

use kodama::{Method, linkage};
use moescope_base::{Column, Figure, FigureKind, Table};

use super::{CoactivationReport, LayerCoactivation};
use crate::AnalysisError;

/// Experts that are drawn: more cells cannot be told apart.
const DRAWN: usize = 48;

/// The co-activation of one layer, its experts ordered by clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct CoactivationClusters {
    /// Block: the one whose experts go together most beyond chance.
    pub layer: usize,
    /// Experts in their order; the most used ones of a layer that has very many.
    pub order: Vec<usize>,
    /// Experts that no token chose, or that are left out as less used.
    pub left_out: usize,
    /// log2 of the tokens that chose both over those expected from the loads, each with half a token added, bits: `lift[place, place]`;
    /// NaN on the diagonal.
    pub lift: Vec<f64>,
    /// Tokens that chose both: `tokens[place, place]`.
    pub tokens: Vec<u64>,
    /// p-value of the layer's strongest partners, against traded sets.
    pub p_value: f64,
}

impl CoactivationReport {
    /// The layer whose experts go together most beyond chance, ordered by average linkage; none where tokens choose one expert or fewer than
    /// three experts are used.
    ///
    /// - **Null:** 0 bits: other slots filled in proportion to load. Half a token is added to both counts, which draws rare pairs to 0.
    /// - **Does not show:** that clusters are real: any numbers can be put in an order. The p-value is that of the layer.
    /// - **Source:** average linkage, Sokal and Michener 1958, on the lift.
    pub fn clusters(&self) -> Option<CoactivationClusters> {
        let routed = self.layers.iter().filter(|layer| layer.per_token > 1);
        let strongest = routed.max_by(|a, b| {
            let excess = |layer: &LayerCoactivation| layer.strongest_partner.excess();
            excess(a).total_cmp(&excess(b)).then(b.layer.cmp(&a.layer))
        })?;
        of_layer(strongest)
    }
}

/// The most used experts remain where there are more than can be drawn, of equally used ones those with the
/// lower numbers. Rows of the lift and of the tokens are in the order of the tree, `[place, place]`.
fn of_layer(layer: &LayerCoactivation) -> Option<CoactivationClusters> {
    let mut used: Vec<usize> = (0..layer.experts).filter(|expert| layer.share(*expert) > 0.0).collect();
    used.sort_by(|a, b| layer.share(*b).total_cmp(&layer.share(*a)).then(a.cmp(b)));
    used.truncate(DRAWN);
    if used.len() < 3 {
        return None;
    }
    let places = ordered(used.len(), |a, b| lift(layer, used[a], used[b]));
    let order: Vec<usize> = places.into_iter().map(|place| used[place]).collect();
    let pairs = || order.iter().flat_map(|a| order.iter().map(move |b| (*a, *b)));
    let both =
        |(a, b): (usize, usize)| (layer.conditional(a, b) * layer.tokens as f64 * layer.share(a)).round();
    Some(CoactivationClusters {
        layer: layer.layer,
        left_out: layer.experts - order.len(),
        lift: pairs().map(|(a, b)| if a == b { f64::NAN } else { lift(layer, a, b) }).collect(),
        tokens: pairs().map(|pair| both(pair) as u64).collect(),
        p_value: layer.strongest_partner.p_value,
        order,
    })
}

/// Both directions have the same count; their expectations differ a little, so the mean of both is taken.
///
/// An example: 1,000 tokens, of which 60 chose both experts where the loads let one expect 29.5, give
/// log2(60.5 / 30), about one bit: they go together twice as often as their loads tell.
fn lift(layer: &LayerCoactivation, a: usize, b: usize) -> f64 {
    let tokens = |expert: usize| layer.share(expert) * layer.tokens as f64;
    let both = layer.conditional(a, b) * tokens(a);
    let expected = (layer.load_chance(a, b) * tokens(a) + layer.load_chance(b, a) * tokens(b)) / 2.0;
    ((both + 0.5) / (expected + 0.5)).log2()
}

/// Leaves of the tree of average linkage, from left to right; the nearer of two branches is the one with the smaller place.
fn ordered(count: usize, likeness: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let pairs = || (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    let most = pairs().map(|(a, b)| likeness(a, b)).fold(f64::NEG_INFINITY, f64::max);
    let mut distances: Vec<f64> = pairs().map(|(a, b)| most - likeness(a, b)).collect();
    let tree = linkage(&mut distances, count, Method::Average);
    // Clusters are numbered after the leaves, in the order in which they were made.
    let mut clusters: Vec<Vec<usize>> = (0..count).map(|leaf| vec![leaf]).collect();
    for step in tree.steps() {
        let mut both = [step.cluster1, step.cluster2].map(|cluster| std::mem::take(&mut clusters[cluster]));
        both.sort_by_key(|leaves| leaves.iter().copied().min());
        clusters.push(both.concat());
    }
    clusters.pop().unwrap_or_default()
}

impl CoactivationClusters {
    /// One row for each ordered pair of experts, in the order of the clusters; an expert with itself has no number.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let count = self.order.len();
        // The diagonal stands in the table without a number, so that rows and columns of the picture have one order.
        let cells = 0..count * count;
        let expert = |of: fn(usize, usize) -> usize| {
            cells.clone().map(|cell| self.order[of(cell, count)] as i64).collect()
        };
        let columns = vec![
            Column::integer_key(
                "expert",
                "",
                "in the order of the clusters",
                expert(|cell, count| cell / count),
            ),
            Column::integer_key("partner", "", "other expert", expert(|cell, count| cell % count)),
            Column::estimate(
                "lift",
                "bits",
                "log2 of tokens that chose both over those expected from the loads",
                self.lift.clone(),
            ),
            Column::null("lift", "bits", "other slots filled in proportion to load", vec![0.0; cells.len()]),
            Column::observations(
                "lift",
                "tokens that chose both",
                self.tokens.iter().map(|tokens| *tokens as i64).collect(),
            ),
        ];
        let method = "All pairs within each token's set; half a token is added to the count and to what is expected. The layer is the one whose \
                      strongest partners exceed their null most; experts are ordered by average linkage.";
        let title = format!("Which experts of layer {} go together", self.layer);
        Ok(Table::new("routing_coactivation_clusters", &title, method, columns)?)
    }

    /// The heat map.
    pub fn figure(&self) -> Figure {
        let count = self.order.len();
        let best = (0..count * count)
            .filter(|cell| cell / count < cell % count)
            .max_by(|a, b| self.lift[*a].total_cmp(&self.lift[*b]))
            .expect("there are three experts or more");
        let (a, b) = (self.order[best / count], self.order[best % count]);
        let title = format!(
            "In layer {}, experts {} and {} go together most: {:.1} times as often as their loads tell (layer: p = {:.2})",
            self.layer,
            a.min(b),
            a.max(b),
            self.lift[best].exp2(),
            self.p_value
        );
        let left_out = match self.left_out {
            0 => String::new(),
            left => format!(" {left} experts that are less used or not used are not drawn."),
        };
        let caption = format!(
            "log2 of how often two experts are chosen together over what their loads tell; 0 is chance. Experts that go together stand \
             together.{left_out}"
        );
        let kind = FigureKind::Heatmap {
            x: "partner".into(),
            y: "expert".into(),
            value: "lift".into(),
            center: Some(0.0),
        };
        let table = "routing_coactivation_clusters".to_owned();
        Figure { id: "coactivation_clusters".into(), title, caption, table, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{Permutations, coactivation, planted};
    use moescope_base::Seed;
    use rand::RngExt;

    fn clusters(experts: usize, per_token: usize, choices: Vec<u32>) -> Option<CoactivationClusters> {
        let n = choices.len() / per_token;
        let tokens = planted::tokens(vec![0; n], vec![0; n], vec![0; n]);
        let trace = planted::trace(tokens, experts, per_token, vec![choices]);
        coactivation(&trace, Permutations::new(19, Seed(1))).unwrap().clusters()
    }

    #[test]
    fn experts_of_a_planted_group_stand_together() {
        let mut rng = Seed(3).rng();
        // Groups 0, 2, 4 and 1, 3, 5: both slots come from one group.
        let choices: Vec<u32> = (0..400)
            .flat_map(|_| {
                let group = rng.random_range(0..2u32);
                let first = rng.random_range(0..3u32);
                let second = (first + rng.random_range(1..3u32)) % 3;
                [2 * first + group, 2 * second + group]
            })
            .collect();
        let found = clusters(6, 2, choices).unwrap();
        let parity: Vec<usize> = found.order.iter().map(|expert| expert % 2).collect();
        assert!(parity == [0, 0, 0, 1, 1, 1] || parity == [1, 1, 1, 0, 0, 0], "{:?}", found.order);
        assert!(found.lift[1] > 0.5 && found.lift[5] < -3.0);
        assert!(found.p_value <= 0.05);
        assert_eq!(found.table().unwrap().rows(), 36);
    }

    #[test]
    fn a_lift_by_hand() {
        // Experts 0 and 1 together twice, 0 and 2 once, 1 and 2 once.
        let found = clusters(3, 2, vec![0, 1, 1, 0, 0, 2, 1, 2]).unwrap();
        let place = |expert| found.order.iter().position(|at| *at == expert).unwrap();
        // Loads 3, 3, 2 of 4: expected from 0 to 1 is 3 · (3/4) / (2 − 3/4) = 1.8, and likewise back.
        let lift = found.lift[place(0) * 3 + place(1)];
        assert!((lift - (2.5f64 / 2.3).log2()).abs() < 1e-12, "{lift}");
        assert_eq!(found.tokens[place(0) * 3 + place(1)], 2);
    }

    #[test]
    fn one_slot_or_two_experts_make_no_clusters() {
        assert!(clusters(3, 1, vec![0, 1, 2]).is_none());
        assert!(clusters(4, 2, vec![0, 1, 1, 0]).is_none());
    }

    #[test]
    fn the_order_follows_the_tree() {
        // 0 and 3 are near, 1 and 2 are near.
        let near = |a: usize, b: usize| if a + b == 3 { 5.0 } else { (a + b) as f64 / 10.0 };
        assert_eq!(ordered(4, near), [0, 3, 1, 2]);
    }
}
