use super::*;
use crate::planted_model::{EXPERTS, batch, model, own_text, resampling};
use crate::planted_parameters::PlantedParameters;
use crate::routing::{Permutations, planted};
use moescope_base::{Projection, Seed, WeightMatrix};
use moescope_model::ModelSubject;
use proptest::prelude::*;
use rand::seq::SliceRandom;

const DRAWS: usize = 99;

fn run(planted: &PlantedParameters, seed: u64) -> LayerSizes {
    let (shape, draws) = (planted.shape(1), Permutations::new(DRAWS, Seed(seed)));
    expert_sizes(&mut planted.clone(), &shape, &[0], 20, draws).unwrap().remove(0)
}

/// The same experts with every number of one multiplied.
fn scaled(planted: &PlantedParameters, expert: usize, by: f32) -> PlantedParameters {
    let mut planted = planted.clone();
    for matrix in &mut planted.experts[expert] {
        let data = matrix.data().iter().map(|x| by * x).collect();
        *matrix = WeightMatrix::new(matrix.columns(), data).unwrap();
    }
    planted
}

#[test]
fn sizes_by_hand() {
    // Neurons (3, 0) and (0, 4): singular values 3 and 4.
    let matrix = |data: [f32; 4]| WeightMatrix::new(2, data.to_vec()).unwrap();
    let experts = [[3.0, 0.0, 0.0, 4.0], [1.0, 1.0, 1.0, 1.0]].map(|data| [(); 3].map(|()| matrix(data)));
    let found = run(&PlantedParameters { router: None, experts: experts.to_vec() }, 1);
    let size = found.experts[0].matrices[0].1;
    assert!((size.frobenius - 5.0).abs() < 1e-9 && (size.spectral - 4.0).abs() < 1e-9);
    let entropy = -(3.0 / 7.0 * (3.0f64 / 7.0).ln() + 4.0 / 7.0 * (4.0f64 / 7.0).ln());
    assert!((size.effective_rank - entropy.exp()).abs() < 1e-9);
    assert!((size.stable_rank - 25.0 / 16.0).abs() < 1e-9);
    assert!((found.experts[0].norm - 75f64.sqrt()).abs() < 1e-9);
    // A matrix of ones has one direction.
    let flat = found.experts[1].matrices[2].1;
    assert!((flat.effective_rank - 1.0).abs() < 1e-6 && (flat.stable_rank - 1.0).abs() < 1e-9);
    assert_eq!(found.matrices[1].largest, (0, 5.0 / 3.5));
    assert_eq!((found.matrices[1].lowest.0, found.share), (1, 1.0));
}

#[test]
fn an_expert_of_two_directions_and_one_that_is_three_times_as_large_are_found_by_name() {
    let mut planted = scaled(&PlantedParameters::gaussian(6, 24, 32, 1), 4, 3.0);
    // Every neuron of expert 2 reads a mix of the first two.
    let gate = planted.experts[2][0].clone();
    let mixed = |neuron: usize| {
        let (a, b) = ((neuron as f32).cos(), (neuron as f32).sin());
        gate.row(0).iter().zip(gate.row(1)).map(move |(x, y)| a * x + b * y).collect::<Vec<f32>>()
    };
    planted.experts[2][0] = WeightMatrix::new(32, (0..24).flat_map(mixed).collect()).unwrap();
    let found = run(&planted, 1);
    let [gate, up, _] = found.matrices[..] else { panic!("three matrices") };
    assert_eq!((gate.lowest.0, gate.below, up.below), (2, 1, 0));
    assert!(gate.lowest.1 < 2.1 && gate.threshold > 15.0, "{gate:?}");
    for matrix in [gate, up] {
        assert!(matrix.spread.p_value <= 0.01 && matrix.largest.0 == 4, "{matrix:?}");
        assert!((2.5..3.5).contains(&matrix.largest.1));
    }
    let table = by_layer_table(&[found]).unwrap();
    assert_eq!(table.column("lowest").unwrap().data.label(0), "2");
}

#[test]
fn gaussian_experts_of_one_scale_are_called_at_the_stated_rate() {
    let found: Vec<LayerSizes> =
        (0..200).map(|seed| run(&PlantedParameters::gaussian(5, 12, 16, seed), seed)).collect();
    // Of 200 models at 5 %, 20 and more are called in less than 1 of 300 cases.
    let below = found.iter().filter(|layer| layer.matrices.iter().any(|matrix| matrix.below > 0)).count();
    assert!(below < 20, "{below} of 200");
    for kind in 0..3 {
        let p = |seed: u64| found[seed as usize].matrices[kind].spread.p_value;
        let rate = planted::rejection_rate(200, p);
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    }
    // The null of ranks is what Gaussian experts have.
    let rank: f64 = found.iter().map(|layer| layer.matrices[0].effective_rank).sum::<f64>() / 200.0;
    let null: f64 = found.iter().map(|layer| layer.gaussian.effective_rank).sum::<f64>() / 200.0;
    assert!((rank / null - 1.0).abs() < 0.01, "{rank} {null}");
}

/// Usage of experts that all have as many tokens in each of ten documents but for noise, with answers of these lengths.
fn usage(load: &[f64], answer: &[f64], seed: u64) -> Usage {
    let mut rng = Seed(seed).child("usage").rng();
    let tokens: Vec<Vec<f64>> = (0..10)
        .map(|_| {
            load.iter().map(|load| (load * (1.0 + 0.1 * crate::matrix::normal(&mut rng))).max(1.0)).collect()
        })
        .collect();
    let lengths = tokens.iter().map(|tokens| tokens.iter().zip(answer).map(|(n, a)| n * a).collect());
    Usage { lengths: lengths.collect(), tokens }
}

/// Experts of these norms.
fn with_norms(norms: &[f64]) -> LayerSizes {
    let mut layer = run(&PlantedParameters::gaussian(norms.len(), 4, 4, 1), 1);
    layer.experts.iter_mut().zip(norms).for_each(|(expert, norm)| expert.norm = *norm);
    layer
}

fn related(layer: &LayerSizes, usage: &Usage, seed: u64) -> Vec<Relation> {
    let draws = Permutations::new(DRAWS, Seed(seed));
    relations(&[layer.clone(), layer.clone()], &[usage.clone(), usage.clone()], draws, resampling(seed))
        .unwrap()
}

#[test]
fn norms_that_go_with_answers_are_found_and_loads_that_do_not_are_not() {
    let norms = [3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.6, 5.3];
    let answers = norms.map(|norm| norm * norm);
    let load = [10.0, 30.0, 90.0, 50.0, 20.0, 60.0, 80.0, 40.0];
    let found = related(&with_norms(&norms), &usage(&load, &answers, 1), 1);
    let of = |first, second| *found.iter().find(|r| (r.first, r.second) == (first, second)).unwrap();
    let answers = of("norm", "answer");
    assert!((answers.correlation.observed - 1.0).abs() < 1e-9 && answers.corrected <= 0.05);
    assert_eq!((answers.correlation.p_value, answers.corrected), (0.02, 0.04), "two layers");
    assert!(of("norm", "load").corrected > 0.05 && of("answer", "load").experts == 8);
    assert!(of("norm", "load").interval.low <= of("norm", "load").correlation.observed);
    assert_eq!((found.len(), relation_table(&found).unwrap().rows()), (6, 6));
}

#[test]
fn norms_that_have_nothing_to_do_with_use_are_called_at_the_stated_rate() {
    let p_value = |seed: u64, which: usize| {
        let mut rng = Seed(seed).child("norms").rng();
        let mut draw = || (0..7).map(|_| 50.0 + 10.0 * crate::matrix::normal(&mut rng)).collect::<Vec<f64>>();
        let (norms, load, answer) = (draw(), draw(), draw());
        let found = related(&with_norms(&norms), &usage(&load, &answer, seed), seed);
        found[2 * which].correlation.p_value
    };
    for which in 0..3 {
        let rate = planted::rejection_rate(200, |seed| p_value(seed, which));
        assert!(rate <= planted::HIGHEST_RATE, "{which}: {rate}");
    }
}

#[test]
fn experts_that_no_token_chooses_are_left_out_and_few_are_not_told_of() {
    let layer = with_norms(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    let mut some = usage(&[10.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0], 1);
    for of in [&mut some.tokens, &mut some.lengths] {
        of.iter_mut().for_each(|document| document[1] = 0.0);
    }
    assert!(some.answer(&some.all())[1].is_nan());
    assert!(related(&layer, &some, 1).iter().all(|relation| relation.experts == 4));
    for of in [&mut some.tokens, &mut some.lengths] {
        of.iter_mut().for_each(|document| document[2] = 0.0);
    }
    assert!(related(&layer, &some, 1).is_empty());
    assert!(by_expert_table(&[layer], &[some]).unwrap().rows() == 15);
}

#[test]
fn usage_is_what_the_model_does() {
    let planted = model(1, 3, |_, _| {});
    let sample = own_text(&planted, 6, 1);
    let mut subject = ModelSubject::new(planted);
    let found = Usage::of(&mut subject, std::slice::from_ref(&sample), 0).unwrap();
    let trace = moescope_trace::record_routing(&mut subject, [batch(&sample)]).unwrap();
    let chosen = |expert: u32| trace.layers()[0].choices.iter().filter(|chosen| **chosen == expert).count();
    let load = found.load(&found.all());
    assert_eq!(load.len(), EXPERTS);
    assert!((0..).zip(&load).all(|(expert, load)| (load - chosen(expert) as f64 / 288.0).abs() < 1e-12));
    assert!(found.answer(&found.all()).iter().zip(&load).all(|(a, load)| *a > 0.0 || *load == 0.0));
    assert!(Usage::of(&mut subject, &[sample], 0).is_ok() && found.tokens.len() == 6);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let draws = Permutations::new(9, Seed(1));
    let refused = |planted: &PlantedParameters, random| {
        expert_sizes(&mut planted.clone(), &planted.shape(1), &[0], random, draws).is_err()
    };
    assert!(refused(&PlantedParameters::gaussian(1, 3, 2, 1), 20), "one expert");
    let mut planted = PlantedParameters::gaussian(2, 3, 2, 1);
    assert!(refused(&planted, 2), "two Gaussian matrices");
    planted.experts[1][0] = WeightMatrix::new(2, vec![f32::NAN; 6]).unwrap();
    assert!(refused(&planted, 20), "no numbers");
    planted.experts[1][0] = WeightMatrix::new(2, vec![0.0; 6]).unwrap();
    assert!(refused(&planted, 20), "nothing");
}

#[test]
fn neurons_of_wide_experts_are_drawn_and_norms_are_of_all() {
    let planted = PlantedParameters::gaussian(2, 300, 8, 1);
    let found = run(&planted, 1);
    assert!((found.share - 256.0 / 300.0).abs() < 1e-12);
    let all: f64 = planted.experts[0][0].data().iter().map(|x| f64::from(x * x)).sum();
    assert!((found.experts[0].matrices[0].1.frobenius - all.sqrt()).abs() < 1e-3);
    assert!(found.matrices.iter().all(|matrix| matrix.below == 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn names_of_experts_order_of_neurons_and_turned_bases_do_not_matter(seed in 0u64..1000) {
        let planted = scaled(&PlantedParameters::gaussian(5, 10, 6, seed), 1, 2.0);
        let found = run(&planted, 1);
        let mut other = planted.clone();
        let mut order: Vec<usize> = (0..10).collect();
        order.shuffle(&mut Seed(seed).rng());
        (0..5).for_each(|expert| other.reorder(expert, &order));
        let turn = crate::matrix::random_rotation(6, Seed(seed));
        for expert in &mut other.experts {
            for projection in Projection::ALL {
                expert[projection as usize] = rotated(&expert[projection as usize], projection, &turn);
            }
        }
        other.experts.reverse();
        let other = run(&other, 1);
        for (own, other) in found.matrices.iter().zip(&other.matrices) {
            prop_assert!((own.frobenius / other.frobenius - 1.0).abs() < 1e-5);
            prop_assert!((own.effective_rank - other.effective_rank).abs() < 1e-3);
            prop_assert!((own.stable_rank - other.stable_rank).abs() < 1e-3);
            prop_assert!((own.spread.observed - other.spread.observed).abs() < 1e-5);
            prop_assert_eq!((own.spread.p_value, own.below), (other.spread.p_value, other.below));
            prop_assert_eq!((own.largest.0, own.lowest.0), (4 - other.largest.0, 4 - other.lowest.0));
        }
    }
}

/// A matrix of an expert in a stream whose coordinates are turned.
fn rotated(matrix: &WeightMatrix, projection: Projection, turn: &nalgebra::DMatrix<f64>) -> WeightMatrix {
    let own = nalgebra::DMatrix::from_fn(matrix.rows(), matrix.columns(), |row, column| {
        f64::from(matrix.row(row)[column])
    });
    let turned = match projection {
        Projection::Down => turn * own,
        _ => own * turn.transpose(),
    };
    let data =
        turned.row_iter().flat_map(|row| row.iter().map(|x| *x as f32).collect::<Vec<f32>>()).collect();
    WeightMatrix::new(matrix.columns(), data).unwrap()
}
