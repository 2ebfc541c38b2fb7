use super::measure::{Apart, reading};
use super::*;
use crate::certain_model::{LAYERS, model, samples};
use crate::routing::planted;
use crate::statistics::BootstrapMethod;
use moescope_base::Seed;
use moescope_model::ModelSubject;

fn resampling(seed: u64) -> Resampling {
    Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(seed) }
}

fn run(mut subject: ModelSubject) -> Found {
    let options = PatchOptions { layers: 8, candidates: 4, resampling: resampling(1) };
    activation_patch(&mut subject, &samples(), options).unwrap()
}

fn of(found: &Found, read: Read, layer: usize, part: Part, place: Place) -> Carried {
    let spot = Spot { read, layer, part, place };
    *found.carried.iter().find(|row| row.spot == spot).unwrap()
}

fn is(moved: &Moved, wanted: f64) -> bool {
    [moved.share.low, moved.share.high].iter().all(|end| (end - wanted).abs() < 1e-6)
}

#[test]
fn shares_of_both_directions_by_hand() {
    // The clean text says 0 with 2 nats more than 1, the corrupted one 1 with 1 nat more than 0.
    let apart = Apart { clean: reading(&[2.0, 0.0], [0, 1]), corrupted: reading(&[0.0, 1.0], [0, 1]) };
    let (own, foreign) = (reading(&[1.5, 0.0], [0, 1]), reading(&[0.0, 1.0], [0, 1]));
    let back = sums::moved(&apart, Direction::Denoise, &own, &foreign);
    assert_eq!((back[0], back[1], back[2], back[6]), (2.5, 0.0, 3.0, 1.0));
    let away = sums::moved(&apart, Direction::Noise, &own, &foreign);
    assert_eq!((away[0], away[1], away[2]), (0.5, 3.0, 3.0));
    assert!(back[3] > 0.0 && away[4] == 0.0 && back[4] == back[5], "the foreign one is the corrupted one");
    // Over two documents: (2.5 + 0.5) / (3 + 3), and 1 − (0.2 + 0.4) / (1 + 2).
    let documents = [[2.5, 0.0, 3.0, 0.2, 1.0, 1.0, 1.0], [0.5, 1.5, 3.0, 0.4, 3.5, 2.0, 1.0]];
    let found = sums::summarise(&documents, resampling(1)).unwrap();
    assert!((found.share.estimate - 0.5).abs() < 1e-12 && (found.null - 0.25).abs() < 1e-12);
    assert!((found.kl.estimate - 0.8).abs() < 1e-12 && (found.kl_null + 0.5).abs() < 1e-12);
}

/// A prediction follows from the last vector of its own token alone: with that of the other text it is the other text's, and nothing else matters.
#[test]
fn the_last_vector_of_the_reader_is_all_and_that_of_any_other_token_nothing() {
    let found = run(model(true, |_, _| {}));
    let last = |place: Place| of(&found, Read::Later, LAYERS - 1, Part::Stream, place);
    let reader = last(Place::Reader);
    for moved in [reader.denoised, reader.noised] {
        assert!(is(&moved, 1.0) && (moved.kl.estimate - 1.0).abs() < 1e-6 && moved.null < 0.9, "{moved:?}");
    }
    for place in [Place::Exchanged, Place::First, Place::Second] {
        let row = last(place);
        assert!(is(&row.denoised, 0.0) && is(&row.noised, 0.0) && row.denoised.p_value == 1.0, "{row:?}");
    }
    let counts =
        found.tried.iter().map(|tried| tried.cases + tried.same + tried.little + tried.without + tried.alone);
    assert!(counts.eq([24, 24]));
    let [next, later] = [Read::Next, Read::Later].map(|read| {
        let rows = found.carried.iter().filter(|row| row.spot.read == read);
        rows.filter(|row| !matches!(row.spot.part, Part::Expert(_))).count()
    });
    assert_eq!((next, later), (1 + 4 * LAYERS, 1 + (4 + 3 * 2 + 2) * LAYERS));
}

/// Where one expert of the last block alone writes, it carries what its layer does where the clean text has chosen it, and its neighbours nothing.
#[test]
fn the_only_expert_that_writes_is_told_by_its_number() {
    let one_writes = model(true, |name, data| {
        if name.starts_with("model.layers.2.mlp.experts.down_proj") {
            let size = data.len() / 4;
            data.chunks_exact_mut(size).enumerate().for_each(|(expert, down)| {
                let loud = if expert == 1 { 4.0 } else { 0.0 };
                down.iter_mut().for_each(|weight| *weight *= loud);
            });
        }
    });
    let found = run(one_writes);
    let of_last = found.carried.iter().filter(|row| row.spot.layer == LAYERS - 1);
    let mut silent = 0;
    for row in of_last {
        match row.spot.part {
            Part::Expert(1) => {
                assert!(row.denoised.share.low > 0.2 && row.noised.share.low > 0.2, "{row:?}");
                assert!(row.denoised.share.low > row.denoised.null, "{row:?}");
            }
            Part::Expert(_) => {
                assert!(is(&row.denoised, 0.0) && is(&row.noised, 0.0), "{row:?}");
                silent += 1;
            }
            _ => {}
        }
    }
    assert_eq!(silent, 3);
}

/// What a later token knows of the exchanged one came through heads: where one head of each block alone writes, it and all of attention are one.
#[test]
fn the_only_head_that_writes_carries_what_attention_does_and_a_mute_one_nothing() {
    let one_speaks = model(true, |name, data| {
        // `[stream, heads]`: columns of the second head.
        if name.contains("o_proj") {
            data.chunks_exact_mut(12).for_each(|row| row[6..].fill(0.0));
        }
    });
    let found = run(one_speaks);
    let row = |layer: usize, part: Part| of(&found, Read::Later, layer, part, Place::Reader);
    for layer in 0..LAYERS {
        let (all, speaks) = (row(layer, Part::Attention), row(layer, Part::Head(0)));
        for (all, speaks) in [(all.denoised, speaks.denoised), (all.noised, speaks.noised)] {
            assert!((all.share.estimate - speaks.share.estimate).abs() < 1e-4, "{all:?} {speaks:?}");
        }
        let mute = row(layer, Part::Head(1));
        assert!(is(&mute.denoised, 0.0) && is(&mute.noised, 0.0), "{mute:?}");
    }
    assert!((0..LAYERS).any(|layer| row(layer, Part::Head(0)).denoised.share.estimate > 0.02));
}

#[test]
fn a_layer_that_writes_nothing_carries_nothing_and_its_experts_neither() {
    let silent = model(true, |name, data| {
        if name.starts_with("model.layers.1.mlp.experts.down_proj") {
            data.fill(0.0);
        }
    });
    let found = run(silent);
    let mut experts = 0;
    for row in found.carried.iter().filter(|row| row.spot.layer == 1) {
        if matches!(row.spot.part, Part::FeedForward | Part::Ranked(_) | Part::Expert(_)) {
            assert!(is(&row.denoised, 0.0) && is(&row.noised, 0.0), "{row:?}");
            experts += usize::from(matches!(row.spot.part, Part::Expert(_)));
        }
    }
    assert!(experts > 0, "some expert is chosen in four documents");
    let speaks = |layer| of(&found, Read::Next, layer, Part::FeedForward, Place::Exchanged).denoised;
    assert!([0, 2].map(speaks).iter().any(|moved| moved.share.estimate > 0.02));
}

#[test]
fn experts_of_other_names_and_a_dense_model() {
    // The four experts of each layer in another order, router included.
    let renamed = model(true, |name, data| {
        if name.contains("mlp.experts") || name.contains("mlp.gate") {
            let size = data.len() / 4;
            data.rotate_left(size);
        }
    });
    let (found, other) = (run(model(true, |_, _| {})), run(renamed));
    assert_eq!(found.tried.len(), other.tried.len());
    for row in &found.carried {
        let part = match row.spot.part {
            Part::Expert(expert) => Part::Expert((expert + 3) % 4),
            part => part,
        };
        let same = of(&other, row.spot.read, row.spot.layer, part, row.spot.place);
        assert!((row.denoised.share.estimate - same.denoised.share.estimate).abs() < 1e-3, "{row:?}");
        assert!((row.noised.share.estimate - same.noised.share.estimate).abs() < 1e-3, "{row:?}");
    }
    let dense = run(model(false, |_, _| {}));
    let routed = |part: Part| matches!(part, Part::Ranked(_) | Part::Expert(_) | Part::Routes);
    assert!(dense.carried.iter().all(|row| !routed(row.spot.part)), "no expert and no route");
    assert!(dense.carried.iter().any(|row| row.spot.part == Part::FeedForward));
}

#[test]
fn texts_whose_predictions_do_not_differ_are_refused() {
    // Without an unembedding every prediction is the even one, whatever the token.
    let mut mute = model(true, |name, data| {
        if name.contains("lm_head") {
            data.fill(0.0);
        }
    });
    let options = PatchOptions { layers: 8, candidates: 4, resampling: resampling(1) };
    let error = activation_patch(&mut mute, &samples(), options).unwrap_err();
    assert!(error.to_string().contains("exchanged token changes"), "{error}");
}

#[test]
fn where_own_and_foreign_vectors_do_the_same_the_test_says_otherwise_as_often_as_it_should() {
    let p_value = |seed: u64| {
        let mut rng = Seed(seed).rng();
        let mut draw = || {
            let [own, foreign] = [0, 1].map(|_| 0.3 + crate::matrix::normal(&mut rng));
            [own, foreign, 2.0, 0.5, 0.5, 1.0, 1.0]
        };
        let documents: Vec<[f64; 7]> = (0..24).map(|_| draw()).collect();
        sums::summarise(&documents, Resampling { replicates: 20, ..resampling(seed) }).unwrap().p_value
    };
    let rate = planted::rejection_rate(200, p_value);
    assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    assert!(rate > 0.0, "a test of level 5 % rejects now and then");
}

fn row(spot: Spot, denoised: (f64, f64), noised: (f64, f64)) -> Carried {
    let moved = |(low, high): (f64, f64)| {
        let share = crate::wording::found((low + high) / 2.0, low, high);
        let p_value = if low > 0.05 { 1e-4 } else { 0.5 };
        Moved { share, null: 0.05, p_value, kl: share, kl_null: 0.0 }
    };
    Carried { spot, denoised: moved(denoised), noised: moved(noised), cases: 20 }
}

#[test]
fn the_title_of_the_stream_says_where_the_change_goes_over_to_the_reader() {
    let title = |shares: &[[(f64, f64); 2]]| {
        let of = |(layer, [exchanged, reader]): (usize, &[(f64, f64); 2])| {
            [(Place::Exchanged, *exchanged), (Place::Reader, *reader)].map(|(place, ends)| {
                row(Spot { read: Read::Later, layer, part: Part::Stream, place }, ends, ends)
            })
        };
        let rows: Vec<Carried> = shares.iter().enumerate().flat_map(of).collect();
        titles::stream(&rows.iter().collect::<Vec<_>>(), Direction::Denoise)
    };
    let (high, low) = ((0.8, 1.0), (0.0, 0.1));
    assert_eq!(
        title(&[[high, low], [low, high]]),
        "After block 0 the exchanged token brings 90 % (80 to 100 %) of a later prediction back and the token where it is read 5 % (0 to 10 %); \
         from block 1 on the latter brings more: 90 % (80 to 100 %) against 5 % (0 to 10 %)"
    );
    assert!(title(&[[low, high]]).starts_with("Already after block 0"));
    assert!(title(&[[high, low], [high, low]]).starts_with("Even after block 1"));
    assert!(title(&[[high, low], [(0.2, 0.6), (0.3, 0.7)]]).ends_with("not told apart"));
}

#[test]
fn titles_name_the_largest_and_say_when_it_is_told_from_nothing_or_from_no_other() {
    let spot =
        |layer: usize| Spot { read: Read::Next, layer, part: Part::FeedForward, place: Place::Exchanged };
    let title = |all: &[(f64, f64)]| {
        let rows: Vec<Carried> =
            all.iter().enumerate().map(|(layer, ends)| row(spot(layer), *ends, (0.4, 0.5))).collect();
        let rows: Vec<&Carried> = rows.iter().collect();
        titles::most(&rows, "the next prediction", ("layer", "layers"), titles::of_block)
    };
    let first = title(&[(0.5, 0.7), (0.1, 0.3)]);
    assert!(
        first.starts_with("The feed-forward layer of block 0 brings 60 % (50 to 70 %)")
            && first.ends_with("takes 45 % (40 to 50 %) away"),
        "{first}"
    );
    assert!(
        title(&[(0.4, 0.6), (0.5, 0.7)])
            .ends_with("not told from the next, the feed-forward layer of block 0")
    );
    let none = title(&[(0.0, 0.2), (-0.1, 0.3)]);
    assert!(none.starts_with("0 of 2 layers bring more") && none.contains("is not told from"), "{none}");
    let at = Spot { place: Place::Reader, ..spot(1) };
    let [both, one] = [(0.4, 0.5), (0.8, 0.9)].map(|noised| titles::apart(&[&row(at, (0.3, 0.45), noised)]));
    assert!(both.starts_with("None of 1 part"), "{both}");
    assert!(one.ends_with("more is needed of it than it gives alone"), "{one}");
}
