//! Planted features, Gaussian rows, and what must not matter.

use std::collections::BTreeMap;

use moescope_base::{HookPoint, Seed, Site};
use moescope_dictionary::{Planted, PlantedSettings};
use moescope_engine::Tensor;

use super::instrument::site_seed;
use super::learned::{Learned, learn};
use super::sites::{Gathered, Part, parts};
use crate::statistics::{BootstrapMethod, Resampling};
use crate::turn::Turn;

const RESAMPLING: Resampling =
    Resampling { replicates: 200, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
const ROWS: usize = 1500;
const WIDTH: usize = 48;

fn gathered(rows: Tensor) -> (Gathered, BTreeMap<u32, Part>) {
    let documents: Vec<u32> = (0..rows.rows() as u32).map(|row| row / 15).collect();
    let dealt = parts(&documents, Seed(3)).unwrap();
    let ids = vec![0; documents.len()];
    (Gathered { point: HookPoint::block(Site::ResidPost, 0), rows, ids, documents }, dealt)
}

fn learned(rows: Tensor) -> Option<Learned> {
    let (site, dealt) = gathered(rows);
    learn(&site, &dealt, Seed(5), RESAMPLING).unwrap()
}

/// Rows of 80 features in 48 dimensions, two of them active.
fn planted(seed: u64) -> Tensor {
    let settings = PlantedSettings {
        features: 80,
        width: WIDTH,
        target: None,
        active: 2.0,
        noise: 0.01,
        seed: Seed(seed),
    };
    Planted::new(settings).rows(ROWS).unwrap().0.input
}

fn gaussian(seed: u64) -> Tensor {
    let mut rng = Seed(seed).rng();
    let data = (0..ROWS * WIDTH).map(|_| crate::matrix::normal(&mut rng) as f32).collect();
    Tensor::new([ROWS, WIDTH], data).unwrap()
}

#[test]
fn planted_features_are_explained_and_found_again_and_gaussian_rows_are_not() {
    let found = learned(planted(1)).unwrap();
    assert!(
        found.explained.estimate > found.explained_null + 0.03,
        "{} {}",
        found.explained.estimate,
        found.explained_null
    );
    assert!(
        found.explained_p < 1e-3 && found.found > 0.5 && found.found_null < 0.1,
        "{} {}",
        found.found,
        found.found_null
    );
    let found = learned(gaussian(1)).unwrap();
    assert!(found.explained_p > 0.05 && found.found < 0.1, "{} {}", found.explained_p, found.found);
}

#[test]
fn a_turned_basis_changes_little_and_the_seed_alone_decides() {
    let rows = planted(2);
    let turned = Turn::new(WIDTH, Seed(9)).of_rows(rows.data());
    let (before, again) = (learned(rows.clone()).unwrap(), learned(rows).unwrap());
    assert_eq!((before.explained, before.found), (again.explained, again.found));
    // Training begins with directions that do not turn with the rows.
    let after = learned(Tensor::new([ROWS, WIDTH], turned).unwrap()).unwrap();
    assert!((before.explained.estimate - after.explained.estimate).abs() < 0.02);
    assert!((before.explained_null - after.explained_null).abs() < 0.02 && after.found > 0.5);
}

#[test]
fn sites_without_enough_rows_or_without_variance_are_left_out() {
    assert!(learned(Tensor::full([ROWS, WIDTH], 2.0)).is_none());
    assert!(
        learned(Tensor::new([400, WIDTH], gaussian(3).data()[..400 * WIDTH].to_vec()).unwrap()).is_none()
    );
}

#[test]
fn what_the_most_used_expert_is_called_seeds_nothing() {
    let of =
        |layer: usize, expert: usize| site_seed(Seed(1), &HookPoint::expert(Site::ExpertOut, layer, expert));
    assert_eq!(of(1, 0), of(1, 3));
    assert_ne!(of(0, 0), of(1, 0));
    assert_ne!(of(1, 0), site_seed(Seed(1), &HookPoint::block(Site::MlpOut, 1)));
}
