use super::shift::total_variation;
use super::*;
use crate::Sample;
use crate::instrument::{Instrument, Material};
use crate::planted_model::{EXPERTS, batch, model, own_text, resampling};
use moescope_base::Seed;
use moescope_model::{Model, ModelSubject};

fn run(model: &Model, samples: &[Sample], seed: u64) -> (Vec<Shift>, Vec<RouteShift>) {
    shift(&mut ModelSubject::new(model.clone()), samples, Seed(seed), resampling(seed)).unwrap()
}

fn of(routes: &[RouteShift], disturbance: Disturbance, tokens: Tokens) -> Vec<&RouteShift> {
    routes.iter().filter(|row| row.disturbance == disturbance && row.tokens == tokens).collect()
}

#[test]
fn a_distance_by_hand() {
    assert_eq!(total_variation(&[0.5, 0.5, 0.0], &[0.25, 0.5, 0.25]), 0.25);
}

#[test]
fn where_the_token_decides_its_context_does_not_matter() {
    let model = model(2, 1, |_, _| {});
    let (losses, routes) = run(&model, &[own_text(&model, 24, 1)], 1);
    for disturbance in Disturbance::ALL {
        let untouched = of(&routes, disturbance, Tokens::Untouched);
        assert!(untouched.iter().all(|row| row.agreement.low == 1.0), "{untouched:?}");
        assert!(of(&routes, disturbance, Tokens::Touched).iter().any(|row| row.agreement.high < 1.0));
    }
    for row in &losses {
        match row.tokens {
            // The text is the model's own: what stands in the place of a token says less of the next.
            Tokens::Touched => {
                assert!(row.loss.estimate > 0.0 || row.disturbance.amount() < 0.5, "{row:?}");
            }
            Tokens::Untouched => assert!(row.loss.estimate.abs() < 1e-5, "{row:?}"),
        }
    }
    let half = of(&routes, Disturbance::Replaced(0.5), Tokens::Touched)[0];
    assert!(half.agreement.high < 0.9 && half.chance > 0.2 && half.chance < 0.8, "{half:?}");
}

#[test]
fn where_the_context_decides_untouched_tokens_move_too() {
    // Attention adds the mean of the values of all tokens so far.
    let attending = Model::initialise(model(1, 2, |_, _| {}).description().clone(), Seed(2)).unwrap();
    let samples = [own_text(&model(1, 2, |_, _| {}), 24, 2)];
    let (_, routes) = run(&attending, &samples, 2);
    let untouched = of(&routes, Disturbance::Replaced(0.5), Tokens::Untouched)[0];
    assert!(untouched.agreement.high < 1.0, "{untouched:?}");
}

#[test]
fn routes_that_are_dealt_out_agree_by_chance() {
    // The routes of a random router depend on the whole prefix: a replaced first token changes all that come after.
    use moescope_model::{FeedForward, RouterKind};
    let mut description = model(1, 3, |_, _| {}).description().clone();
    if let FeedForward::Routed(routed) = &mut description.feed_forward[0] {
        routed.router.kind = RouterKind::Random { seed: 3 };
    }
    let random = Model::initialise(description, Seed(3)).unwrap();
    let samples = [own_text(&model(1, 3, |_, _| {}), 32, 3)];
    let (_, routes) = run(&random, &samples, 3);
    let touched = of(&routes, Disturbance::Replaced(0.5), Tokens::Touched)[0];
    assert!((touched.agreement.estimate - touched.chance).abs() < 0.08, "{touched:?}");
}

#[test]
fn the_names_of_experts_do_not_matter() {
    let renamed = model(1, 4, |name, data| {
        if name.contains("mlp.experts") || name.contains("mlp.gate") {
            let parts: Vec<Vec<f32>> = data.chunks(data.len() / EXPERTS).rev().map(<[f32]>::to_vec).collect();
            data.copy_from_slice(&parts.concat());
        }
    });
    let own = model(1, 4, |_, _| {});
    let samples = [own_text(&own, 16, 4)];
    let (own, other) = (run(&own, &samples, 4).1, run(&renamed, &samples, 4).1);
    for (own, other) in own.iter().zip(&other) {
        assert!((own.agreement.estimate - other.agreement.estimate).abs() < 1e-9);
        assert!((own.chance - other.chance).abs() < 1e-9);
    }
}

#[test]
fn the_finding_has_its_tables_and_too_few_documents_are_refused() {
    let model = model(1, 5, |_, _| {});
    let sample = own_text(&model, 16, 5);
    let mut subject = ModelSubject::new(model.clone());
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(5)).unwrap();
    material.replicates = 50;
    let found = DomainShift.run(&mut material).unwrap();
    let names: Vec<&str> = found.tables.iter().map(|table| table.name()).collect();
    assert_eq!(names, ["shift_loss", "shift_routes", "shift_domains"]);
    assert!(found.figures[0].title.contains("keep 100 % of their experts"), "{}", found.figures[0].title);
    let lone = [own_text(&model, 1, 5)];
    assert!(shift(&mut ModelSubject::new(model), &lone, Seed(1), resampling(1)).is_err());
}
