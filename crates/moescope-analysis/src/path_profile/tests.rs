//! Profiles of paths whose truth is known.

use moescope_base::{Seed, Tokens};
use moescope_trace::{RoutingTrace, TokenTable};
use rand::RngExt;

use super::profile::{Profiles, Setting, profiles};
use crate::neuron_profile::Text;
use crate::predictions::Predictions;
use crate::routing::{Permutations, planted};
use crate::statistics::{BootstrapMethod, Resampling};

const DOCUMENTS: usize = 24;
const LENGTH: usize = 20;

/// What is routed by, and what becomes of it.
struct Planted {
    trace: RoutingTrace,
    text: Text,
    predictions: Predictions,
}

/// Routes by a rule of token, domain and chance; the prediction is the path's sum, and the loss what is given for it.
fn planted(seed: u64, rule: impl Fn(u32, u16, u32) -> [u32; 2], loss: impl Fn([u32; 2]) -> f64) -> Planted {
    let mut rng = Seed(seed).child("profiles").rng();
    let table: TokenTable = planted::text(DOCUMENTS, LENGTH, 12, &mut rng);
    let rows: Vec<[u32; 2]> =
        table.ids.iter().zip(&table.domains).map(|(id, domain)| rule(*id, *domain, rng.random())).collect();
    let layer = |at: usize| rows.iter().map(|row| row[at]).collect::<Vec<u32>>();
    let losses = rows.iter().map(|row| Some(loss(*row) + rng.random::<f64>())).collect();
    let predictions = Predictions { ids: rows.iter().map(|row| row[0] + row[1]).collect(), losses };
    let trace = planted::trace(table.clone(), 4, 1, vec![layer(0), layer(1)]);
    let tokens = Tokens::new(table.ids.clone(), DOCUMENTS, LENGTH).unwrap();
    Planted { trace, text: Text::new(&[(tokens, table)]), predictions }
}

fn run(planted: &Planted) -> Profiles {
    let seed = Seed(3);
    let resampling = Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed };
    let setting = Setting { permutations: Permutations::new(39, seed), resampling, seed };
    profiles(&planted.trace, &planted.text, &planted.predictions, setting).unwrap()
}

#[test]
fn paths_of_tokens_are_known_by_them() {
    let found = run(&planted(1, |id, _, _| [id % 4, id / 4], |_| 0.0));
    assert_eq!(found.of.len(), 12);
    for (path, profile) in found.walks.paths.iter().zip(&found.of) {
        let first = profile.known.first[0];
        assert_eq!((first.id % 4, first.id / 4, first.hits), (path.experts[0], path.experts[1], first.of));
        assert!(profile.known.p_value < 0.01 && profile.domain.unwrap().p_value > 0.002);
        // No other path has its token.
        assert!(profile.beyond.beyond.estimate.is_nan() && profile.beyond.p_value == 1.0);
        assert_eq!(profile.texts.len(), 3);
        assert!(profile.texts.iter().all(|token| path.tokens.contains(token)));
    }
    let share: f64 = found.of.iter().map(|profile| profile.share.estimate).sum();
    assert!((share - 1.0).abs() < 1e-12);
    // Token, prediction, class and domain; the path decides the prediction, and so does no expert alone.
    let gains: Vec<(&str, bool)> =
        found.purities.iter().map(|(name, of)| (*name, of.p_value < 0.01)).collect();
    assert_eq!(gains[..2], [("token", true), ("prediction", true)]);
    assert_eq!((gains[3].0, gains[3].1), ("domain", false));
}

#[test]
fn paths_of_a_domain_are_walked_there() {
    let found = run(&planted(2, |_, domain, draw| [u32::from(domain), draw % 2], |_| 0.0));
    for (path, profile) in found.walks.paths.iter().zip(&found.of) {
        let domain = profile.domain.unwrap();
        assert_eq!(domain.domain as u32, path.experts[0]);
        assert!((domain.times - 2.0).abs() < 1e-12 && domain.p_value < 0.02 && domain.null < 1.5);
        assert!(profile.known.p_value > 0.01, "{profile:?}");
    }
}

#[test]
fn a_path_that_costs_more_than_its_tokens_is_found() {
    let found =
        run(&planted(3, |_, _, draw| [draw % 2, draw / 2 % 2], |path| f64::from(u8::from(path == [1, 0]))));
    for (path, profile) in found.walks.paths.iter().zip(&found.of) {
        let (dear, beyond) = (path.experts == [1, 0], profile.beyond);
        assert!(if dear { beyond.beyond.low > 0.8 } else { beyond.beyond.high < 0.0 }, "{path:?} {beyond:?}");
        assert_eq!(profile.predicts.first[0].id, path.experts.iter().sum::<u32>());
    }
    assert!((found.loss - 0.75).abs() < 0.1, "{}", found.loss);
}

#[test]
fn names_of_experts_are_immaterial() {
    let plain = planted(4, |id, _, draw| [(id + draw % 2) % 4, draw % 3], |path| f64::from(path[0]));
    let renamed = Planted {
        trace: planted::renamed(&plain.trace, 9),
        text: plain.text.clone(),
        predictions: plain.predictions.clone(),
    };
    let (plain, renamed) = (run(&plain), run(&renamed));
    assert_eq!(plain.of, renamed.of);
    assert_eq!(plain.purities, renamed.purities);
    assert_ne!(plain.walks.paths[0].experts, renamed.walks.paths[0].experts);
}
