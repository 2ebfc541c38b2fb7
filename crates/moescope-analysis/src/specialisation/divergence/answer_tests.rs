//! Tests of the output side: what answers promote.

use super::*;
use crate::next_token::most_probable;
use crate::planted_model::{EXPERTS, VOCAB, batch, model, own_text};
use crate::routing::planted;
use crate::specialisation::promoted_tokens::{clusters_by_unembedding, promoted_tokens};
use moescope_base::{HookPoint, Request, Seed, Site, Subject, Tokens};
use moescope_model::ModelSubject;
use moescope_trace::{TokenTable, record_routing};
use proptest::prelude::*;

const CLUSTERS: usize = 6;

/// Answers at every token; `of` tells the clusters of the answer in a slot of a token.
fn promoted(trace: &RoutingTrace, of: impl Fn(usize, usize, u32) -> [u32; PROMOTED]) -> PromotedClusters {
    let tokens = trace.tokens().len();
    let layer = |layer: &LayerRouting| {
        let slots = |token: usize| layer.chosen(token).iter().enumerate().map(move |(s, e)| (token, s, *e));
        let marks = (0..tokens).flat_map(slots).map(|(token, slot, expert)| of(token, slot, expert));
        let mut marks: Vec<[u32; PROMOTED]> = marks.collect();
        marks.iter_mut().for_each(|marks| marks.sort_unstable());
        marks.into_flattened()
    };
    PromotedClusters {
        by: "unembedding",
        count: CLUSTERS,
        places: (0..tokens as u32).collect(),
        layers: trace.layers().iter().map(layer).collect(),
    }
}

fn run(trace: &RoutingTrace, promoted: &PromotedClusters, draws: usize) -> LayerDivergence {
    answer_divergence(trace, promoted, Permutations::new(draws, Seed(1))).unwrap().remove(0)
}

fn random_trace(seed: u64, documents: usize) -> RoutingTrace {
    let mut rng = Seed(seed).child("answers").rng();
    let text = planted::text(documents, 20, 24, &mut rng);
    let routes = planted::random_sets(text.len(), 4, 2, |expert| 1.0 + f64::from(expert), &mut rng);
    planted::trace(text, 4, 2, vec![routes])
}

/// Clusters by the token and the slot alone, whatever the expert: about as if three words came to mind.
fn alike(text: &TokenTable, token: usize, slot: usize) -> [u32; PROMOTED] {
    let id = text.ids[token] + slot as u32;
    [id, id / 2, id / 5 + 1].map(|number| number % CLUSTERS as u32)
}

#[test]
fn a_divergence_of_answers_by_hand() {
    // Expert 0 always promotes cluster 0 three times, expert 1 clusters 1, 1 and 2; both as often.
    let tokens = planted::tokens(vec![0; 16], vec![0; 16], (0..16).map(|t| t / 2).collect());
    let trace = planted::trace(tokens, 2, 1, vec![[0, 1].repeat(8)]);
    let found = run(&trace, &promoted(&trace, |_, _, e| if e == 0 { [0; 3] } else { [1, 1, 2] }), 19);
    // p = (1, 0, 0) or (0, 2/3, 1/3), q = (1/2, 1/3, 1/6): each has half of the layer, so both diverge like one of two equal halves.
    let by_hand = 0.5 * (4f64 / 3.0).log2() + 0.25 * (2f64 / 3.0).log2() + 0.25;
    assert!((found.divergence.observed - by_hand).abs() < 1e-12, "{found:?}");
    assert_eq!((found.side, found.experts[1].slots, found.tokens), (Side::Output, 8, 16));
}

#[test]
fn an_expert_whose_answers_promote_one_cluster_is_found_and_named() {
    let trace = random_trace(1, 16);
    let text = trace.tokens().clone();
    let one = |token, slot, expert| if expert == 2 { [5; 3] } else { alike(&text, token, slot) };
    let found = run(&trace, &promoted(&trace, one), 99);
    assert!(found.divergence.p_value <= 0.01 && found.beyond[1] > 0.02, "{found:?}");
    let most = found.experts.iter().max_by(|a, b| a.divergence.total_cmp(&b.divergence)).unwrap();
    assert_eq!(most.expert, 2);
    assert!(most.divergence > 0.2 && most.multinomial < 0.02, "{most:?}");
}

#[test]
fn experts_that_answer_alike_are_called_at_the_stated_rate_and_have_nothing_beyond_counting() {
    let of_seed = |seed: u64| {
        let trace = random_trace(seed, 16);
        let text = trace.tokens().clone();
        run(&trace, &promoted(&trace, |token, slot, _| alike(&text, token, slot)), 39)
    };
    let found: Vec<LayerDivergence> = (0..200).map(of_seed).collect();
    let rate = planted::rejection_rate(200, |seed| found[seed as usize].divergence.p_value);
    assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    // Answers are drawn whole: single tokens drawn one by one would leave a good part of this.
    let sum: f64 = found.iter().map(|of| of.beyond[0] / of.multinomial).sum();
    assert!((-0.5..0.1).contains(&(sum / 200.0)), "{}", sum / 200.0);
}

#[test]
fn documents_with_words_and_experts_of_their_own_are_not_taken_for_experts_that_answer_otherwise() {
    let of_seed = |seed: u64| {
        let mut rng = Seed(seed).child("moods").rng();
        let text = planted::text(16, 20, 24, &mut rng);
        let words = planted::random_sets(16, 4, 1, |_| 1.0, &mut rng);
        let tastes = planted::random_sets(16, 4, 1, |_| 1.0, &mut rng);
        let noise = planted::random_sets(text.len(), 4, 1, |_| 1.0, &mut rng);
        let document = |t: usize| text.documents[t] as usize;
        let routes = (0..text.len()).map(|t| if t % 2 == 0 { tastes[document(t)] } else { noise[t] });
        let trace = planted::trace(text.clone(), 4, 1, vec![routes.collect()]);
        let of = |t: usize, slot, _| {
            if t.is_multiple_of(3) { [words[document(t)]; 3] } else { alike(&text, t, slot) }
        };
        run(&trace, &promoted(&trace, of), 39).divergence.p_value
    };
    let rate = planted::rejection_rate(200, of_seed);
    assert!(rate <= planted::HIGHEST_RATE, "{rate}");
}

/// In every layer expert 3 writes along the first coordinate alone, which six tokens read, three up and three down.
fn one_sided(seed: u64) -> moescope_model::Model {
    model(2, seed, |name, data| {
        let width = 32;
        if name == "lm_head.weight" {
            data.chunks_exact_mut(width).enumerate().for_each(|(token, row)| {
                let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row[0] = length * [1.0, 1.0, 1.0, -1.0, -1.0, -1.0].get(token).copied().unwrap_or(0.0);
            });
        }
        if name.contains("down_proj") {
            let size = data.len() / EXPERTS;
            data[3 * size..4 * size].iter_mut().skip(8).for_each(|weight| *weight = 0.0);
        }
    })
}

#[test]
fn promoted_tokens_are_those_that_the_unembedding_reads_first_and_one_sided_experts_are_found() {
    let planted = one_sided(4);
    let batches: Vec<_> = (0..3).map(|part| batch(&own_text(&planted, 6, part))).collect();
    let batches: Vec<_> = batches
        .into_iter()
        .enumerate()
        .map(|(part, (tokens, mut table))| {
            table.documents.iter_mut().for_each(|document| *document += 6 * part as u32);
            (tokens, table)
        })
        .collect();
    let mut subject = ModelSubject::new(planted);
    let trace = record_routing(&mut subject, batches.iter().cloned()).unwrap();
    let texts: Vec<Tokens> = batches.iter().map(|(tokens, _)| tokens.clone()).collect();
    let found = promoted_tokens(&mut subject, &texts, &trace).unwrap();
    // The answers of one expert at the last batch, read one by one.
    let point = HookPoint::expert(Site::ExpertOut, 1, 0);
    let seen = subject.run(&Request { record: &[point], ..Request::of(&batches[2].0) }).unwrap();
    let value = &seen.values[&point];
    assert!(!value.rows().unwrap().is_empty());
    for (row, answer) in value.rows().unwrap().iter().zip(value.real().unwrap().chunks(32)) {
        let token = 2 * 6 * 24 + *row as usize;
        let slot = trace.layers()[1].chosen(token).iter().position(|expert| *expert == 0).unwrap();
        let logits = subject.unembed(answer).unwrap();
        assert_eq!(found.of(1, token, slot, 2), most_probable(&logits, PROMOTED));
    }
    let clusters = clusters_by_unembedding(&mut subject, &found, Seed(1)).unwrap().remove(0);
    assert!(clusters.count >= 2 && clusters.count <= VOCAB / 2);
    for layer in answer_divergence(&trace, &clusters, Permutations::new(99, Seed(1))).unwrap() {
        let other: f64 = layer.experts.iter().filter(|e| e.expert != 3).map(|e| e.divergence).sum::<f64>();
        let own = layer.experts.iter().find(|expert| expert.expert == 3).unwrap();
        assert!(layer.divergence.p_value <= 0.05, "{layer:?}");
        assert!(own.divergence > other / 5.0 && own.divergence > 2.0 * own.multinomial, "{layer:?}");
    }
}

#[test]
fn only_some_tokens_of_a_long_text_are_read_evenly_and_wrong_lists_are_refused() {
    let planted = model(1, 2, |_, _| {});
    let sample = own_text(&planted, 60, 1);
    let batches = [batch(&sample)];
    let mut subject = ModelSubject::new(planted);
    let trace = record_routing(&mut subject, batches.iter().cloned()).unwrap();
    let texts = [batches[0].0.clone()];
    assert!(promoted_tokens(&mut subject, &[texts[0].clone(), texts[0].clone()], &trace).is_err());
    let found = promoted_tokens(&mut subject, &texts, &trace).unwrap();
    let read: Vec<usize> = (0..60 * 24).filter(|token| found.has(*token)).collect();
    assert_eq!((read.len(), read[0]), (1024, 0));
    assert!(read.windows(2).all(|pair| pair[1] - pair[0] <= 2));
    let clusters = clusters_by_unembedding(&mut subject, &found, Seed(1)).unwrap().remove(0);
    let found = answer_divergence(&trace, &clusters, Permutations::new(9, Seed(1))).unwrap();
    assert_eq!((found[0].tokens, found[0].documents), (1024, 60));
    assert_eq!(found[0].experts.iter().map(|expert| expert.slots).sum::<usize>(), 2 * 1024);
    let other = random_trace(1, 4);
    assert!(answer_divergence(&other, &clusters, Permutations::new(9, Seed(1))).is_err());
    assert!(answer_divergence(&trace, &clusters, Permutations::new(0, Seed(1))).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn names_of_experts_and_clusters_do_not_matter(seed in 0u64..1000) {
        let trace = random_trace(seed, 8);
        let text = trace.tokens().clone();
        let own = promoted(&trace, |token, slot, expert| {
            if expert == 1 { [token as u32 % 3, 1, 1] } else { alike(&text, token, slot) }
        });
        let (found, renamed) = (run(&trace, &own, 19), run(&planted::renamed(&trace, seed), &own, 19));
        prop_assert!((found.divergence.observed - renamed.divergence.observed).abs() < 1e-12);
        prop_assert_eq!(found.divergence.p_value, renamed.divergence.p_value);
        prop_assert!((found.multinomial - renamed.multinomial).abs() < 1e-12);
        prop_assert!((found.beyond[1] - renamed.beyond[1]).abs() < 1e-9);
        let turned = own.layers.iter().map(|of| of.iter().map(|c| CLUSTERS as u32 - 1 - c).collect());
        let turned = PromotedClusters { layers: turned.collect(), ..own.clone() };
        prop_assert!((found.divergence.observed - run(&trace, &turned, 19).divergence.observed).abs() < 1e-12);
    }
}
