//! What heads add and what norms divide by, against the values that they make up.

use moescope_base::{Edit, HookPoint, Request, Site, Subject, TokenSelection, ValueEdit};

use crate::description::{Description, Router};
use crate::model::Model;
use crate::parameters::NormIndex;
use crate::parity::fixture;
use crate::subject::ModelSubject;
use crate::testing::{self, bits, run, tokens};

/// Every model of the zoo of variations, the dense one and a routed one.
fn models() -> Vec<(&'static str, Description)> {
    let mut all = vec![
        ("dense", testing::dense_description()),
        ("routed", testing::routed_description(Router::learned(true))),
    ];
    all.extend(testing::varied());
    all
}

/// The numbers at a point.
fn numbers(subject: &mut ModelSubject, point: HookPoint, edits: &[Edit]) -> Vec<f32> {
    run(subject, &[point], edits).values[&point].real().unwrap().to_vec()
}

fn close(found: f32, wanted: f32, what: &str) {
    assert!((found - wanted).abs() <= 1e-5 + 1e-4 * wanted.abs(), "{what}: {found} and {wanted}");
}

#[test]
fn the_results_of_all_heads_and_the_bias_are_what_attention_adds() {
    let mut seen = 0;
    for (name, description) in models() {
        let model = testing::model(description.clone());
        let norm = model.layout().blocks[0].attention_out_norm.is_some();
        let bias = model.layout().blocks[0].attention.output.bias;
        let bias = bias.map(|place| model.parameters()[place].tensor.data().to_vec());
        let mut subject = ModelSubject::new(model);
        let point = HookPoint::block(Site::AttnResult, 0);
        if !description.site_options().has(Site::AttnResult) {
            let error = subject.run(&Request { record: &[point], ..Request::of(&tokens()) }).unwrap_err();
            assert!(error.to_string().contains("hook_result"), "{name}: {error}");
            continue;
        }
        if norm {
            continue; // What attention adds is normalised once more; the sum is checked by the edits.
        }
        let (heads, d) = (description.heads, description.d_model);
        let result = run(&mut subject, &[point], &[]).values.remove(&point).unwrap();
        assert_eq!(result.shape(), [2, 9, heads, d], "{name}");
        let out = numbers(&mut subject, HookPoint::block(Site::AttnOut, 0), &[]);
        let factor = description.variation.residual_scale as f32;
        for (token, out) in out.chunks(d).enumerate() {
            for (column, out) in out.iter().enumerate() {
                let head = |head: usize| result.real().unwrap()[(token * heads + head) * d + column];
                let sum: f32 = (0..heads).map(head).sum();
                let bias = bias.as_ref().map_or(0.0, |bias| bias[column]);
                close(*out, factor * (sum + bias), name);
            }
        }
        seen += 1;
    }
    assert!(seen >= 4, "{seen} models");
}

#[test]
fn without_the_result_of_a_head_is_without_its_mixed_values() {
    let description = testing::dense_description();
    let mut subject = testing::subject(&description);
    let (d, heads, size) = (description.d_model, description.heads, description.head_dim);
    let (result, mixed) = (HookPoint::block(Site::AttnResult, 0), HookPoint::block(Site::AttnZ, 0));
    let out = HookPoint::block(Site::AttnOut, 0);
    // The second head silent at token 4, in both ways.
    let patch = |at, rows: Vec<f32>| Edit::Value {
        at,
        tokens: TokenSelection::Rows(vec![4]),
        change: ValueEdit::Patch { rows },
    };
    let mut without = numbers(&mut subject, result, &[])[4 * heads * d..5 * heads * d].to_vec();
    without[d..2 * d].fill(0.0);
    let mut silent = numbers(&mut subject, mixed, &[])[4 * heads * size..5 * heads * size].to_vec();
    silent[size..2 * size].fill(0.0);
    let plain = numbers(&mut subject, out, &[]);
    let by_result = numbers(&mut subject, out, &[patch(result, without)]);
    let by_mixed = numbers(&mut subject, out, &[patch(mixed, silent)]);
    for (place, (found, wanted)) in by_result.iter().zip(&by_mixed).enumerate() {
        close(*found, *wanted, &place.to_string());
        assert_eq!(found.to_bits() == plain[place].to_bits(), place / d != 4, "token 4 alone, {place}");
    }
    // A mean is over tokens, head by head.
    let mean = Edit::Value { at: result, tokens: TokenSelection::All, change: ValueEdit::Mean };
    let before = numbers(&mut subject, result, &[]);
    let after = numbers(&mut subject, result, &[mean]);
    for place in 0..heads * d {
        let wanted = before.iter().skip(place).step_by(heads * d).sum::<f32>() / 18.0;
        close(after[5 * heads * d + place], wanted, "mean");
    }
}

#[test]
fn the_gradient_of_every_head_is_that_of_their_sum() {
    let description = testing::dense_description();
    let mut subject = testing::subject(&description);
    let points = [HookPoint::block(Site::AttnResult, 0), HookPoint::block(Site::AttnOut, 0)];
    let gradients = subject.run(&Request { gradients: &points, ..Request::of(&tokens()) }).unwrap().gradients;
    let (d, heads) = (description.d_model, description.heads);
    let sum = gradients[&points[1]].real().unwrap();
    assert!(sum.iter().any(|g| *g != 0.0));
    for (place, found) in gradients[&points[0]].real().unwrap().iter().enumerate() {
        assert_eq!(*found, sum[place / (heads * d) * d + place % d], "{place}");
    }
}

#[test]
fn a_stream_over_its_scale_times_the_gain_is_the_normalised_stream() {
    let mut seen = 0;
    for (name, description) in models() {
        let model = testing::model(description.clone());
        let (block, last) = (model.layout().blocks[0], model.layout().final_norm);
        let data = |place: usize| model.parameters()[place].tensor.data().to_vec();
        let gains = |norm: NormIndex| (data(norm.weight), norm.bias.map(data));
        let (point, layer) = (HookPoint::block, description.layers() - 1);
        let read = if description.variation.parallel { Site::ResidPre } else { Site::ResidMid };
        let mut places = vec![(
            point(Site::ResidPost, layer),
            HookPoint::global(Site::FinalScale),
            HookPoint::global(Site::FinalNormalized),
            gains(last),
        )];
        if let (Some(first), Some(second)) = (block.attention_norm, block.feed_forward_norm) {
            let attention = point(Site::AttnScale, 0);
            places.push((point(Site::ResidPre, 0), attention, point(Site::AttnIn, 0), gains(first)));
            places.push((point(read, 0), point(Site::MlpScale, 0), point(Site::MlpIn, 0), gains(second)));
        }
        let mut subject = ModelSubject::new(model.clone());
        for (stream, scale, normalised, (weight, bias)) in places {
            let [x, by, out] = [stream, scale, normalised].map(|point| numbers(&mut subject, point, &[]));
            assert_eq!(by.len(), 18, "{name}: one number for each token");
            for (token, (x, out)) in x.chunks(weight.len()).zip(out.chunks(weight.len())).enumerate() {
                let mean = bias.as_ref().map_or(0.0, |_| x.iter().sum::<f32>() / x.len() as f32);
                for (column, out) in out.iter().enumerate() {
                    let bias = bias.as_ref().map_or(0.0, |bias| bias[column]);
                    close((x[column] - mean) / by[token] * weight[column] + bias, *out, name);
                }
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} norms");
}

#[test]
fn results_and_scales_are_there_in_checkpoints_of_all_kinds() {
    for (checkpoint, results, scales) in [
        ("gpt_neox", true, true),
        ("deepseek_v3", true, true),
        ("olmo2", true, false),
        ("jetmoe", false, true),
    ] {
        let model = Model::open(&fixture(&format!("checkpoints/{checkpoint}"))).unwrap();
        let points = model.description().subject_shape().hook_points();
        let has = |site: Site| points.iter().any(|point| point.site() == site);
        assert_eq!(has(Site::AttnResult), results, "{checkpoint}");
        assert_eq!([has(Site::AttnScale), has(Site::MlpScale)], [scales; 2], "{checkpoint}");
        assert!(has(Site::FinalScale), "{checkpoint}");
        let plain = run_logits(&model, &[]);
        for point in points {
            assert_eq!(plain, run_logits(&model, &[point]), "{checkpoint}: listening at {point}");
        }
    }
}

/// The bits of the logits while these points are heard.
fn run_logits(model: &Model, points: &[HookPoint]) -> Vec<u32> {
    let logits = HookPoint::global(Site::Logits);
    let record = [points, &[logits]].concat();
    let ids = tokens();
    let seen = ModelSubject::new(model.clone()).run(&Request { record: &record, ..Request::of(&ids) });
    bits(seen.unwrap().values[&logits].real().unwrap())
}
