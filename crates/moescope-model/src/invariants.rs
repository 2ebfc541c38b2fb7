//! What must hold of the forward pass, whatever the model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moescope_base::{
    Edit, HookPoint, LogitTerm, Objective, Observation, Request, RouteEdit, Site, Subject, TokenSelection,
    Tokens, Value, ValueEdit,
};

use moescope_engine::{Mode, Tape};

use crate::ModelError;
use crate::description::{Description, Router};
use crate::forward::{Course, End, Weights};
use crate::pass::{Heard, Listener, Pass};
use crate::streams::Start;
use crate::testing::{self, all_points, bits, logits, run, subject, tokens, value_edit, zoo};

#[test]
fn listening_and_threads_change_no_bit() {
    for (name, description) in zoo() {
        let plain = run(&mut subject(&description), &[], &[]).loss;
        let points = all_points(&description);
        for threads in 1..=3 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let heard = pool.install(|| run(&mut subject(&description), &points, &[]));
            assert_eq!(heard.values.len(), points.len(), "{name}: every site was heard");
            assert_eq!(bits(&heard.loss), bits(&plain), "{name}, {threads} threads");
            let gradients: Vec<_> = points.iter().copied().filter(|p| p.site().has_gradient()).collect();
            let tokens = tokens();
            let request = Request { gradients: &gradients, ..Request::of(&tokens) };
            let with_gradients = pool.install(|| subject(&description).run(&request).unwrap());
            assert_eq!(with_gradients.gradients.len(), gradients.len());
            assert_eq!(bits(&with_gradients.loss), bits(&plain), "{name}, gradients, {threads} threads");
        }
    }
}

/// The numbers of a value, expert indices too.
fn numbers(value: &Value) -> Vec<f32> {
    match value.integer() {
        Some(indices) => indices.iter().map(|index| *index as f32).collect(),
        None => value.real().unwrap().to_vec(),
    }
}

/// Edits that put back what was recorded.
fn put_back(point: HookPoint, value: &Value) -> Edit {
    value_edit(point, ValueEdit::Patch { rows: numbers(value) })
}

/// An edit that puts something else there: mirrored experts, or a shift that differs by entry, because norms and the softmax
/// of the router are blind to some even shifts.
fn replaced(point: HookPoint, value: &Value) -> Edit {
    let change = match point.site() {
        Site::RouterIndices => ValueEdit::Patch { rows: numbers(value).iter().map(|e| 5.0 - e).collect() },
        _ => {
            ValueEdit::Add { vector: (0..value.columns()).map(|i| 0.3 + 0.2 * (i * i % 7) as f32).collect() }
        }
    };
    value_edit(point, change)
}

/// Whether nothing can be written there: no such site, a router that does not score, or scores that are only reported.
fn read_only(name: &str, point: HookPoint) -> bool {
    let unscored =
        matches!(point.site(), Site::RouterIn | Site::RouterLogits | Site::RouterScores | Site::RouterSelect);
    !point.site().editable()
        || matches!(name, "hash" | "random") && unscored
        || matches!(name, "select first" | "one by one") && point.site() == Site::RouterScores
}

/// Edits that hold every routed layer to the experts that it chooses without edits.
fn held(subject: &mut crate::ModelSubject) -> Vec<Edit> {
    let layers = subject.shape().routed_layers();
    let points: Vec<HookPoint> = layers.iter().map(|l| HookPoint::block(Site::RouterIndices, *l)).collect();
    let seen = run(subject, &points, &[]).values;
    let replay = |(point, value): (&HookPoint, &Value)| Edit::Route {
        layer: point.layer().unwrap() as u32,
        change: RouteEdit::replay_of(value).unwrap(),
    };
    seen.iter().filter(|(point, _)| points.contains(point)).map(replay).collect()
}

#[test]
fn putting_back_what_was_there_changes_nothing_and_replacing_bites() {
    for (name, description) in zoo() {
        let mut subject = subject(&description);
        let points = all_points(&description);
        let recorded = run(&mut subject, &points, &[]);
        let plain = bits(&logits(&mut subject, &[]));
        for (point, value) in &recorded.values {
            if read_only(name, *point) {
                let vector = vec![0.0; value.columns()];
                let edits = [value_edit(*point, ValueEdit::Set { vector })];
                let refused = subject.run(&Request { edits: &edits, ..Request::of(&tokens()) }).unwrap_err();
                assert!(refused.to_string().contains(&point.to_string()), "{refused}");
                continue;
            }
            assert_eq!(bits(&logits(&mut subject, &[put_back(*point, value)])), plain, "{name} {point}");
            if value.data().is_empty() {
                continue;
            }
            let shifted = logits(&mut subject, &[replaced(*point, value)]);
            assert_ne!(bits(&shifted), plain, "{name} {point}");
        }
    }
}

#[test]
fn setting_one_token_to_what_it_was_changes_nothing() {
    for (name, description) in zoo() {
        let mut subject = subject(&description);
        let recorded = run(&mut subject, &all_points(&description), &[]);
        let plain = bits(&logits(&mut subject, &[]));
        for (point, value) in &recorded.values {
            // The rows that belong to one token differ from head to head.
            let by_head = matches!(point.site(), Site::AttnPattern | Site::AttnScores | Site::AttnResult);
            if read_only(name, *point) || by_head {
                continue;
            }
            let row = 3.min(value.shape()[0] * value.shape()[1] / value.columns());
            let numbers = numbers(value);
            let Some(vector) = numbers.chunks(value.columns()).nth(row) else { continue };
            let token = value.rows().map_or(row as u32, |rows| rows[row]);
            let edit = Edit::Value {
                at: *point,
                tokens: TokenSelection::Rows(vec![token]),
                change: ValueEdit::Set { vector: vector.to_vec() },
            };
            assert_eq!(bits(&logits(&mut subject, &[edit])), plain, "{name} {point}");
        }
    }
}

#[test]
fn a_pattern_can_be_put_back_and_emptied_for_one_query() {
    let mut subject = subject(&Description { max_positions: 200, ..testing::dense_description() });
    let ids = (0..300).map(|i| (i * 5 + i / 7) % 32).collect();
    let tokens = Tokens::new(ids, 2, 150).unwrap();
    let (pattern, mixed) = (HookPoint::block(Site::AttnPattern, 0), HookPoint::block(Site::AttnZ, 0));
    let record = [pattern, mixed];
    let before = subject.run(&Request { record: &record, ..Request::of(&tokens) }).unwrap();
    let edits = [put_back(pattern, &before.values[&pattern])];
    let after = subject.run(&Request { record: &record, edits: &edits, ..Request::of(&tokens) }).unwrap();
    assert_eq!(bits(&after.loss), bits(&before.loss), "also where the engine skips the future");
    let emptied =
        Edit::Value { at: pattern, tokens: TokenSelection::Rows(vec![152]), change: ValueEdit::Zero };
    let after = subject.run(&Request { record: &record, edits: &[emptied], ..Request::of(&tokens) }).unwrap();
    let rows = |seen: &Observation| seen.values[&mixed].real().unwrap().to_vec();
    for (token, (old, new)) in rows(&before).chunks(16).zip(rows(&after).chunks(16)).enumerate() {
        match token {
            152 => assert!(new.iter().all(|x| *x == 0.0)),
            _ => assert_eq!(bits(old), bits(new), "token {token}"),
        }
    }
}

#[test]
fn an_edit_is_recorded_and_only_touches_the_selected_tokens() {
    let description = testing::routed_description(Router::learned(true));
    let mut subject = subject(&description);
    for name in
        ["hook_embed", "blocks.1.hook_mlp_in", "blocks.1.mlp.router.hook_logits", "blocks.0.mlp.hook_post"]
    {
        let point: HookPoint = name.parse().unwrap();
        let before = run(&mut subject, &[point], &[]).values[&point].clone();
        let edit = |change| Edit::Value { at: point, tokens: TokenSelection::Rows(vec![2, 11]), change };
        let after =
            run(&mut subject, &[point], &[edit(ValueEdit::Scale { factor: 3.0 })]).values[&point].clone();
        let rows = before
            .real()
            .unwrap()
            .chunks(before.columns())
            .zip(after.real().unwrap().chunks(before.columns()));
        for (token, (before, after)) in rows.enumerate() {
            let factor = if token == 2 || token == 11 { 3.0 } else { 1.0 };
            let wanted: Vec<f32> = before.iter().map(|x| factor * x).collect();
            assert_eq!(bits(after), bits(&wanted), "{name}, token {token}");
        }
    }
}

#[test]
fn an_edit_of_one_expert_leaves_the_others() {
    let description = testing::routed_description(Router::learned(true));
    let mut subject = subject(&description);
    let points: Vec<HookPoint> = (0..6).map(|e| HookPoint::expert(Site::ExpertOut, 1, e)).collect();
    let before = run(&mut subject, &points, &[]);
    let busiest = *points.iter().max_by_key(|p| before.values[p].shape()[0]).unwrap();
    let after = run(&mut subject, &points, &[value_edit(busiest, ValueEdit::Zero)]);
    for point in points {
        let value = &after.values[&point];
        if point == busiest {
            assert!(value.real().unwrap().iter().all(|x| *x == 0.0));
            assert_eq!(value.rows(), before.values[&point].rows());
        } else {
            assert_eq!(value, &before.values[&point]);
        }
    }
}

#[test]
fn a_later_token_does_not_change_earlier_logits() {
    for (name, description) in zoo() {
        let mut subject = subject(&description);
        let mut ids = tokens().ids().to_vec();
        ids[8] = (ids[8] + 1) % 32;
        let changed = Tokens::new(ids, 2, 9).unwrap();
        let point = [HookPoint::global(Site::Logits)];
        let mut of = |tokens: &Tokens| {
            let request = Request { record: &point, ..Request::of(tokens) };
            subject.run(&request).unwrap().values[&point[0]].real().unwrap().to_vec()
        };
        let (before, after) = (of(&tokens()), of(&changed));
        assert_eq!(bits(&before[..8 * 32]), bits(&after[..8 * 32]), "{name}");
        assert_ne!(bits(&before[8 * 32..9 * 32]), bits(&after[8 * 32..9 * 32]), "{name}");
    }
}

/// Each point alone, so that the pass may end behind any part of the model, with an edit before it.
#[test]
fn a_pass_that_may_end_early_records_the_same_and_no_more() {
    let edits = [value_edit(HookPoint::global(Site::Embed), ValueEdit::Scale { factor: 0.5 })];
    for (name, description) in zoo() {
        let tokens = tokens();
        let whole = run(&mut subject(&description), &all_points(&description), &edits);
        for point in all_points(&description) {
            let request =
                Request { edits: &edits, ..Request::recording(&tokens, std::slice::from_ref(&point)) };
            let seen = subject(&description).run(&request).unwrap();
            let [seen_value, value] = [&seen.values[&point], &whole.values[&point]];
            assert_eq!(seen_value.real().map(bits), value.real().map(bits), "{name}, {point}");
            assert_eq!(seen_value.integer(), value.integer(), "{name}, {point}");
            assert_eq!((seen.values.len(), seen.loss.len()), (1, 0), "{name}, {point}");
        }
        let embed = [HookPoint::global(Site::Embed)];
        let last = HookPoint::block(Site::ResidPost, 1);
        let short = [value_edit(last, ValueEdit::Set { vector: vec![0.0] })];
        let request = Request { edits: &short, ..Request::recording(&tokens, &embed) };
        assert!(
            subject(&description).run(&request).is_err(),
            "{name}: an edit behind the recorded point is refused"
        );
        let request = Request { gradients: &embed, ..Request::recording(&tokens, &embed) };
        let seen = subject(&description).run(&request).unwrap();
        assert!(seen.gradients.contains_key(&embed[0]), "{name}: a pass with gradients is whole");
        let mut heard = Points(Vec::new());
        let mut pass = Pass { listener: Some(&mut heard), ..Pass::plain() };
        let model = testing::model(description.clone());
        let mut tape = Tape::new(Mode::Inference);
        let course = Course { weights: Weights::Constant, start: &mut Start::default(), end: End::Block(0) };
        let ended = model.forward_along(&mut tape, &tokens, &mut pass, course).unwrap();
        assert!(ended.is_none() && heard.0.iter().all(|point| point.layer().is_none_or(|layer| layer == 0)));
    }
}

/// The points of a pass, in their order.
struct Points(Vec<HookPoint>);

impl Listener for Points {
    fn wants(&self, _: &HookPoint) -> bool {
        true
    }

    fn hear(&mut self, point: HookPoint, _: &mut Tape<'_>, _: Heard<'_>) {
        self.0.push(point);
    }
}

/// The difference of two logits at one position, and its sum over the sequences.
const DIFFERENCE: [LogitTerm; 2] =
    [LogitTerm { token: 3, position: 5, factor: 1.0 }, LogitTerm { token: 9, position: 5, factor: -1.0 }];

/// The number that an objective is, after edits.
fn objective(subject: &mut crate::ModelSubject, objective: Objective<'_>, edits: &[Edit]) -> f64 {
    let Objective::Logits(terms) = objective else {
        return run(subject, &[], edits).loss.iter().map(|l| f64::from(*l)).sum();
    };
    let logits = logits(subject, edits);
    let read = |sequence: usize, term: &LogitTerm| {
        f64::from(term.factor * logits[(sequence * 9 + term.position) * 32 + term.token as usize])
    };
    (0..2).flat_map(|sequence| terms.iter().map(move |term| read(sequence, term))).sum()
}

#[test]
fn gradients_are_those_of_finite_differences_at_every_editable_site() {
    for (name, description) in zoo() {
        let mut subject = subject(&description);
        let points: Vec<HookPoint> = all_points(&description)
            .into_iter()
            .filter(|p| p.site().has_gradient() && !read_only(name, *p))
            .filter(|p| !matches!(p.site(), Site::AttnPattern | Site::RouterSelect))
            .collect();
        // Gradients do not flow through the choice, so the differences are taken with the choices held.
        let held = held(&mut subject);
        let tokens = tokens();
        for of in [Objective::Loss, Objective::Logits(&DIFFERENCE)] {
            let request = Request { gradients: &points, objective: of, ..Request::of(&tokens) };
            let gradients = subject.run(&request).unwrap().gradients;
            for point in &points {
                let gradient = gradients[point].real().unwrap();
                if gradient.is_empty() {
                    continue;
                }
                // Along one direction added to every token, the slope is the sum over tokens.
                let width = gradients[point].columns();
                let direction: Vec<f32> = (0..width).map(|i| ((i * 5 + 1) % 3) as f32 - 1.0).collect();
                let along = |row: &[f32]| row.iter().zip(&direction).map(|(g, d)| g * d).sum::<f32>();
                let slope: f32 = gradient.chunks(width).map(along).sum();
                // What is added to every head counts as often.
                let step = if point.site() == Site::AttnResult { 4e-4 } else { 2e-3 };
                let mut moved = |sign: f32| {
                    let vector = direction.iter().map(|d| sign * step * d).collect();
                    let edits = [&held[..], &[value_edit(*point, ValueEdit::Add { vector })]].concat();
                    objective(&mut subject, of, &edits)
                };
                let found = ((moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step))) as f32;
                let allowed = 0.03 * slope.abs() + 0.04;
                // Which neurons are kept is a choice that is not held.
                let smooth = name != "top-k" && point.site() != Site::AttnRouterLogits;
                assert!(
                    !smooth || (found - slope).abs() < allowed,
                    "{name} {of:?} {point}: {found} and {slope}"
                );
            }
        }
    }
}

#[test]
fn a_difference_of_logits_has_the_gradient_of_its_terms_and_none_through_the_choice() {
    let mut subject = subject(&testing::routed_description(Router::learned(true)));
    let (logits, select) = (HookPoint::global(Site::Logits), HookPoint::block(Site::RouterSelect, 1));
    let tokens = tokens();
    let request = Request {
        gradients: &[logits, select],
        objective: Objective::Logits(&DIFFERENCE),
        ..Request::of(&tokens)
    };
    let gradients = subject.run(&request).unwrap().gradients;
    let gradient = gradients[&logits].real().unwrap();
    for (place, found) in gradient.iter().enumerate() {
        let wanted = match (place / 32 % 9, place % 32) {
            (5, 3) => 1.0,
            (5, 9) => -1.0,
            _ => 0.0,
        };
        assert_eq!(*found, wanted, "{place}");
    }
    assert!(gradients[&select].real().unwrap().iter().all(|g| *g == 0.0));
    let one = Tokens::new(vec![1, 2], 2, 1).unwrap();
    for (token, position, tokens, reason) in [(32, 0, &tokens, "below 32"), (0, 1, &one, "below 1")] {
        let terms = [LogitTerm { token, position, factor: 1.0 }];
        let request =
            Request { gradients: &[logits], objective: Objective::Logits(&terms), ..Request::of(tokens) };
        let error = subject.run(&request).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_gradient_at_an_edited_point_is_taken_after_the_edit() {
    let description = testing::dense_description();
    let mut subject = subject(&description);
    let point = HookPoint::block(Site::ResidMid, 0);
    let below = HookPoint::block(Site::ResidPre, 0);
    let edits = [value_edit(point, ValueEdit::Set { vector: vec![0.5; 16] })];
    let (tokens, gradients) = (tokens(), [point, below]);
    let request = Request { edits: &edits, gradients: &gradients, ..Request::of(&tokens) };
    let gradients = subject.run(&request).unwrap().gradients;
    assert!(gradients[&point].real().unwrap().iter().any(|g| *g != 0.0));
    assert!(gradients[&below].real().unwrap().iter().all(|g| *g == 0.0), "nothing flows through a constant");
}

#[test]
fn the_unembedding_of_the_last_residual_is_the_logits() {
    let mut subject = subject(&testing::dense_description());
    let point = HookPoint::block(Site::ResidPost, 1);
    let residual = run(&mut subject, &[point], &[]).values[&point].real().unwrap().to_vec();
    assert_eq!(bits(&subject.unembed(&residual).unwrap()), bits(&logits(&mut subject, &[])));
    assert!(subject.unembed(&[1.0; 15]).is_err());
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let mut subject = subject(&testing::dense_description());
    let long = Tokens::new(vec![1; 65], 1, 65).unwrap();
    assert!(subject.run(&Request::of(&long)).unwrap_err().to_string().contains("at most 64"));
    let unknown = Tokens::new(vec![32], 1, 1).unwrap();
    assert!(subject.run(&Request::of(&unknown)).unwrap_err().to_string().contains("ids below 32"));
    let absent = [HookPoint::block(Site::RouterLogits, 0)];
    assert!(subject.run(&Request { record: &absent, ..Request::of(&tokens()) }).is_err());
    let far = Edit::Value {
        at: HookPoint::global(Site::Embed),
        tokens: TokenSelection::Rows(vec![18]),
        change: ValueEdit::Zero,
    };
    assert!(subject.run(&Request { edits: &[far], ..Request::of(&tokens()) }).is_err());
    let short = value_edit(HookPoint::global(Site::Embed), ValueEdit::Set { vector: vec![0.0; 3] });
    let error = subject.run(&Request { edits: &[short], ..Request::of(&tokens()) }).unwrap_err();
    assert!(error.to_string().contains("3 numbers, wanted 16"), "{error}");
    let dense = Edit::Route { layer: 0, change: RouteEdit::Ban { experts: vec![0] } };
    let error = subject.run(&Request { edits: &[dense], ..Request::of(&tokens()) }).unwrap_err();
    assert!(error.to_string().contains("it is dense"), "{error}");
}

#[test]
fn a_single_position_has_no_loss_but_logits() {
    let mut subject = subject(&testing::dense_description());
    let one = Tokens::new(vec![1, 2], 2, 1).unwrap();
    let point = HookPoint::global(Site::Logits);
    let seen = subject.run(&Request { record: &[point], ..Request::of(&one) }).unwrap();
    assert!(seen.loss.is_empty());
    assert_eq!(seen.values[&point].shape(), [2, 1, 32]);
}

#[test]
fn a_pass_that_is_asked_to_stop_ends_at_the_next_block() {
    struct Raises<'a>(&'a AtomicBool, Vec<HookPoint>);
    impl Listener for Raises<'_> {
        fn wants(&self, point: &HookPoint) -> bool {
            point.site() == Site::ResidPost
        }
        fn hear(&mut self, point: HookPoint, _: &mut Tape<'_>, _: Heard<'_>) {
            self.0.store(true, Ordering::Relaxed);
            self.1.push(point);
        }
    }
    for (name, description) in zoo() {
        let (model, stop) = (testing::model(description), AtomicBool::new(false));
        let mut listener = Raises(&stop, Vec::new());
        let mut pass = Pass { listener: Some(&mut listener), stop: Some(&stop), ..Pass::plain() };
        let ended = model.forward(&mut Tape::new(Mode::Inference), &tokens(), &mut pass);
        assert!(matches!(ended, Err(ModelError::Stopped)), "{name}");
        assert_eq!(listener.1, [HookPoint::block(Site::ResidPost, 0)], "{name}");
    }
}

#[test]
fn a_flag_that_stays_down_changes_no_bit() {
    let description = testing::dense_description();
    let (flag, plain) = (Arc::new(AtomicBool::new(false)), bits(&logits(&mut subject(&description), &[])));
    let mut watched = subject(&description).stopped_by(Arc::clone(&flag));
    assert_eq!(bits(&logits(&mut watched, &[])), plain);
    flag.store(true, Ordering::Relaxed);
    assert!(watched.run(&Request::of(&tokens())).is_err());
}
