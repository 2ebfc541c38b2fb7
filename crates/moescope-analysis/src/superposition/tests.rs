use super::instrument::Superposition;
use super::place::{Place, Vectors};
use crate::instrument::{Instrument, Material};
use crate::matrix::{Features, normal, random_rotation};
use crate::planted_model;
use crate::routing::Permutations;
use moescope_base::{Seed, Table};
use moescope_model::ModelSubject;
use rand::RngExt;

const TYPES: usize = 12;

/// Thirty documents of 20 tokens of twelve types; each type has a direction of `width` coordinates, and there is noise.
fn vectors(width: usize, direction: impl Fn(usize, usize) -> f64, noise: f64) -> Vectors {
    let mut rng = Seed(4).rng();
    let ids: Vec<u32> = (0..600).map(|_| rng.random_range(0..TYPES as u32)).collect();
    let mut values = Vec::new();
    for id in &ids {
        values.extend((0..width).map(|at| direction(*id as usize, at) + noise * normal(&mut rng)));
    }
    let documents = (0..600).map(|token| token / 20).collect();
    Vectors { values: Features::new(width, &values).unwrap(), ids, documents }
}

fn place(vectors: &Vectors) -> Place {
    Place::new(vectors, Permutations::new(39, Seed(1)), Seed(2)).unwrap()
}

/// Types on a circle in a plane of sixteen dimensions, or each on a coordinate of its own.
fn circle(kind: usize, at: usize) -> f64 {
    let angle = std::f64::consts::TAU * kind as f64 / TYPES as f64;
    [angle.cos(), angle.sin()].get(at).map_or(0.0, |x| 4.0 * x)
}

fn own(kind: usize, at: usize) -> f64 {
    if kind == at { 4.0 } else { 0.0 }
}

#[test]
fn a_crowded_plane_is_found_and_orthogonal_features_are_not_also_in_noise_and_in_a_rotated_basis() {
    let crowded = vectors(16, circle, 1.0);
    let found = place(&crowded);
    assert_eq!((found.held.features.len(), found.asked), (TYPES, TYPES));
    let (sharing, random) = (found.sharing.unwrap(), found.random.unwrap());
    // Twelve even directions in a plane: squared cosines sum to 12 / 2 with oneself, and each has a sixth of a dimension.
    assert!((sharing.interference - 5.0).abs() < 0.5, "{sharing:?}");
    assert!((sharing.dimensionality - 1.0 / 6.0).abs() < 0.03, "{sharing:?}");
    assert!((random.interference - 11.0 / 16.0).abs() < 0.1, "{random:?}");
    let apart = place(&vectors(16, own, 1.0)).sharing.unwrap();
    assert!(apart.interference < 0.3 && apart.dimensionality > 0.75, "{apart:?}");
    let values = crowded.values.rotate(&random_rotation(16, Seed(3))).unwrap();
    let turned = place(&Vectors { values, ..crowded.clone() });
    assert!((turned.sharing.unwrap().interference - sharing.interference).abs() < 1e-6);
    assert_eq!(turned.held.features, found.held.features);
}

#[test]
fn replicates_are_the_whole_where_all_documents_are_drawn_once() {
    let found = place(&vectors(16, circle, 1.0));
    let again: Vec<f64> = (0..40).map(|deal| found.resampled(&found.documents, deal).interference).collect();
    let mean = again.iter().sum::<f64>() / again.len() as f64;
    // Deals differ, and their mean is the estimate.
    assert!(again[0] != again[1] && (mean - found.sharing.unwrap().interference).abs() < 0.1, "{mean}");
    assert!(found.resampled(&found.documents[..1], 0).interference.is_nan());
}

fn numbers(table: &Table, column: &str) -> Vec<f64> {
    let column = table.column(column).unwrap();
    (0..table.rows()).map(|row| column.data.number(row).unwrap()).collect()
}

#[test]
fn a_model_is_looked_at_in_stream_and_experts_whatever_their_names() {
    let run = |turn: bool| {
        let model = planted_model::model(2, 3, |name, data| {
            if turn && (name.contains("mlp.experts") || name.contains("mlp.gate")) {
                let size = data.len() / planted_model::EXPERTS;
                data.rotate_left(size);
            }
        });
        let sample = planted_model::own_text(&planted_model::model(2, 3, |_, _| {}), 60, 5);
        let mut subject = ModelSubject::new(model);
        let mut material = Material::new(&mut subject, vec![planted_model::batch(&sample)], Seed(1)).unwrap();
        (material.permutations, material.replicates) = (39, 40);
        Superposition.run(&mut material).unwrap()
    };
    let (plain, turned) = (run(false), run(true));
    let table = &plain.tables[0];
    let place = table.column("place").unwrap();
    let places: Vec<String> = (0..table.rows()).map(|row| place.data.label(row)).collect();
    assert_eq!(places, ["stream", "experts", "stream", "experts"]);
    assert!(numbers(table, "held")[0] >= 12.0, "every token has an embedding of its own");
    for column in ["held", "interference", "dimensionality", "strength_p"] {
        let pairs = numbers(table, column).into_iter().zip(numbers(&turned.tables[0], column));
        for (a, b) in pairs.filter(|(a, b)| a.is_finite() || b.is_finite()) {
            assert!((a - b).abs() < 1e-3 * (1.0 + a.abs()), "{column}: {a} {b}");
        }
    }
    assert!(plain.figures[0].title.contains("random directions"), "{}", plain.figures[0].title);
}
