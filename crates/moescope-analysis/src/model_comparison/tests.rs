use super::*;
use crate::instrument::{Instrument, Other};
use crate::planted_model::{EXPERTS, batch, model, own_text, rename, resampling};
use crate::routing::{Permutations, planted};
use moescope_base::Seed;
use moescope_model::{Model, ModelSubject};
use proptest::prelude::*;

fn agree(first: &RoutingTrace, second: &RoutingTrace, draws: usize, seed: u64) -> RouteAgreement {
    route_agreement(first, second, Permutations::new(draws, Seed(seed)), resampling(seed)).unwrap().remove(0)
}

/// Eight documents of two tokens each, two experts for each of four tokens.
fn by_hand(choices: Vec<u32>) -> RoutingTrace {
    let documents = (0..8).map(|token| token / 2).collect();
    planted::trace(planted::tokens(vec![0; 8], vec![0; 8], documents), 4, 2, vec![choices])
}

fn random(seed: u64) -> RoutingTrace {
    let mut rng = Seed(seed).rng();
    let text = planted::text(20, 30, 9, &mut Seed(1).rng());
    planted::trace(text, 6, 2, vec![planted::random_sets(600, 6, 2, |_| 1.0, &mut rng)])
}

#[test]
fn renamed_experts_by_hand() {
    let own = by_hand([0, 1, 2, 3].repeat(4));
    // 0 → 2, 1 → 3 and back: nothing in common as named, everything once matched.
    let other = by_hand([2, 3, 0, 1].repeat(4));
    let found = agree(&own, &other, 9, 1);
    assert_eq!((found.plain.estimate, found.matched.estimate), (0.0, 1.0));
    // Each expert is chosen by half of the tokens: Σ ½ · ½ / 2.
    assert_eq!((found.load_chance, found.even_chance), (0.5, 0.5));
    assert_eq!(RouteAgreement::corrected(0.75, 0.5), 0.5);
}

#[test]
fn a_renamed_twin_is_found_once_matched_and_not_before() {
    let own = random(2);
    let found = agree(&own, &planted::renamed(&own, 5), 99, 2);
    assert_eq!(found.matched.low, 1.0);
    assert!(found.plain.high < 0.8 && found.shuffled < 0.5 && found.p_value == 0.01, "{found:?}");
}

#[test]
fn independent_routes_are_called_alike_at_the_stated_rate() {
    let called =
        (0..200).filter(|seed| agree(&random(2 * seed), &random(2 * seed + 1), 19, *seed).p_value <= 0.05);
    let rate = called.count();
    // At 5 %, 20 and more of 200 come in less than 1 of 300 cases.
    assert!(rate < 20, "{rate} of 200");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn the_names_of_the_other_models_experts_do_not_matter_once_matched(seed in 0u64..500) {
        let mut rng = Seed(seed).rng();
        let own = random(seed);
        // Half of the tokens keep their sets.
        let kept: Vec<u32> = own.layers()[0]
            .choices
            .chunks(2)
            .zip(planted::random_sets(600, 6, 2, |_| 1.0, &mut rng).chunks(2))
            .enumerate()
            .flat_map(|(token, (own, drawn))| if token % 2 == 0 { own.to_vec() } else { drawn.to_vec() })
            .collect();
        let near = planted::trace(own.tokens().clone(), 6, 2, vec![kept]);
        let (plain, renamed) = (agree(&own, &near, 1, 1), agree(&own, &planted::renamed(&near, seed), 1, 1));
        prop_assert!((plain.matched.estimate - renamed.matched.estimate).abs() < 1e-9);
        prop_assert!(plain.matched.estimate > 0.5);
    }
}

#[test]
fn other_texts_and_other_experts_are_refused() {
    let own = by_hand([0, 1, 2, 3].repeat(4));
    let few = planted::trace(own.tokens().clone(), 5, 2, vec![[0, 1, 2, 3].repeat(4)]);
    let refused = |other: &RoutingTrace| {
        route_agreement(&own, other, Permutations::new(1, Seed(1)), resampling(1)).is_err()
    };
    assert!(refused(&few) && refused(&random(1)));
}

/// The model with the experts of each layer in the opposite order.
fn renamed(seed: u64) -> Model {
    model(2, seed, |name, data| {
        if name.contains("mlp.experts") || name.contains("mlp.gate") {
            let parts: Vec<Vec<f32>> = data.chunks(data.len() / EXPERTS).rev().map(<[f32]>::to_vec).collect();
            data.copy_from_slice(&parts.concat());
        }
    })
}

fn run(
    instrument: &dyn Instrument,
    own: &Model,
    other: Model,
) -> Result<crate::instrument::Finding, AnalysisError> {
    let sample = own_text(own, 16, 1);
    let mut subject = ModelSubject::new(own.clone());
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(1)).unwrap();
    (material.replicates, material.permutations) = (50, 19);
    let open = move || Ok(Box::new(ModelSubject::new(other.clone())) as Box<dyn Subject + Send>);
    material.others = vec![Other::named("step-0005", Box::new(open))];
    instrument.run(&mut material)
}

#[test]
fn a_model_with_renamed_experts_is_the_same_to_what_should_not_see_names() {
    let number = |instrument: &dyn Instrument, other: Model, column: &str| {
        let found = run(instrument, &model(2, 1, |_, _| {}), other).unwrap();
        let column = found.tables[0].column(column).unwrap();
        column.data.number(column.data.len() - 1).unwrap()
    };
    assert!((number(&ModelSimilarity, renamed(1), "cka") - 1.0).abs() < 1e-6);
    assert_eq!(number(&ModelAgreement, renamed(1), "matched"), 1.0);
    assert!(number(&ModelAgreement, renamed(1), "plain") < 0.8);
    assert!((number(&ExpertAlignments, renamed(1), "matched") - 1.0).abs() < 1e-6);
    assert!(number(&ExpertAlignments, renamed(1), "named") < 0.9);
    assert_eq!(number(&ExpertAlignments, model(2, 1, |_, _| {}), "kept"), EXPERTS as f64);
    assert!(number(&RouteSaturation, renamed(1), "corrected") < 0.7);
    assert_eq!(number(&RouteSaturation, model(2, 1, |_, _| {}), "corrected"), 1.0);
    assert!(number(&ModelSimilarity, model(2, 9, |_, _| {}), "cka") < 0.9);
}

#[test]
fn checkpoints_renamed_alike_have_settled_as_far() {
    // An earlier checkpoint: the routers with something else added to them.
    let before = |name: &str, data: &mut [f32]| {
        if name.contains("mlp.gate.") {
            data.iter_mut().enumerate().for_each(|(at, weight)| *weight += 0.1 * (at as f32).sin());
        }
    };
    let settled = |turn: bool| {
        let name = |name: &str, data: &mut [f32]| {
            if turn {
                rename(name, data);
            }
        };
        let earlier = model(2, 1, |parameter, data| {
            before(parameter, data);
            name(parameter, data);
        });
        let table = run(&RouteSaturation, &model(2, 1, name), earlier).unwrap().tables.remove(0);
        let of = |column: &str| {
            let column = table.column(column).unwrap();
            (0..table.rows()).map(|row| column.data.number(row).unwrap()).collect::<Vec<f64>>()
        };
        [of("corrected"), of("corrected_low"), of("agreement"), of("agreement_null")]
    };
    let (plain, renamed) = (settled(false), settled(true));
    assert!(plain[0].iter().all(|share| *share > 0.1 && *share < 0.95), "{plain:?}");
    for (own, other) in plain.iter().flatten().zip(renamed.iter().flatten()) {
        assert!((own - other).abs() < 1e-9, "{plain:?} {renamed:?}");
    }
}

#[test]
fn a_model_of_another_vocabulary_and_none_at_all_are_refused() {
    let own = model(1, 1, |_, _| {});
    let mut description = own.description().clone();
    description.vocab += 1;
    let told = run(&ModelAgreement, &own, Model::initialise(description, Seed(1)).unwrap()).unwrap_err();
    assert!(told.to_string().contains("vocabulary"), "{told}");
    let sample = own_text(&own, 8, 1);
    let mut subject = ModelSubject::new(own);
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(1)).unwrap();
    let case: [&dyn Instrument; 4] = [&ModelAgreement, &RouteSaturation, &ModelSimilarity, &ExpertAlignments];
    for instrument in case {
        assert!(instrument.run(&mut material).unwrap_err().to_string().contains("--against"));
    }
}
