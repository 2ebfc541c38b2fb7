use std::ops::Range;

use moescope_base::Seed;
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};
use proptest::prelude::*;
use rand::seq::SliceRandom;

use super::*;
use crate::routing::{Permutations, coactivation, load, locality, near_ties, planted, sharpness};
use crate::specialisation::domain_load;

const PLAN: CountingPlan =
    CountingPlan { token_rows: 64, paths: 50, sets: 20, low_rows: 64, cells: 60, bigrams: 40, documents: 30 };

/// Documents of several windows over two layers of eight experts, with routes that follow the token, the domain and the predecessor.
fn trace(seed: u64, documents: usize) -> RoutingTrace {
    let mut rng = Seed(seed).rng();
    let mut text = planted::text(documents, 12, 40, &mut rng);
    text.positions.iter_mut().for_each(|position| *position %= 6);
    let routes = |k: usize, rng: &mut rand_chacha::ChaCha8Rng| {
        planted::random_sets(text.len(), 8, k, |e| f64::from(1 + e), rng)
    };
    let layers = [2usize, 1].into_iter().enumerate().map(|(l, k)| {
        let layer = planted::layer(l + 1, 8, k, routes(k, &mut rng));
        let entropy = (0..text.len()).map(|t| (t as f32 * 0.37).sin().abs() + 0.1).collect();
        let margin = (0..text.len()).map(|t| if t % 9 == 0 { f32::NAN } else { 1e-4 * t as f32 }).collect();
        LayerRouting { entropy, margin, ..layer }
    });
    let layers = layers.collect();
    RoutingTrace::new(text.clone(), layers).unwrap()
}

/// Tokens from `start` to `end` as a trace of their own, with domain names in another order.
fn part(trace: &RoutingTrace, range: Range<usize>, turned: bool) -> RoutingTrace {
    let all = trace.tokens();
    let names = all.domain_names.len() as u16;
    // Names that are not in the order of the alphabet.
    let domain = |d: &u16| if turned { names - 1 - d } else { *d };
    let mut domain_names = all.domain_names.clone();
    if turned {
        domain_names.reverse();
    }
    let tokens = TokenTable {
        ids: all.ids[range.clone()].to_vec(),
        next_ids: all.next_ids[range.clone()].to_vec(),
        domains: all.domains[range.clone()].iter().map(domain).collect(),
        documents: all.documents[range.clone()].to_vec(),
        positions: all.positions[range.clone()].to_vec(),
        classes: all.classes[range.clone()].to_vec(),
        domain_names,
        class_names: all.class_names.clone(),
    };
    let layer = |l: &LayerRouting| LayerRouting {
        choices: l.choices[range.start * l.per_token..range.end * l.per_token].to_vec(),
        weights: l.weights[range.start * l.per_token..range.end * l.per_token].to_vec(),
        entropy: l.entropy[range.clone()].to_vec(),
        margin: l.margin[range.clone()].to_vec(),
        relative_margin: l.relative_margin[range.clone()].to_vec(),
        ..l.clone()
    };
    RoutingTrace::new(tokens, trace.layers().iter().map(layer).collect()).unwrap()
}

fn counted(trace: &RoutingTrace, plan: CountingPlan) -> RouteCounts {
    let mut counts = RouteCounts::new(plan).unwrap();
    counts.add(trace, "all").unwrap();
    counts
}

/// Tables as text, in which every bit of every number shows.
fn bits(counts: &RouteCounts) -> String {
    let tables = counts.tables().unwrap();
    tables.iter().map(|t| format!("{} {:?}\n", t.name(), t.columns())).collect()
}

#[test]
fn one_pass_and_a_hundred_parts_in_any_order_give_the_same_tables_to_the_bit() {
    let trace = trace(1, 100);
    let whole = counted(&trace, PLAN);
    assert!(whole.paths[0].level() > 0 && whole.layers[0].sets.level() > 0, "samples must be at work");
    let mut order: Vec<usize> = (0..100).collect();
    for seed in 0..3 {
        order.shuffle(&mut Seed(seed).rng());
        let mut one_by_one = RouteCounts::new(PLAN).unwrap();
        let mut merged = RouteCounts::new(PLAN).unwrap();
        for ten in order.chunks(10) {
            let mut some = RouteCounts::new(PLAN).unwrap();
            for d in ten {
                let part = part(&trace, d * 12..(d + 1) * 12, d % 3 == 1);
                one_by_one.add(&part, &format!("part {d:03}")).unwrap();
                some.add(&part, &format!("part {d:03}")).unwrap();
            }
            merged.merge(&some).unwrap();
        }
        assert_eq!(bits(&one_by_one), bits(&whole));
        assert_eq!(bits(&merged), bits(&whole));
        assert_eq!(merged, one_by_one);
    }
}

#[test]
fn single_traces_are_analysed_with_the_same_numbers() {
    let trace = trace(2, 20);
    let counts = counted(&trace, CountingPlan::default());
    let tables = counts.tables().unwrap();
    let same = |table: &moescope_base::Table| {
        let found = tables.iter().find(|t| t.name() == table.name());
        // By what is printed: what is absent is NaN, which equals nothing.
        assert_eq!(format!("{found:?}"), format!("{:?}", Some(table)));
    };
    let load = load(&trace).unwrap();
    same(&load.table().unwrap());
    same(&load.over_layers().unwrap());
    same(&sharpness(&trace, crate::routing::NEAR_TIE).unwrap().table().unwrap());
    same(&near_ties(&trace).unwrap().table().unwrap());
    same(&domain_load(&trace).unwrap().table().unwrap());
    let shuffles = Permutations::new(3, Seed(1));
    same(&coactivation(&trace, shuffles).unwrap().by_pair().unwrap());
    let handed = locality(&trace, shuffles).unwrap().layers;
    let paths = crate::paths::effective_number(&trace, crate::paths::PathKind::Sets, shuffles).unwrap();
    for (layer, single) in counts.layers().iter().zip(&handed) {
        assert_eq!(layer.overlap.ratio(), single.overlap.observed);
        assert_eq!(layer.same_first.ratio(), single.first_choice.observed);
    }
    let told = counts.path_use();
    assert_eq!(told[0].distinct, (paths.paths.used.distinct as f64, 0.0));
    assert!((told[0].entropy.0 - paths.paths.used.chao_shen).abs() < 1e-9);
    assert!((told[2].plug_in.0 - paths.layers[0].used.plug_in).abs() < 1e-9);
}

#[test]
fn planted_routes_are_told_and_independent_ones_are_not() {
    let mut rng = Seed(5).rng();
    let text = planted::text(60, 40, 8, &mut rng);
    let by_token: Vec<u32> = text.ids.clone();
    let at_random = planted::random_sets(text.len(), 8, 1, |_| 1.0, &mut rng);
    let sticky = at_random.iter().step_by(40).flat_map(|e| [*e; 40]).collect();
    let counts = counted(&planted::trace(text, 8, 1, vec![by_token, at_random, sticky]), PLAN);
    let told = |label: usize, layer: usize| {
        let told = counts.layers()[layer].by_label(label, &counts.pairs).information();
        (told.bits - told.bias, told.label_entropy)
    };
    let (found, entropy) = told(3, 0);
    assert!((found / entropy - 1.0).abs() < 0.02 && told(3, 1).0.abs() < 0.02);
    let interval = |layer: usize| counts.layers()[layer].overlap.interval(counts.documents());
    assert!(interval(1).0 < 0.125 && 0.125 < interval(1).1, "{:?}", interval(1));
    assert!(interval(2).0 > 0.9);
    let next = |layer: usize| counts.layers()[layer].next_layer.information();
    assert!(next(0).bits < 3.0 * next(0).bias);
}

/// A text of many documents with routes by token, by domain, and at random.
fn planted_three() -> RouteCounts {
    let mut rng = Seed(6).rng();
    let text = planted::text(80, 40, 8, &mut rng);
    let by_token: Vec<u32> = text.ids.clone();
    let by_domain: Vec<u32> = text.domains.iter().map(|domain| u32::from(*domain)).collect();
    let at_random = planted::random_sets(text.len(), 8, 1, |_| 1.0, &mut rng);
    let plan = CountingPlan { low_rows: 128, ..CountingPlan::default() };
    counted(&planted::trace(text, 8, 1, vec![by_token, by_domain, at_random]), plan)
}

#[test]
fn the_domain_is_told_beyond_the_token_where_routes_follow_it_alone() {
    let counts = planted_three();
    let told = |layer: usize| {
        let told = counts.layers()[layer].tokens.told().unwrap();
        assert!(told.limit > 8 && told.information.slots == counts.tokens());
        (told.information.bits - told.information.bias) / told.information.label_entropy
    };
    assert!(told(0).abs() < 0.02 && (told(1) - 1.0).abs() < 0.03 && told(2).abs() < 0.02);
}

#[test]
fn routes_are_foretold_from_what_they_follow() {
    let counts = planted_three();
    let of = |layer: usize, predictor: &str| {
        let all = counts.foretold();
        let found = all.iter().find(|row| row.0 == layer && row.1.predictor == predictor).unwrap().1;
        (found.overlap, found.load)
    };
    assert_eq!(of(0, "token").0, 1.0);
    assert_eq!(of(0, "token and the one before").0, 1.0);
    for (layer, predictor) in [(0, "position"), (2, "token"), (2, "token and the one before")] {
        let (overlap, load) = of(layer, predictor);
        // 3,200 tokens, an eighth of them by chance: four deviations.
        assert!(
            (overlap - load).abs() < 0.04 && (load - 0.125).abs() < 0.03,
            "{predictor}: {overlap} {load}"
        );
    }
}

#[test]
fn committees_of_domains_are_told_apart_from_halves_of_one() {
    let tables = planted_three().tables().unwrap();
    let table = tables.iter().find(|table| table.name() == "counted_committee_domains").unwrap();
    let of = |column: &str, row: usize| table.column(column).unwrap().data.number(row).unwrap();
    let null = table.companion(moescope_base::ColumnRole::Null, "weight").unwrap().name.clone();
    // By domain each has an expert of its own; at random halves of one domain differ as much as two domains.
    assert_eq!((of("weight", 1), of(&null, 1)), (0.0, 1.0));
    assert!((of("weight", 2) - of(&null, 2)).abs() < 0.05 && of("weight", 2) < 1.0);
    let sizes = tables.iter().find(|table| table.name() == "counted_committee").unwrap();
    let size = |row: usize| sizes.column("size").unwrap().data.number(row).unwrap();
    assert!(size(1) <= 3.0 && size(2) >= 5.0, "{} {}", size(1), size(2));
}

#[test]
fn paths_name_the_domain_if_one_of_their_experts_does() {
    let counts = planted_three();
    let named = counts.named_by_paths();
    let domain = named.iter().find(|(_, label, _)| *label == "domain").unwrap().2;
    assert_eq!((domain.expert, domain.layer, domain.path.error), (1.0, 1, 0.0));
    // Paths that only one half has cannot name anything but the most frequent domain.
    assert!(
        (domain.path.ratio - (domain.seen + (1.0 - domain.seen) * domain.alone)).abs() < 0.02,
        "{domain:?}"
    );
    assert!(domain.seen > 0.9 && domain.alone < 0.5);
}

#[test]
fn caches_find_what_neighbours_share() {
    let mut rng = Seed(5).rng();
    let text = planted::text(60, 40, 8, &mut rng);
    let at_random = planted::random_sets(text.len(), 8, 1, |_| 1.0, &mut rng);
    let sticky = at_random.iter().step_by(4).flat_map(|e| [*e; 4]).collect();
    let trace = planted::trace(text, 8, 1, vec![at_random, sticky]);
    let counts = counted(&trace, CountingPlan::default());
    let hits = |layer: usize| counts.hit_rates(&counts.layers()[layer]);
    let shuffles = Permutations::new(3, Seed(1));
    let resampling = crate::statistics::Resampling {
        replicates: 20,
        level: 0.95,
        method: crate::statistics::BootstrapMethod::Percentile,
        seed: Seed(1),
    };
    let single = crate::expert_cache::expert_cache(&trace, shuffles, resampling).unwrap();
    for (layer, single) in single.iter().enumerate() {
        for (counted, single) in hits(layer).iter().zip(&single.hit_rate) {
            assert_eq!((counted.room, counted.rate), (single.room, single.rate));
        }
    }
    let first = hits(0)[0];
    assert!(first.interval.0 < first.null && first.null < first.interval.1, "{first:?}");
    // Three of four tokens have their predecessor's expert.
    let first = hits(1)[0];
    assert!(first.interval.0 > first.null + 0.3 && first.documents == 60, "{first:?}");
}

#[test]
fn what_does_not_add_up_is_refused() {
    let trace = trace(3, 6);
    let mut counts = counted(&trace, PLAN);
    let refusal = |result: Result<(), AnalysisError>| result.unwrap_err().to_string();
    assert!(refusal(counts.add(&trace, "all")).contains("a second time"));
    assert!(refusal(counts.add(&part(&trace, 3..12, false), "cut")).contains("between windows"));
    let mut other = counted(&trace, CountingPlan { paths: 51, ..PLAN });
    assert!(refusal(other.merge(&counts)).contains("plan"));
    let text = trace.tokens().clone();
    let wide = planted::trace(text.clone(), 9, 1, vec![vec![0; text.len()]]);
    assert!(refusal(counts.add(&wide, "wide")).contains("layers"));
    let mut manifest = counts.manifest();
    manifest.schema = 99;
    assert!(RouteCounts::new(PLAN).unwrap().begin(&manifest).is_err());
    let mut empty = RouteCounts::new(PLAN).unwrap();
    let mut groups = counts.groups();
    groups.remove(0);
    let mut filling = empty.begin(&counts.manifest()).unwrap();
    groups.iter().for_each(|group| filling.take(group).unwrap());
    assert!(refusal(filling.finish()).contains("tokens"));
    assert!(RouteCounts::new(CountingPlan { sets: 0, ..PLAN }).is_err());
    assert!(RouteCounts::new(PLAN).unwrap().tables().is_err());
}

#[test]
fn sums_that_counting_cannot_have_written_are_refused() {
    let counts = counted(&trace(3, 6), PLAN);
    let begun = |change: &dyn Fn(&mut CountsManifest)| {
        let mut manifest = counts.manifest();
        change(&mut manifest);
        RouteCounts::new(PLAN).unwrap().begin(&manifest).map(|_| ()).unwrap_err().to_string()
    };
    assert!(begun(&|manifest| manifest.layers[0].2 = 0).contains("a routed layer"));
    assert!(begun(&|manifest| manifest.layers[0].1 = 0).contains("a routed layer"));
    assert!(begun(&|manifest| manifest.layers[0].1 = 1 << 40).contains("a routed layer"));
    assert!(begun(&|manifest| manifest.sampled_levels[1] = 64).contains("a level"));
    assert!(begun(&|manifest| manifest.tokens = u64::MAX).contains("the number of tokens"));
    // Rows and columns that no table has, and sums that no count can be.
    let cells =
        [(1 << 50, 0, 1), (i64::MAX, 0, 1), (-1, 0, 1), (0, 1 << 50, 1), (0, -1, 1), (0, 0, i64::MIN)];
    for group in counts.groups() {
        for (row, column, sum) in cells {
            // Keys are any number, and digits of exact sums may be negative.
            let key = group.statistic.contains("paths") || group.statistic == "sets";
            let key = key || ["bigrams", "stack_distances"].contains(&group.statistic.as_str());
            let digit = ["masses", "exact_sums"].contains(&group.statistic.as_str());
            let wrong = moescope_trace::SumGroup::of(&group.statistic, group.layer, [(row, column, sum)]);
            let mut fresh = RouteCounts::new(PLAN).unwrap();
            let taken = fresh.begin(&counts.manifest()).unwrap().take(&wrong);
            assert!(taken.is_err() || key || digit, "{} {row} {column} {sum}", group.statistic);
        }
    }
    for token_rows in [0, 1 << 31] {
        assert!(RouteCounts::new(CountingPlan { token_rows, ..PLAN }).is_err());
    }
}

#[test]
fn a_token_that_none_precedes_is_kept_no_oftener_than_others() {
    // Id 0 at the beginning of a window would have the hash 0, which every sample keeps.
    let key = halves::bigram_key(None, 0);
    assert!(key.leading_zeros() < 20, "{key:x}");
    assert_eq!(key_sample::unmixed(key) as u32, 0);
    assert_eq!(key_sample::unmixed(halves::bigram_key(Some(7), 9)) as u32, 9);
    assert_ne!(halves::bigram_key(Some(0), 0), key);
}

proptest! {
    #[test]
    fn names_of_experts_are_immaterial(seed in 0u64..200) {
        let trace = trace(seed, 5);
        let (own, other) = (counted(&trace, PLAN), counted(&planted::renamed(&trace, seed), PLAN));
        for (a, b) in own.layers().iter().zip(other.layers()) {
            prop_assert_eq!((a.overlap, a.same_first), (b.overlap, b.same_first));
            for label in 0..5 {
                let bits = |layer: &LayerCounts| layer.by_label(label, &own.pairs).information().bits;
                prop_assert!((bits(a) - bits(b)).abs() < 1e-9);
            }
        }
    }
}
