use moescope_base::{Column, Table};
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};

use super::bit_trade::Bits;
use super::{NullComparison, Permutations, comparison_columns};
use crate::counting::{Handover, is_followed};
use crate::shuffled::{Shuffled, shuffle};
use crate::statistics::Tail;
use crate::{AnalysisError, check};

/// How much of a token's set its successor keeps, in one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerLocality {
    /// Block.
    pub layer: usize,
    /// Mean of |S(t) ∩ S(t+1)| / k over pairs of neighbours, from 0 to 1; null: routes shuffled over the whole layer,
    /// which keeps loads and sets.
    pub overlap: NullComparison,
    /// The same overlap; null: routes shuffled within each document, which also keeps the topic of the document, so
    /// that only the order of tokens can make a difference.
    pub order_overlap: NullComparison,
    /// Share of neighbours whose first choice is the same, from 0 to 1; null: shuffled over the layer.
    pub first_choice: NullComparison,
}

/// Locality of every routed layer.
///
/// - **Does not show:** locality of the router beyond that of the text: neighbours are alike in token and topic.
/// - **Source:** repeated first choices of Mixtral (Jiang et al. 2024, table 5), with a null that keeps loads in place
///   of 1/n.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalityReport {
    /// In the order of the trace.
    pub layers: Vec<LayerLocality>,
    /// Pairs of neighbours.
    pub pairs: usize,
}

/// Overlap between the routes of neighbouring tokens of a document.
///
/// # Errors
/// If no two tokens are neighbours in a document, or no permutation is asked for.
pub fn locality(trace: &RoutingTrace, permutations: Permutations) -> Result<LocalityReport, AnalysisError> {
    check::at_least("locality", "tokens", trace.tokens().len(), 1)?;
    permutations.check("locality")?;
    let firsts = neighbours(trace.tokens());
    if firsts.is_empty() {
        let (method, unit) = ("locality", "pairs of neighbouring tokens");
        return Err(AnalysisError::TooFew { method, unit, found: 0, wanted: 1 });
    }
    let documents = tokens_by_document(&trace.tokens().documents);
    let permutations = permutations.child("locality");
    let together = if trace.layers().iter().all(|layer| layer.experts <= FEW_EXPERTS) { TOGETHER } else { 1 };
    let layers = trace.layers().chunks(together);
    let layers = layers.flat_map(|layers| of_layers(layers, &firsts, &documents, permutations)).collect();
    Ok(LocalityReport { layers, pairs: firsts.len() })
}

/// Tokens whose successor in the table follows them in the same document.
fn neighbours(tokens: &TokenTable) -> Vec<u32> {
    (0..tokens.len() - 1).filter(|token| is_followed(tokens, *token)).map(|t| t as u32).collect()
}

/// Tokens of each document, in order.
pub(crate) fn tokens_by_document(documents: &[u32]) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..documents.len() as u32).collect();
    order.sort_unstable_by_key(|t| (documents[*t as usize], *t));
    order.chunk_by(|a, b| documents[*a as usize] == documents[*b as usize]).map(<[u32]>::to_vec).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Overlap {
    sets: f64,
    firsts: f64,
}

/// Layers that are shuffled together: all layers have the same draws.
const TOGETHER: usize = 4;
/// Experts up to which routes are so short that several together lie in a cache.
const FEW_EXPERTS: usize = 32;

/// Layers side by side, [`TOGETHER`] at most where all have few experts, else one.
fn of_layers(
    layers: &[LayerRouting],
    firsts: &[u32],
    documents: &[Vec<u32>],
    permutations: Permutations,
) -> Vec<LayerLocality> {
    // All give the same; narrow sets take less of the cache.
    let alone =
        [drawn_as_bits::<u16, 1>, drawn_as_bits::<u32, 1>, drawn_as_bits::<u64, 1>, drawn_as_bits::<u128, 1>];
    let several = [drawn_as_bits::<u16, TOGETHER>, drawn_as_bits::<u32, TOGETHER>];
    let mut ways = alone.into_iter().chain(several);
    let drawn = ways.find_map(|drawn| drawn(layers, firsts, documents, permutations));
    let as_lists =
        || layers.iter().map(|layer| drawn_as_lists(layer, firsts, documents, permutations)).collect();
    let drawn = drawn.unwrap_or_else(as_lists);
    let identity: Vec<u32> = (0..documents.iter().map(Vec::len).sum::<usize>() as u32).collect();
    let of_layer = |(routing, (by_layer, by_document)): (&LayerRouting, Drawn)| {
        let observed = overlap(routing, firsts, &identity);
        let (sets, first): (Vec<f64>, Vec<f64>) = by_layer.iter().map(|o| (o.sets, o.firsts)).unzip();
        LayerLocality {
            layer: routing.layer,
            overlap: NullComparison::new(observed.sets, &sets, Tail::Greater),
            order_overlap: NullComparison::new(observed.sets, &by_document, Tail::Greater),
            first_choice: NullComparison::new(observed.firsts, &first, Tail::Greater),
        }
    };
    layers.iter().zip(drawn).map(of_layer).collect()
}

/// Overlaps with routes shuffled over the layer, and of sets with routes shuffled within each document.
type Drawn = (Vec<Overlap>, Vec<f64>);

/// Overlaps of at most `L` layers under both nulls, where sets fit into so many bits. Routes themselves are shuffled, so that neighbours lie side by
/// side in memory.
fn drawn_as_bits<B: Bits, const L: usize>(
    layers: &[LayerRouting],
    firsts: &[u32],
    documents: &[Vec<u32>],
    permutations: Permutations,
) -> Option<Vec<Drawn>> {
    if layers.len() > L || layers.iter().any(|layer| layer.experts > B::EXPERTS) {
        return None;
    }
    let route = |chosen: &[u32]| {
        let set = chosen.iter().fold(B::EMPTY, |set, expert| set.with(*expert));
        Route { set, first: chosen[0] as u8 }
    };
    let none = Route { set: B::EMPTY, first: 0 };
    let at = |token| std::array::from_fn(|l| layers.get(l).map_or(none, |layer| route(layer.chosen(token))));
    let routes: Vec<[Route<B>; L]> = (0..documents.iter().map(Vec::len).sum()).map(at).collect();
    let by_layer = permutations.child("layer").draw(Shuffled::default, |shuffled, rng| {
        shuffled.fill(&routes, rng);
        overlap_of_routes(shuffled.items(), firsts, layers)
    });
    let by_document = permutations.child("document").draw(
        || (routes.clone(), Vec::new()),
        |(lying, document): &mut (_, Vec<[Route<B>; L]>), rng| {
            for places in documents {
                document.clear();
                document.extend(places.iter().map(|place| routes[*place as usize]));
                shuffle(document, rng);
                places.iter().zip(&*document).for_each(|(place, route)| lying[*place as usize] = *route);
            }
            overlap_of_routes(lying, firsts, layers)
        },
    );
    let of_layer = |l: usize| {
        let of = |drawn: &[Vec<Overlap>]| drawn.iter().map(|draw| draw[l]).collect::<Vec<Overlap>>();
        (of(&by_layer), of(&by_document).iter().map(|overlap| overlap.sets).collect())
    };
    Some((0..layers.len()).map(of_layer).collect())
}

/// The same for any number of experts.
fn drawn_as_lists(
    routing: &LayerRouting,
    firsts: &[u32],
    documents: &[Vec<u32>],
    permutations: Permutations,
) -> Drawn {
    let identity: Vec<u32> = (0..(routing.choices.len() / routing.per_token) as u32).collect();
    let by_layer = permutations.child("layer").draw(Shuffled::default, |shuffled, rng| {
        shuffled.fill(&identity, rng);
        overlap(routing, firsts, shuffled.items())
    });
    let by_document = permutations.child("document").draw(
        || identity.clone(),
        |order, rng| {
            for document in documents {
                let mut from = document.clone();
                shuffle(&mut from, rng);
                document.iter().zip(from).for_each(|(to, from)| order[*to as usize] = from);
            }
            overlap(routing, firsts, order).sets
        },
    );
    (by_layer, by_document)
}

/// The experts of a token as bits, and the one with the largest weight.
#[derive(Clone, Copy)]
struct Route<B> {
    /// All of them.
    set: B,
    /// The one with the largest weight, one of [`Bits::EXPERTS`] at most.
    first: u8,
}

/// Overlap of neighbours in each layer, whose routes lie at their places.
fn overlap_of_routes<B: Bits, const L: usize>(
    routes: &[[Route<B>; L]],
    firsts: &[u32],
    layers: &[LayerRouting],
) -> Vec<Overlap> {
    let (mut shared, mut same_first) = ([0; L], [0; L]);
    for place in firsts {
        let (here, next) = (&routes[*place as usize], &routes[*place as usize + 1]);
        for layer in 0..L {
            shared[layer] += here[layer].set.both(next[layer].set).count();
            same_first[layer] += usize::from(here[layer].first == next[layer].first);
        }
    }
    let pairs = firsts.len() as f64;
    let of_layer = |(l, layer): (usize, &LayerRouting)| Overlap {
        sets: shared[l] as f64 / (pairs * layer.per_token as f64),
        firsts: same_first[l] as f64 / pairs,
    };
    layers.iter().enumerate().map(of_layer).collect()
}

/// Overlap of neighbours when the token at a place takes the routes of `order[place]`.
fn overlap(routing: &LayerRouting, firsts: &[u32], order: &[u32]) -> Overlap {
    let mut handover = Handover::default();
    for place in firsts {
        let here = routing.chosen(order[*place as usize] as usize);
        handover.add(here, routing.chosen(order[*place as usize + 1] as usize));
    }
    let pairs = firsts.len() as f64;
    Overlap {
        sets: handover.shared as f64 / (pairs * routing.per_token as f64),
        firsts: handover.same_first as f64 / pairs,
    }
}

impl LocalityReport {
    /// One row for each layer.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let each = |f: fn(&LayerLocality) -> NullComparison| -> Vec<NullComparison> {
            self.layers.iter().map(f).collect()
        };
        let mut columns = vec![Column::integer_key(
            "layer",
            "",
            "block",
            self.layers.iter().map(|l| l.layer as i64).collect(),
        )];
        let meaning = "share of a token's experts that the next token keeps";
        columns.extend(comparison_columns(
            "overlap",
            "share of experts",
            meaning,
            "routes shuffled over the layer, loads kept",
            &each(|l| l.overlap),
        ));
        columns.push(Column::observations("overlap", "pairs of neighbours", {
            vec![self.pairs as i64; self.layers.len()]
        }));
        columns.extend(comparison_columns(
            "order_overlap",
            "share of experts",
            meaning,
            "routes shuffled within documents",
            &each(|l| l.order_overlap),
        ));
        columns.extend(comparison_columns(
            "first_choice",
            "share of tokens",
            "next token has the same first choice",
            "routes shuffled over the layer, loads kept",
            &each(|l| l.first_choice),
        ));
        let method = "Neighbouring tokens of the same document. Does not show locality beyond that of the text itself.";
        Ok(Table::new("routing_locality", "How much of its route a token hands on", method, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    fn run(tokens: TokenTable, experts: usize, per_token: usize, choices: Vec<u32>) -> LayerLocality {
        let trace = planted::trace(tokens, experts, per_token, vec![choices]);
        locality(&trace, Permutations::new(39, Seed(4))).unwrap().layers[0]
    }

    #[test]
    fn a_hand_worked_layer() {
        // Two documents of two tokens: overlaps 1/2 (first choices differ) and 1 (first choices agree).
        let tokens = planted::tokens(vec![0; 4], vec![0; 4], vec![0, 0, 1, 1]);
        let layer = run(tokens, 4, 2, vec![0, 1, 2, 0, 3, 1, 3, 1]);
        assert_eq!((layer.overlap.observed, layer.first_choice.observed), (0.75, 0.5));
    }

    #[test]
    fn tokens_that_are_no_neighbours_are_refused() {
        let tokens = planted::tokens(vec![0; 2], vec![0; 2], vec![0, 1]);
        let trace = planted::trace(tokens, 2, 1, vec![vec![0, 1]]);
        assert!(locality(&trace, Permutations::new(9, Seed(0))).is_err());
    }

    #[test]
    fn sticky_routes_are_found_by_both_nulls() {
        let mut rng = Seed(5).rng();
        let text = planted::text(4, 60, 10, &mut rng);
        let mut sets = planted::random_sets(240, 8, 2, |_| 1.0, &mut rng);
        // Every odd token hands on the route of its predecessor.
        (0..120).for_each(|t| sets.copy_within(4 * t..4 * t + 2, 4 * t + 2));
        let layer = run(text, 8, 2, sets);
        assert!(layer.overlap.p_value <= 0.025 && layer.order_overlap.p_value <= 0.025);
        assert!(layer.overlap.excess() > 0.2 && layer.first_choice.p_value <= 0.025);
    }

    #[test]
    fn routes_as_bits_and_as_lists_are_drawn_alike() {
        let sets = |seed| planted::random_sets(120, 9, 3, |e| f64::from(1 + e), &mut Seed(seed).rng());
        let text = planted::text(6, 20, 10, &mut Seed(8).rng());
        let trace = planted::trace(text, 9, 3, vec![sets(8), sets(9)]);
        let (firsts, documents) = (neighbours(trace.tokens()), tokens_by_document(&trace.tokens().documents));
        let (layers, draws) = (trace.layers(), Permutations::new(9, Seed(4)));
        let of_list = |layer| drawn_as_lists(layer, &firsts, &documents, draws);
        let lists: Vec<Drawn> = layers.iter().map(of_list).collect();
        assert_eq!(drawn_as_bits::<u16, 4>(layers, &firsts, &documents, draws), Some(lists.clone()));
        assert_eq!(drawn_as_bits::<u128, 2>(layers, &firsts, &documents, draws), Some(lists.clone()));
        assert_eq!(drawn_as_bits::<u64, 1>(layers, &firsts, &documents, draws), None, "two layers");
        assert_eq!(
            drawn_as_bits::<u64, 1>(&layers[1..], &firsts, &documents, draws),
            Some(lists[1..].to_vec())
        );
        let many = [LayerRouting { experts: 65, ..layers[0].clone() }];
        assert_eq!(drawn_as_bits::<u64, 1>(&many, &firsts, &documents, draws), None);
    }

    #[test]
    fn topic_alone_is_locality_in_the_layer_but_not_in_order() {
        let mut rng = Seed(6).rng();
        let text = planted::text(4, 60, 10, &mut rng);
        let sets = (0..240u32).map(|t| 2 * (t / 60) + rng.random_range(0..2u32)).collect();
        let layer = run(text, 8, 1, sets);
        assert!(layer.overlap.p_value <= 0.025 && layer.order_overlap.p_value > 0.05);
    }

    #[test]
    fn independent_routes_are_rejected_at_the_stated_rate() {
        let p_value = |seed| {
            let mut rng = Seed(seed).rng();
            let text = planted::text(2, 30, 10, &mut rng);
            let sets = planted::random_sets(60, 6, 2, |e| f64::from(1 + e), &mut rng);
            run(text, 6, 2, sets).overlap.p_value
        };
        let rate = planted::rejection_rate(200, p_value);
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    }

    proptest! {
        #[test]
        fn names_of_experts_are_immaterial(seed in 0u64..500) {
            let mut rng = Seed(seed).rng();
            let text = planted::text(2, 20, 5, &mut rng);
            let sets = planted::random_sets(40, 6, 2, |e| f64::from(1 + e), &mut rng);
            let trace = planted::trace(text, 6, 2, vec![sets]);
            let run = |t: &RoutingTrace| locality(t, Permutations::new(9, Seed(seed))).unwrap();
            prop_assert_eq!(run(&trace), run(&planted::renamed(&trace, seed)));
        }
    }
}
