//! What each operation of an edit does, by what is seen after it.

use moescope_base::{
    Edit, HookPoint, Request, RouteEdit, Site, Subject, TokenSelection, Tokens, Value, ValueEdit, mean_row,
};

use crate::ModelSubject;
use crate::description::{Description, FeedForward, Order, Router, RouterKind};
use crate::pass::Pass;
use crate::testing::{self, bits, logits, run, subject, tokens};

fn at(point: HookPoint, change: ValueEdit) -> Edit {
    Edit::Value { at: point, tokens: TokenSelection::All, change }
}

fn on(point: HookPoint, rows: &[u32], change: ValueEdit) -> Edit {
    Edit::Value { at: point, tokens: TokenSelection::Rows(rows.to_vec()), change }
}

fn seen(subject: &mut ModelSubject, point: HookPoint, edits: &[Edit]) -> Value {
    run(subject, &[point], edits).values.remove(&point).unwrap()
}

fn rows(value: &Value) -> Vec<Vec<u32>> {
    value.real().unwrap().chunks(value.columns()).map(bits).collect()
}

fn learned() -> ModelSubject {
    subject(&testing::routed_description(Router::learned(true)))
}

fn refusal(subject: &mut ModelSubject, edits: &[Edit]) -> String {
    subject.run(&Request { edits, ..Request::of(&tokens()) }).unwrap_err().to_string()
}

#[test]
fn a_mean_is_that_of_all_tokens_also_where_few_are_selected() {
    let mut subject = learned();
    let point = HookPoint::block(Site::ResidMid, 0);
    let before = seen(&mut subject, point, &[]);
    let mean = bits(&mean_row(before.real().unwrap(), 16));
    let some = rows(&seen(&mut subject, point, &[on(point, &[2, 11], ValueEdit::Mean)]));
    for (token, row) in some.iter().enumerate() {
        let wanted = if token == 2 || token == 11 { &mean } else { &rows(&before)[token] };
        assert_eq!(row, wanted, "token {token}");
    }
    let all = seen(&mut subject, point, &[at(point, ValueEdit::mean_of(&before).unwrap())]);
    assert_eq!(rows(&all), rows(&seen(&mut subject, point, &[at(point, ValueEdit::Mean)])));
    assert!(rows(&all).iter().all(|row| *row == mean));
}

#[test]
fn the_mean_of_a_pattern_is_over_sequences_and_stays_a_pattern() {
    let mut subject = learned();
    let point = HookPoint::block(Site::AttnPattern, 0);
    let before = seen(&mut subject, point, &[]).real().unwrap().to_vec();
    let after = seen(&mut subject, point, &[at(point, ValueEdit::Mean)]).real().unwrap().to_vec();
    let half = before.len() / 2;
    for (place, found) in after.iter().enumerate() {
        let wanted = (before[place % half] + before[half + place % half]) / 2.0;
        assert!((found - wanted).abs() < 1e-6);
    }
    assert!(after.chunks(9).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
}

#[test]
fn a_resample_exchanges_rows_and_leaves_none_in_its_place() {
    let mut subject = learned();
    for point in [HookPoint::global(Site::Embed), HookPoint::block(Site::AttnPattern, 0)] {
        let before = rows(&seen(&mut subject, point, &[]));
        let edit = |seed| [at(point, ValueEdit::Resample { seed })];
        let after = rows(&seen(&mut subject, point, &edit(4)));
        let sorted = |rows: &[Vec<u32>]| {
            let mut rows = rows.to_vec();
            rows.sort();
            rows
        };
        assert_eq!(sorted(&before), sorted(&after));
        assert_ne!(before, after);
        assert_eq!(after, rows(&seen(&mut subject, point, &edit(4))));
    }
    let point = HookPoint::block(Site::MlpOut, 0);
    let (before, all) = (rows(&seen(&mut subject, point, &[])), ValueEdit::Resample { seed: 4 });
    let every = rows(&seen(&mut subject, point, &[at(point, all.clone())]));
    assert!(before.iter().zip(&every).all(|(a, b)| a != b), "nobody keeps its own");
    let some = rows(&seen(&mut subject, point, &[on(point, &[7], all)]));
    for token in 0..18 {
        assert_eq!(some[token], if token == 7 { every[7].clone() } else { before[token].clone() });
    }
    let one = Tokens::new(vec![1, 2, 3], 1, 3).unwrap();
    let edits = [at(HookPoint::block(Site::AttnPattern, 0), ValueEdit::Resample { seed: 1 })];
    let error = subject.run(&Request { edits: &edits, ..Request::of(&one) }).unwrap_err();
    assert!(error.to_string().contains("one sequence"), "{error}");
}

/// Another text of the same shape.
fn other() -> Tokens {
    Tokens::new((0..18).map(|i| (i * 11 + 5) % 32).collect(), 2, 9).unwrap()
}

#[test]
fn a_patch_of_another_run_carries_it_over() {
    let mut subject = learned();
    let (last, end) = (HookPoint::block(Site::ResidPost, 1), HookPoint::global(Site::Logits));
    let experts: Vec<HookPoint> = (0..6).map(|e| HookPoint::expert(Site::ExpertOut, 1, e)).collect();
    let indices = HookPoint::block(Site::RouterIndices, 1);
    let record = [&[last, end, indices], &experts[..]].concat();
    let donor = subject.run(&Request { record: &record, ..Request::of(&other()) }).unwrap().values;
    let patch = |point: &HookPoint| at(*point, ValueEdit::patch_of(&donor[point]).unwrap());
    assert_eq!(bits(&logits(&mut subject, &[patch(&last)])), bits(donor[&end].real().unwrap()));
    let patches: Vec<Edit> = experts.iter().map(patch).collect();
    assert!(refusal(&mut subject, &patches).contains("replay the routes"), "other routes");
    let replay = Edit::Route { layer: 1, change: RouteEdit::replay_of(&donor[&indices]).unwrap() };
    let after = run(&mut subject, &experts, &[&patches[..], &[replay]].concat()).values;
    assert!(experts.iter().all(|point| after[point] == donor[point]));
    let pattern = HookPoint::block(Site::AttnPattern, 1);
    let donor = subject.run(&Request { record: &[pattern], ..Request::of(&other()) }).unwrap().values;
    let edit = on(pattern, &[12], ValueEdit::patch_of(&donor[&pattern]).unwrap());
    let (own, after) = (seen(&mut subject, pattern, &[]), seen(&mut subject, pattern, &[edit]));
    for row in 0..72 {
        let taken = row >= 36 && row % 9 == 3; // token 12 is position 3 of the second sequence
        assert_eq!(rows(&after)[row], rows(if taken { &donor[&pattern] } else { &own })[row], "row {row}");
    }
}

#[test]
fn edits_at_one_place_compose_in_order() {
    let mut subject = learned();
    let point = HookPoint::block(Site::AttnOut, 0);
    let set = at(point, ValueEdit::Set { vector: vec![1.0; 16] });
    let double = at(point, ValueEdit::Scale { factor: 2.0 });
    let one = |subject: &mut ModelSubject, edits: &[Edit]| seen(subject, point, edits).real().unwrap()[0];
    assert_eq!(one(&mut subject, &[set.clone(), double.clone()]), 2.0);
    assert_eq!(one(&mut subject, &[double, set.clone()]), 1.0);
    let half: Vec<u32> = (0..9).collect();
    let zero = on(point, &half, ValueEdit::Zero);
    assert_eq!(one(&mut subject, &[set.clone(), zero.clone(), at(point, ValueEdit::Mean)]), 0.5);
    assert_eq!(one(&mut subject, &[zero, at(point, ValueEdit::Mean), set]), 1.0);
}

const SITES: [Site; 4] = [Site::RouterLogits, Site::RouterScores, Site::RouterIndices, Site::RouterWeights];

/// Logits, scores, indices and weights of the routed layer, after route edits.
fn routes(subject: &mut ModelSubject, edits: &[Edit]) -> (Vec<f32>, Vec<f32>, Vec<i64>, Vec<f32>) {
    let points = SITES.map(|site| HookPoint::block(site, 1));
    let seen = run(subject, &points, edits).values;
    let real = |point: &HookPoint| seen[point].real().unwrap().to_vec();
    (real(&points[0]), real(&points[1]), seen[&points[2]].integer().unwrap().to_vec(), real(&points[3]))
}

fn route(change: RouteEdit) -> Edit {
    Edit::Route { layer: 1, change }
}

#[test]
fn an_edit_of_the_indices_gathers_weights_again_and_one_of_the_selection_derives_the_choice_again() {
    let mut subject = subject(&testing::routed_description(Router::learned(false)));
    let (select, indices) =
        (HookPoint::block(Site::RouterSelect, 1), HookPoint::block(Site::RouterIndices, 1));
    let vector = vec![0.0, 0.0, 0.0, 0.0, 5.0, 6.0];
    let by_select = at(select, ValueEdit::Set { vector });
    let by_indices = at(indices, ValueEdit::Set { vector: vec![4.0, 5.0] });
    for edit in [by_select, by_indices] {
        let (_, scores, chosen, weights) = routes(&mut subject, &[edit]);
        assert!(chosen.chunks(2).all(|pair| pair.contains(&4) && pair.contains(&5)));
        for (slot, weight) in weights.iter().enumerate() {
            assert_eq!(*weight, scores[slot / 2 * 6 + chosen[slot] as usize]);
        }
        assert!(weights.chunks(2).all(|pair| pair[0] >= pair[1]), "the larger weight first");
    }
    let refused = |edit: Edit, reason: &str| {
        let error = refusal(&mut learned(), &[edit]);
        assert!(error.contains(reason) && error.contains("hook_indices"), "{error}");
    };
    refused(at(indices, ValueEdit::Zero), "makes no choice");
    refused(at(indices, ValueEdit::Set { vector: vec![1.0, 6.0] }), "from 0 to 5");
    refused(at(indices, ValueEdit::Set { vector: vec![1.0, 0.5] }), "0.5 is no expert");
    refused(at(indices, ValueEdit::Set { vector: vec![1.0, 1.0] }), "twice");
    let replay = route(RouteEdit::Replay { choices: [0, 1].repeat(18) });
    let error = refusal(&mut learned(), &[replay, at(select, ValueEdit::Zero)]);
    assert!(error.contains("nothing is chosen"), "{error}");
}

#[test]
fn another_number_of_experts_for_each_token() {
    let mut subject = learned();
    let (_, scores, two, _) = routes(&mut subject, &[]);
    let (_, _, one, weights) = routes(&mut subject, &[route(RouteEdit::TopK { k: 1 })]);
    assert!(one.iter().zip(two.chunks(2)).all(|(first, pair)| *first == pair[0]));
    assert!(weights.iter().all(|w| *w == 1.0), "renormalised as the model does");
    let keep = [route(RouteEdit::TopK { k: 6 }), route(RouteEdit::Renormalise { renormalise: false })];
    let (_, _, all, weights) = routes(&mut subject, &keep);
    for (slot, weight) in weights.iter().enumerate() {
        assert_eq!(*weight, scores[slot / 6 * 6 + all[slot] as usize]);
    }
    let same = logits(&mut subject, &[route(RouteEdit::TopK { k: 2 })]);
    assert_eq!(bits(&same), bits(&logits(&mut subject, &[])));
    for (k, reason) in [(0, "wanted 1 to 6"), (7, "wanted 1 to 6")] {
        assert!(refusal(&mut subject, &[route(RouteEdit::TopK { k })]).contains(reason));
    }
    let both = [route(RouteEdit::TopK { k: 1 }), route(RouteEdit::TopK { k: 2 })];
    assert!(refusal(&mut subject, &both).contains("different numbers"));
    let router = Router { kind: RouterKind::Committee { members: 2 }, ..Router::learned(false) };
    let mut committee = testing::subject(&testing::routed_description(router));
    assert!(refusal(&mut committee, &[route(RouteEdit::TopK { k: 1 })]).contains("committee"));
}

#[test]
fn a_temperature_flattens_scores_and_leaves_the_recorded_logits() {
    let mut subject = learned();
    let (plain, ..) = routes(&mut subject, &[]);
    let warm = |t: f32| route(RouteEdit::Temperature { temperature: t });
    let (logits_seen, scores, ..) = routes(&mut subject, &[warm(2.0), warm(1.5)]);
    assert_eq!(bits(&logits_seen), bits(&plain));
    for (logits, scores) in plain.chunks(6).zip(scores.chunks(6)) {
        let powers: Vec<f32> = logits.iter().map(|l| (l / 3.0).exp()).collect();
        let sum: f32 = powers.iter().sum();
        assert!(powers.iter().zip(scores).all(|(p, s)| (p / sum - s).abs() < 1e-5));
    }
    assert_eq!(bits(&logits(&mut subject, &[warm(1.0)])), bits(&logits(&mut subject, &[])));
    assert!(refusal(&mut subject, &[warm(0.0)]).contains("above 0"));
    let hash = Router { kind: RouterKind::Hash { seed: 3 }, ..Router::learned(false) };
    let mut hash = testing::subject(&testing::routed_description(hash));
    assert!(refusal(&mut hash, &[warm(2.0)]).contains("no temperature"));
}

#[test]
fn renormalisation_is_as_stated() {
    let mut raw = subject(&testing::routed_description(Router::learned(false)));
    let mut own = learned();
    let state = |renormalise| route(RouteEdit::Renormalise { renormalise });
    // The two models differ above the weights: the first weights of the experts make up for smaller sums.
    let equal = |a: &mut ModelSubject, edits: &[Edit], b: &mut ModelSubject| {
        let [(.., chosen, weights), (.., others, wanted)] = [routes(a, edits), routes(b, &[])];
        assert_eq!((chosen, bits(&weights)), (others, bits(&wanted)));
    };
    assert_ne!(routes(&mut raw, &[]).3, routes(&mut own, &[]).3);
    equal(&mut raw, &[state(true)], &mut own);
    equal(&mut own, &[state(false)], &mut raw);
    equal(&mut learned(), &[state(true)], &mut own);
    assert!(refusal(&mut own, &[state(false), state(true)]).contains("keep one"));
    let router = Router { order: Order::SelectThenScore, ..Router::learned(false) };
    let mut softmax = subject(&testing::routed_description(router));
    assert!(refusal(&mut softmax, &[state(false)]).contains("one by itself"));
}

#[test]
fn a_given_weight_is_applied_and_the_others_follow_as_stated() {
    let mut subject = learned();
    let (_, _, chosen, before) = routes(&mut subject, &[]);
    let give = |weight, renormalise, tokens| {
        route(RouteEdit::SetWeight { experts: vec![chosen[0] as u32], weight, renormalise, tokens })
    };
    let (.., after) = routes(&mut subject, &[give(0.25, false, TokenSelection::All)]);
    for (slot, weight) in after.iter().enumerate() {
        assert_eq!(*weight, if chosen[slot] == chosen[0] { 0.25 } else { before[slot] });
    }
    let (.., after) = routes(&mut subject, &[give(0.25, true, TokenSelection::Rows(vec![0]))]);
    let sum = 0.25 + before[1];
    assert!((after[0] - 0.25 / sum).abs() < 1e-6 && (after[1] - before[1] / sum).abs() < 1e-6);
    assert_eq!(bits(&after[2..]), bits(&before[2..]), "the other tokens");
    let expert = HookPoint::expert(Site::ExpertOut, 1, chosen[0] as usize);
    let silent = logits(&mut subject, &[at(expert, ValueEdit::Zero)]);
    assert_eq!(bits(&logits(&mut subject, &[give(0.0, false, TokenSelection::All)])), bits(&silent));
    let all = RouteEdit::SetWeight {
        experts: (0..6).collect(),
        weight: 0.0,
        renormalise: true,
        tokens: TokenSelection::All,
    };
    assert!(refusal(&mut subject, &[route(all)]).contains("sum to 0"));
    assert!(refusal(&mut subject, &[give(f32::NAN, false, TokenSelection::All)]).contains("finite"));
    assert!(refusal(&mut subject, &[give(0.0, false, TokenSelection::Rows(vec![18]))]).contains("0 to 17"));
}

fn loads(chosen: &[i64]) -> Vec<usize> {
    (0..6).map(|expert| chosen.iter().filter(|e| **e == expert).count()).collect()
}

#[test]
fn a_shuffle_keeps_the_load_of_every_expert_and_their_company() {
    let mut subject = learned();
    let (_, _, before, _) = routes(&mut subject, &[]);
    let (_, scores, after, weights) = routes(&mut subject, &[route(RouteEdit::Shuffle { seed: 5 })]);
    assert_eq!(loads(&before), loads(&after));
    assert_ne!(before, after);
    let company = |chosen: &[i64]| {
        let mut sets: Vec<[i64; 2]> = chosen.chunks(2).map(|p| [p[0].min(p[1]), p[0].max(p[1])]).collect();
        sets.sort_unstable();
        sets
    };
    assert_eq!(company(&before), company(&after));
    for (token, pair) in weights.chunks(2).enumerate() {
        let of = |slot: usize| scores[token * 6 + after[token * 2 + slot] as usize];
        assert!((pair[0] - of(0) / (of(0) + of(1))).abs() < 1e-6, "weights from the token's own scores");
    }
    let again = routes(&mut subject, &[route(RouteEdit::Shuffle { seed: 5 })]).2;
    assert_eq!(after, again);
}

/// Two routed layers above a dense one.
fn deep() -> Description {
    let mut description = testing::routed_description(Router::learned(true));
    description.feed_forward.push(description.feed_forward[1].clone());
    description
}

#[test]
fn swapped_layers_use_each_others_routes() {
    let mut subject = subject(&deep());
    let points = [1, 2].map(|layer| HookPoint::block(Site::RouterIndices, layer));
    let sets = |subject: &mut ModelSubject, edits: &[Edit]| {
        let seen = run(subject, &points, edits).values;
        points.map(|point| {
            let sorted = |pair: &[i64]| [pair[0].min(pair[1]), pair[0].max(pair[1])];
            seen[&point].integer().unwrap().chunks(2).map(sorted).collect::<Vec<_>>()
        })
    };
    let [first, second] = sets(&mut subject, &[]);
    assert_ne!(first, second);
    let swap = route(RouteEdit::Swap { with: 2 });
    assert_eq!(sets(&mut subject, std::slice::from_ref(&swap)), [second, first]);
    // The routes are those of a pass with the edits before the swap.
    let ban = route(RouteEdit::Ban { experts: vec![0] });
    let [first, second] = sets(&mut subject, std::slice::from_ref(&ban));
    assert_eq!(sets(&mut subject, &[ban.clone(), swap.clone()]), [second, first]);
    assert!(refusal(&mut subject, &[swap, ban]).contains("leave no choice"));
    assert!(refusal(&mut subject, &[route(RouteEdit::Swap { with: 1 })]).contains("with itself"));
    assert!(refusal(&mut subject, &[route(RouteEdit::Swap { with: 0 })]).contains("dense"));
    let mut uneven = deep();
    let FeedForward::Routed(layer) = &mut uneven.feed_forward[2] else { unreachable!("as built") };
    layer.experts = 5;
    let mut uneven = testing::subject(&uneven);
    assert!(
        refusal(&mut uneven, &[route(RouteEdit::Swap { with: 2 })]).contains("6 experts and layer 2 has 5")
    );
}

#[test]
fn a_single_pass_refuses_a_swap() {
    let model = testing::model(deep());
    let edits = [route(RouteEdit::Swap { with: 2 })];
    let mut tape = moescope_engine::Tape::new(moescope_engine::Mode::Inference);
    let mut pass = Pass { salt: 0, edits: &edits, listener: None, stop: None };
    let error = model.forward(&mut tape, &tokens(), &mut pass).unwrap_err().to_string();
    assert!(error.contains("ModelSubject"), "{error}");
}

#[test]
fn what_the_router_reads_can_be_edited_apart_from_what_the_experts_read() {
    let mut subject = learned();
    let block = |site| HookPoint::block(site, 1);
    let (router, experts, logits) = (block(Site::RouterIn), block(Site::MlpIn), block(Site::RouterLogits));
    let gates: Vec<HookPoint> = (0..6).map(|e| HookPoint::expert(Site::ExpertGate, 1, e)).collect();
    let record = [&[router, experts, logits], &gates[..]].concat();
    let before = run(&mut subject, &record, &[]).values;
    assert_eq!(rows(&before[&router]), rows(&before[&experts]));
    // With nothing to read all logits are zero, and the first experts are chosen; those answer as they did to the same tokens.
    let after = run(&mut subject, &record, &[at(router, ValueEdit::Zero)]).values;
    assert!(after[&logits].real().unwrap().iter().all(|logit| *logit == 0.0));
    assert_eq!(after[&experts], before[&experts]);
    let of_token = |values: &std::collections::BTreeMap<HookPoint, Value>, gate: &HookPoint| {
        let tokens = values[gate].rows().unwrap().to_vec();
        tokens.into_iter().zip(rows(&values[gate])).collect::<std::collections::BTreeMap<_, _>>()
    };
    let mut same = 0;
    for gate in &gates {
        let (old, new) = (of_token(&before, gate), of_token(&after, gate));
        for (old, new) in old.iter().filter_map(|(token, row)| Some((row, new.get(token)?))) {
            assert_eq!(old, new);
            same += 1;
        }
    }
    assert!(same > 0 && gates.iter().any(|gate| before[gate].rows() != after[gate].rows()));
}
