use moescope_base::{Edit, HookPoint, Seed, Site, TokenSelection, Tokens, ValueEdit};
use moescope_model::ModelSubject;

use super::components::{Component, components};
use super::effects::{Effect, How, effects};
use super::instrument::Ablation;
use super::tables::agreement;
use crate::Sample;
use crate::document_loss::{Judged, minus};
use crate::instrument::{Instrument, Material};
use crate::planted_model::{EXPERTS, VOCAB, WIDTH, batch, model, own_text, rename, resampling};

/// Effects of all components of the planted model, whose attention writes nothing and whose text is drawn from its own predictions.
fn found(change: impl Fn(&str, &mut [f32])) -> Vec<Effect> {
    let sample = own_text(&model(1, 3, |_, _| {}), 40, 5);
    let mut subject = ModelSubject::new(model(1, 3, change));
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(1)).unwrap();
    let components = components(&mut material).unwrap();
    effects(&mut material, &[sample], &components, resampling(2), Seed(4)).unwrap().all
}

fn of(effects: &[Effect], component: Component, how: How) -> &Effect {
    effects.iter().find(|effect| effect.component == component && effect.how == how).unwrap()
}

#[test]
fn effects_are_those_of_the_same_edits_made_by_hand() {
    let found = found(|_, _| {});
    let sample = own_text(&model(1, 3, |_, _| {}), 40, 5);
    let samples = [sample];
    let judged = Judged::new("test", &samples).unwrap();
    let mut subject = ModelSubject::new(model(1, 3, |_, _| {}));
    let free = judged.losses(&mut subject, &[]).unwrap();
    let documents: Vec<usize> = (0..free.len()).collect();
    let mut rise = |at: HookPoint, change: ValueEdit| {
        let edit = Edit::Value { at, tokens: TokenSelection::All, change };
        let with = judged.losses(&mut subject, &[edit]).unwrap();
        judged.estimate(&minus(&with, &free), &documents)
    };
    for expert in 0..EXPERTS {
        let (component, at) =
            (Component::Expert { layer: 0, expert }, HookPoint::expert(Site::ExpertOut, 0, expert));
        let zero = of(&found, component, How::Zero).loss.estimate;
        assert!((rise(at, ValueEdit::Zero) - zero).abs() < 1e-6);
        let mean = of(&found, component, How::Mean).loss.estimate;
        assert!((rise(at, ValueEdit::Mean) - mean).abs() < 1e-5);
    }
    let whole = of(&found, Component::FeedForward { layer: 0 }, How::Zero).loss.estimate;
    assert!((rise(HookPoint::block(Site::MlpOut, 0), ValueEdit::Zero) - whole).abs() < 1e-6);
}

#[test]
fn what_the_text_is_drawn_from_is_needed_and_heads_that_write_nothing_are_not() {
    let found = found(|_, _| {});
    let layer = of(&found, Component::FeedForward { layer: 0 }, How::Zero);
    assert!(layer.loss.low > 0.0 && layer.p_value < 1e-6, "{layer:?}");
    for head in 0..2 {
        for how in [How::Zero, How::Mean, How::Resample] {
            let effect = of(&found, Component::Head { layer: 0, head }, how);
            assert_eq!((effect.loss.estimate, effect.loss.high, effect.p_value), (0.0, 0.0, 1.0));
        }
    }
    // Expert and neurons are there as well, an expert in four ways.
    let kinds: std::collections::BTreeSet<&str> =
        found.iter().map(|effect| effect.component.kind()).collect();
    assert_eq!(kinds.len(), 5);
    let experts = found.iter().filter(|effect| effect.component.kind() == "expert").count();
    assert_eq!(experts, 4 * EXPERTS);
    // Without the whole layer more is lost than without any of its experts.
    let part = found.iter().filter(|effect| effect.how == How::Zero).all(|effect| {
        effect.component.kind() == "feed-forward" || effect.loss.estimate < layer.loss.estimate
    });
    assert!(part);
}

#[test]
fn experts_may_be_renamed() {
    let turned = found(rename);
    let plain = found(|_, _| {});
    for expert in 0..EXPERTS {
        for how in [How::Zero, How::Renormalised] {
            let before = of(&plain, Component::Expert { layer: 0, expert }, how);
            let after =
                of(&turned, Component::Expert { layer: 0, expert: (expert + EXPERTS - 1) % EXPERTS }, how);
            assert!((before.loss.estimate - after.loss.estimate).abs() < 1e-5, "{before:?} {after:?}");
        }
    }
}

#[test]
fn the_instrument_tells_which_components_are_needed_and_whether_the_ways_agree() {
    let sample = own_text(&model(2, 3, |_, _| {}), 40, 5);
    let mut subject = ModelSubject::new(model(2, 3, |_, _| {}));
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(1)).unwrap();
    material.replicates = 50;
    let told = Ablation.run(&mut material).unwrap();
    assert_eq!(told.tables.len(), 4);
    assert!(told.figures[0].title.contains("of 2 feed-forward layers"), "{}", told.figures[0].title);
    assert!(told.figures[0].title.contains("0 of 4 heads"), "{}", told.figures[0].title);
    let table = &told.tables[2];
    // Zero, mean and resample with each other, and each with the experts that are renormalised.
    assert_eq!(table.rows(), 6);
    let correlation = table.column("correlation").unwrap();
    assert!(correlation.data.number(0).unwrap() > 0.3, "zero and mean");
    let none = super::effects::Effects { all: Vec::new(), tokens: vec![1.0; 9] };
    assert!(agreement(&none, resampling(1)).unwrap().is_none());
}

/// Whatever token stands there, the experts write one along a coordinate that nothing else knows, and the first token is then as probable as all others
/// together. Routers have no preference, so experts 0 and 1 write half of it each.
fn one_coordinate(name: &str, data: &mut [f32]) {
    const ANSWER: usize = VOCAB;
    let width = WIDTH as f32;
    match name {
        "model.embed_tokens.weight" => {
            for (token, row) in data.chunks_exact_mut(WIDTH).enumerate() {
                row.fill(0.0);
                row[token] = 1.0;
            }
        }
        // The norm gives a lone coordinate the root of the width; half of the sum of squares gives it four.
        "lm_head.weight" => {
            data.fill(0.0);
            data[ANSWER] = 23f32.ln() / 4.0;
        }
        name if name.contains("mlp.gate.") => data.fill(0.0),
        name if name.contains("gate_proj") || name.contains("up_proj") => {
            let reads = if name.contains("gate_proj") { 20.0 } else { 1.0 };
            data.fill(0.0);
            // Of every expert the first neuron alone.
            for neuron in data.chunks_exact_mut(WIDTH).step_by(8) {
                neuron[..VOCAB].fill(reads / width.sqrt());
            }
        }
        name if name.contains("down_proj") => {
            data.fill(0.0);
            data.chunks_exact_mut(8 * WIDTH).for_each(|expert| expert[8 * ANSWER] = 1.0 / 20.0);
        }
        _ => {}
    }
}

#[test]
fn losses_by_hand() {
    let tokens = Tokens::new(vec![0; 6 * 5], 6, 5).unwrap();
    let sample = Sample::one_document_each(tokens, 0);
    let mut subject = ModelSubject::new(model(1, 3, one_coordinate));
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(1)).unwrap();
    let expert = |expert: usize| Component::Expert { layer: 0, expert };
    let asked = [Component::FeedForward { layer: 0 }, expert(0), expert(2)];
    let found = effects(&mut material, &[sample], &asked, resampling(2), Seed(4)).unwrap().all;
    let is = |component: Component, how: How, wanted: f64| {
        let found = of(&found, component, how).loss.estimate;
        assert!((found - wanted).abs() < 1e-4, "{component} {how:?}: {found} and {wanted}");
    };
    // With the layer the probability is one half, without it one of 24.
    is(asked[0], How::Zero, 12f64.ln());
    // With half of the write the coordinate is half as large as that of the token.
    let logit = 23f64.ln() / 4.0 * 0.5 * (32.0 / 1.25_f64).sqrt();
    is(expert(0), How::Zero, (logit.exp() + 23.0).ln() - logit - 2f64.ln());
    // All tokens have the same value there, and the other expert writes the same.
    for how in [How::Mean, How::Resample, How::Renormalised] {
        is(expert(0), how, 0.0);
    }
    is(expert(2), How::Zero, 0.0);
}
