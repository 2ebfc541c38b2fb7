use super::*;
use crate::routing::planted;
use crate::specialisation::clusters_by_frequency;
use moescope_base::Seed;
use moescope_trace::TokenTable;
use proptest::prelude::*;

/// Clusters of ids by their remainder.
fn by_remainder(tokens: &TokenTable, count: u32) -> TokenClusters {
    let of = tokens.ids.iter().map(|id| id % count).collect();
    TokenClusters { by: "embedding", count: count as usize, of }
}

fn run(
    tokens: &TokenTable,
    experts: usize,
    per_token: usize,
    choices: Vec<u32>,
    draws: usize,
) -> LayerDivergence {
    let trace = planted::trace(tokens.clone(), experts, per_token, vec![choices]);
    let clusters = by_remainder(tokens, 4);
    cluster_divergence(&trace, &clusters, Permutations::new(draws, Seed(1))).unwrap().remove(0)
}

#[test]
fn divergences_by_hand() {
    assert_eq!(divergence(&[2.0, 2.0], &[5.0, 5.0]), 0.0);
    assert_eq!(divergence(&[1.0, 0.0], &[0.0, 3.0]), 1.0, "nothing in common is a whole bit");
    // p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): ½ log2 4/3 + ½ (½ log2 2/3 + ½ log2 2).
    let by_hand = 0.5 * (4f64 / 3.0).log2() + 0.25 * (2f64 / 3.0).log2() + 0.25;
    assert!((divergence(&[4.0, 0.0], &[5.0, 5.0]) - by_hand).abs() < 1e-12);
    assert_eq!(divergence(&[0.0, 0.0], &[1.0, 1.0]), 0.0, "an expert without tokens says nothing");
    // Two experts, each with one of two clusters, as often: both diverge by the number above.
    let tokens = planted::tokens([0, 1].repeat(8), vec![0; 16], (0..16).map(|t| t / 2).collect());
    let found = run(&tokens, 2, 1, [0, 1].repeat(8), 19);
    assert!((found.divergence.observed - by_hand).abs() < 1e-12);
    assert_eq!((found.experts.len(), found.experts[0].slots, found.documents), (2, 8, 8));
}

#[test]
fn experts_that_read_the_token_are_found_and_the_interval_holds_what_they_have() {
    let text = planted::text(24, 40, 40, &mut Seed(2).rng());
    let found = run(&text, 4, 1, text.ids.iter().map(|id| id % 4).collect(), 99);
    assert!(found.divergence.p_value <= 0.01 && found.beyond[1] > 0.3, "{found:?}");
    assert!(found.multinomial < 0.01 && found.experts.iter().all(|expert| expert.divergence > 0.3));
    // Half of the tokens by their cluster, half at random: less, and still found.
    let noise = planted::random_sets(text.len(), 4, 1, |_| 1.0, &mut Seed(3).rng());
    let half = |t: usize| if t.is_multiple_of(2) { text.ids[t] % 4 } else { noise[t] };
    let partly = run(&text, 4, 1, (0..text.len()).map(half).collect(), 99);
    assert!(partly.divergence.p_value <= 0.01 && partly.beyond[2] < found.beyond[1], "{partly:?}");
}

/// Documents have favourite tokens and, independently, favourite experts: single tokens look dependent, documents are not.
fn moody(seed: u64) -> (TokenTable, Vec<u32>) {
    let mut rng = Seed(seed).rng();
    let plain = planted::text(20, 24, 40, &mut rng);
    let moods = planted::random_sets(20, 4, 1, |_| 1.0, &mut rng);
    let tastes = planted::random_sets(20, 4, 1, |_| 1.0, &mut rng);
    let noise = planted::random_sets(plain.len(), 4, 1, |_| 1.0, &mut rng);
    let document = |t: usize| plain.documents[t] as usize;
    let ids = (0..plain.len()).map(|t| {
        if t.is_multiple_of(3) { plain.ids[t] } else { 4 * (plain.ids[t] / 4) + tastes[document(t)] }
    });
    let text = planted::tokens(ids.collect(), plain.domains.clone(), plain.documents.clone());
    let routes = (0..text.len()).map(|t| if t % 3 == 1 { noise[t] } else { moods[document(t)] }).collect();
    (text, routes)
}

#[test]
fn documents_with_moods_are_not_taken_for_experts_that_read_tokens() {
    let of_seed = |seed: u64| {
        let (text, routes) = moody(seed);
        run(&text, 4, 1, routes, 39)
    };
    let found: Vec<LayerDivergence> = (0..200).map(of_seed).collect();
    let rate = planted::rejection_rate(200, |seed| found[seed as usize].divergence.p_value);
    let beyond = found.iter().filter(|of| of.divergence.observed > 2.0 * of.multinomial).count();
    assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    assert!(beyond > 80, "the multinomial null alone would call about half of these: {beyond} of 200");
}

#[test]
fn random_routes_are_called_at_the_stated_rate_and_have_nothing_beyond_counting() {
    let of_seed = |seed: u64| {
        let mut rng = Seed(seed).child("null").rng();
        let text = planted::text(16, 20, 24, &mut rng);
        let routes = planted::random_sets(text.len(), 6, 2, |expert| 1.0 + f64::from(expert), &mut rng);
        run(&text, 6, 2, routes, 39)
    };
    let found: Vec<LayerDivergence> = (0..200).map(of_seed).collect();
    let rate = planted::rejection_rate(200, |seed| found[seed as usize].divergence.p_value);
    let sum: f64 = found.iter().map(|of| of.beyond[0] / of.multinomial).sum();
    assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    // Expected is a little below 0: experts make up the layer that they are compared with.
    assert!((-0.5..0.1).contains(&(sum / 200.0)), "{}", sum / 200.0);
}

#[test]
fn three_documents_have_no_interval_and_wrong_lists_are_refused() {
    let text = planted::text(3, 20, 24, &mut Seed(1).rng());
    let found = run(&text, 2, 1, text.ids.iter().map(|id| id % 2).collect(), 9);
    assert!(found.beyond[0].is_finite() && found.beyond[1].is_nan() && found.beyond[2].is_nan());
    let trace = planted::trace(text.clone(), 2, 1, vec![vec![0; text.len()]]);
    let short = TokenClusters { by: "embedding", count: 2, of: vec![0] };
    assert!(cluster_divergence(&trace, &short, Permutations::new(9, Seed(1))).is_err());
    let none = Permutations::new(0, Seed(1));
    assert!(cluster_divergence(&trace, &by_remainder(&text, 2), none).is_err());
    let single = planted::tokens(vec![1, 2], vec![0; 2], vec![0; 2]);
    let one = planted::trace(single.clone(), 2, 1, vec![vec![0, 1]]);
    assert!(cluster_divergence(&one, &by_remainder(&single, 2), Permutations::new(9, Seed(1))).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn names_of_experts_and_clusters_and_the_order_of_documents_do_not_matter(seed in 0u64..1000) {
        let (text, routes) = moody(seed);
        let trace = planted::trace(text.clone(), 4, 1, vec![routes.clone()]);
        let permutations = Permutations::new(9, Seed(2));
        let of = |trace: &RoutingTrace, clusters: &TokenClusters| {
            cluster_divergence(trace, clusters, permutations).unwrap().remove(0)
        };
        let clusters = by_remainder(&text, 4);
        let found = of(&trace, &clusters);
        let renamed = of(&planted::renamed(&trace, seed), &clusters);
        prop_assert!((found.divergence.observed - renamed.divergence.observed).abs() < 1e-12);
        prop_assert!((found.divergence.p_value - renamed.divergence.p_value).abs() < 1e-12);
        prop_assert!((found.beyond[1] - renamed.beyond[1]).abs() < 1e-9);
        let turned = TokenClusters { of: clusters.of.iter().map(|cluster| 3 - cluster).collect(), ..clusters.clone() };
        prop_assert!((found.divergence.observed - of(&trace, &turned).divergence.observed).abs() < 1e-12);
        // The last documents first.
        let order: Vec<usize> = (0..20).rev().flat_map(|document| document * 24..(document + 1) * 24).collect();
        let documents = order.iter().map(|t| 19 - text.documents[*t]).collect();
        let ids = order.iter().map(|t| text.ids[*t]).collect();
        let other = planted::tokens(ids, order.iter().map(|t| text.domains[*t]).collect(), documents);
        let moved = planted::trace(other.clone(), 4, 1, vec![order.iter().map(|t| routes[*t]).collect()]);
        let moved = of(&moved, &by_remainder(&other, 4));
        prop_assert!((found.divergence.observed - moved.divergence.observed).abs() < 1e-12);
        prop_assert!((found.beyond[2] - moved.beyond[2]).abs() < 0.02);
        let frequency = clusters_by_frequency(&text.ids);
        prop_assert!(of(&trace, &frequency[0]).divergence.observed >= 0.0);
    }
}

/// The guide leads to the kind that a search through all of them finds.
#[test]
fn slots_are_drawn_as_often_as_they_are_there() {
    let tokens = planted::tokens([vec![0; 70], vec![1; 4], vec![3; 26]].concat(), vec![0; 100], vec![0; 100]);
    let trace = planted::trace(tokens.clone(), 2, 1, vec![vec![0; 100]]);
    let clusters = by_remainder(&tokens, 4);
    let text = Text {
        marks: Marks::Tokens(&clusters.of),
        side: Side::Input,
        by: clusters.by,
        clusters: 4,
        documents: documents(&tokens.documents, |_| true),
    };
    let kinds = Kinds::of(&trace.layers()[0], &text);
    let mut rng = Seed(3).rng();
    let mut drawn = [0; 4];
    (0..20_000).for_each(|_| drawn[kinds.draw(&mut rng)[0] as usize] += 1);
    // Standard deviations of 65, 28 and 62.
    assert!((13_700..14_300).contains(&drawn[0]) && (680..920).contains(&drawn[1]), "{drawn:?}");
    assert!(drawn[2] == 0 && (4_900..5_500).contains(&drawn[3]), "{drawn:?}");
}
