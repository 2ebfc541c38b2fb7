//! Averages of derivatives, and how well they carry exchanges to the end.

use std::collections::BTreeMap;

use moescope_base::Seed;
use nalgebra::{DMatrix, DVector};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::{Given, JacobianOptions, METHOD, Transport};
use crate::statistics::{Bootstrap, Resampling, cluster_bootstrap};
use crate::{AnalysisError, check};

/// Tokens for which the average over all stands in that of an expert, and that of an expert in that of a path: few tokens alone say little.
const SHARED: f64 = 4.0;

/// Mean cosines that differ by less are the same: where no block writes, rounding would decide.
const SLACK: f64 = 1e-3;

/// The derivative at one token: `[model, direction]`.
pub(super) struct Derivative {
    pub(super) map: DMatrix<f64>,
    /// Experts with the largest weight in the next routed layers.
    pub(super) way: Vec<u32>,
}

/// One exchange, and the true change of the final vector.
pub(super) struct Exchange {
    pub(super) document: u32,
    pub(super) way: Vec<u32>,
    /// The change along each direction.
    pub(super) along: DVector<f64>,
    /// The change itself.
    pub(super) change: DVector<f64>,
    pub(super) held: DVector<f64>,
    pub(super) free: DVector<f64>,
    pub(super) flips: bool,
}

/// All that the passes found.
pub(super) struct Moved {
    pub(super) variance: f64,
    pub(super) derivatives: Vec<Derivative>,
    pub(super) exchanges: Vec<Exchange>,
}

impl Moved {
    /// Compares averages on the exchanges.
    pub(super) fn transport(
        self,
        layer: usize,
        options: JacobianOptions,
    ) -> Result<Transport, AnalysisError> {
        check::at_least(METHOD, "tokens of training documents", self.derivatives.len(), 1)?;
        check::at_least(METHOD, "tokens of held-out documents", self.exchanges.len(), 2)?;
        let average = self.average(|_| true).expect("there is a derivative");
        let cosines = |of: &dyn Fn(&Exchange) -> f64| self.exchanges.iter().map(of).collect::<Vec<f64>>();
        let all = cosines(&|exchange| cosine(&(&average * &exchange.along), &exchange.held));
        let identity = cosines(&|exchange| cosine(&exchange.change, &exchange.held));
        let free = cosines(&|exchange| cosine(&(&average * &exchange.along), &exchange.free));
        let flips = self.exchanges.iter().filter(|exchange| exchange.flips).count() as f64;
        let given = |depth: usize, name: &str| -> Result<Option<Given>, AnalysisError> {
            let known = self.derivatives[0].way.len() >= depth;
            let seed = options.seed.child(name).index(layer as u64);
            known.then(|| self.given(depth, &average, options, seed)).transpose()
        };
        let (by_expert, by_path) = (given(1, "experts")?, given(2, "paths")?);
        Ok(Transport {
            layer,
            directions: average.ncols(),
            variance: self.variance,
            cosine: self.over(&all, options.resampling)?,
            identity: mean(&identity),
            gain: self.over(&difference(&all, &identity), options.resampling)?,
            cosine_free: self.over(&free, options.resampling)?,
            flips: flips / self.exchanges.len() as f64,
            by_expert,
            by_path,
        })
    }

    /// Cosine with averages by the first `depth` experts of the way, against the same with the last of these shuffled between tokens of each half that share
    /// those before it.
    ///
    /// What a path adds is thus held against what its experts say before the last, and not against nothing.
    fn given(
        &self,
        depth: usize,
        average: &DMatrix<f64>,
        options: JacobianOptions,
        seed: Seed,
    ) -> Result<Given, AnalysisError> {
        let cut = |way: &[u32]| way[..depth].to_vec();
        let own: Vec<Vec<u32>> = self.derivatives.iter().map(|derivative| cut(&derivative.way)).collect();
        let asked: Vec<Vec<u32>> = self.exchanges.iter().map(|exchange| cut(&exchange.way)).collect();
        let found = self.cosines(average, &own, &asked);
        let shuffle = |index: usize| {
            let seed = seed.index(index as u64);
            let (own, asked) = (
                last_shuffled(&own, seed.child("derivatives")),
                last_shuffled(&asked, seed.child("exchanges")),
            );
            self.cosines(average, &own, &asked)
        };
        let null: Vec<Vec<f64>> = (0..options.shuffles).into_par_iter().map(shuffle).collect();
        let at_least = null.iter().filter(|null| mean(null) >= mean(&found) - SLACK).count();
        let usual: Vec<f64> = (0..found.len())
            .map(|at| null.iter().map(|null| null[at]).sum::<f64>() / null.len() as f64)
            .collect();
        Ok(Given {
            gain: self.over(&difference(&found, &usual), options.resampling)?,
            p: (1 + at_least) as f64 / (1 + null.len()) as f64,
        })
    }

    /// Cosines with averages by the given ways.
    fn cosines(&self, average: &DMatrix<f64>, own: &[Vec<u32>], asked: &[Vec<u32>]) -> Vec<f64> {
        let mut maps: BTreeMap<&[u32], DMatrix<f64>> = BTreeMap::from([(&[][..], average.clone())]);
        for way in asked {
            // That of few tokens leans on that of a shorter way.
            for depth in 1..=way.len() {
                let (before, way) = (&way[..depth - 1], &way[..depth]);
                if !maps.contains_key(way) {
                    let map = self.leaning(&maps[before], |at| own[at].starts_with(way));
                    maps.insert(way, map);
                }
            }
        }
        let pairs = self.exchanges.iter().zip(asked);
        let one = |(exchange, way): (&Exchange, &Vec<u32>)| {
            cosine(&(&maps[way.as_slice()] * &exchange.along), &exchange.held)
        };
        pairs.map(one).collect()
    }

    /// Mean of some derivatives, with another in the place of [`SHARED`] of them.
    fn leaning(&self, on: &DMatrix<f64>, keep: impl Fn(usize) -> bool) -> DMatrix<f64> {
        let count = (0..self.derivatives.len()).filter(|at| keep(*at)).count() as f64;
        match self.average(keep) {
            Some(map) => (map * count + on * SHARED) / (count + SHARED),
            None => on.clone(),
        }
    }

    /// Mean of some derivatives; none of none.
    fn average(&self, keep: impl Fn(usize) -> bool) -> Option<DMatrix<f64>> {
        let kept: Vec<usize> = (0..self.derivatives.len()).filter(|at| keep(*at)).collect();
        let (first, others) = kept.split_first()?;
        let sum = others
            .iter()
            .fold(self.derivatives[*first].map.clone(), |sum, at| sum + &self.derivatives[*at].map);
        Some(sum / kept.len() as f64)
    }

    fn over(&self, values: &[f64], resampling: Resampling) -> Result<Bootstrap, AnalysisError> {
        let documents: Vec<u32> = self.exchanges.iter().map(|exchange| exchange.document).collect();
        let mean = |rows: &[usize]| rows.iter().map(|row| values[*row]).sum::<f64>() / rows.len() as f64;
        cluster_bootstrap(&documents, mean, resampling)
    }
}

/// The same ways with the last expert of each exchanged for that of another way that is equal up to it.
fn last_shuffled(ways: &[Vec<u32>], seed: Seed) -> Vec<Vec<u32>> {
    let mut groups: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
    for (at, way) in ways.iter().enumerate() {
        groups.entry(&way[..way.len() - 1]).or_default().push(at);
    }
    let mut found = ways.to_vec();
    // Each is known by its first token, whatever its experts are called.
    for group in groups.into_values() {
        let mut lasts: Vec<u32> = group.iter().map(|at| ways[*at][ways[*at].len() - 1]).collect();
        lasts.shuffle(&mut seed.index(group[0] as u64).rng());
        for (at, last) in group.iter().zip(lasts) {
            *found[*at].last_mut().expect("a way has an expert") = last;
        }
    }
    found
}

/// Cosine of two vectors; 0 where one of them is none.
fn cosine(a: &DVector<f64>, b: &DVector<f64>) -> f64 {
    let lengths = a.norm() * b.norm();
    if lengths > 0.0 { a.dot(b) / lengths } else { 0.0 }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::normal;
    use crate::routing::planted;
    use crate::statistics::BootstrapMethod;

    fn options(seed: u64) -> JacobianOptions {
        let resampling = Resampling {
            replicates: 100,
            level: 0.95,
            method: BootstrapMethod::Percentile,
            seed: Seed(seed),
        };
        JacobianOptions { layers: 1, directions: 2, rounds: 1, shuffles: 39, resampling, seed: Seed(seed) }
    }

    /// Derivatives that are `sign(expert)` times one map, and exchanges that follow them up to noise.
    fn moved(signs: [f64; 2], noise: f64, seed: u64) -> Moved {
        let mut rng = Seed(seed).rng();
        let map = DMatrix::from_fn(3, 2, |row, column| ((row + 2 * column) as f64).sin() + 1.0);
        let mut derivatives = Vec::new();
        let mut exchanges = Vec::new();
        for token in 0..40 {
            let expert = token % 2;
            // The tokens of the two halves are different ones.
            let [seen, own] = [0, 1]
                .map(|_| &map * signs[expert] + DMatrix::from_fn(3, 2, |_, _| noise * normal(&mut rng)));
            derivatives.push(Derivative { map: seen, way: vec![expert as u32] });
            let along = DVector::from_vec(vec![normal(&mut rng), normal(&mut rng)]);
            let held = &own * &along;
            exchanges.push(Exchange {
                document: token as u32 / 2,
                way: vec![expert as u32],
                change: DVector::from_vec(vec![along[0], along[1], 0.0]),
                along,
                free: held.clone(),
                held,
                flips: token == 0,
            });
        }
        Moved { variance: 1.0, derivatives, exchanges }
    }

    #[test]
    fn one_map_for_all_carries_everything_and_experts_add_nothing() {
        let found = moved([1.0, 1.0], 0.0, 1).transport(0, options(1)).unwrap();
        assert!((found.cosine.low - 1.0).abs() < 1e-9 && (found.cosine_free.low - 1.0).abs() < 1e-9);
        assert!(found.by_expert.unwrap().gain.high.abs() < 1e-9);
        assert!(found.identity < 0.99 && found.gain.low > 0.0 && found.flips == 1.0 / 40.0, "{found:?}");
    }

    #[test]
    fn maps_that_differ_by_expert_are_found_and_a_change_of_names_is_not() {
        let found = moved([1.0, -1.0], 0.0, 1).transport(0, options(1)).unwrap();
        assert!(found.cosine.high < 0.5 && found.by_expert.unwrap().gain.low > 0.5, "{found:?}");
        let mut renamed = moved([1.0, -1.0], 0.0, 1);
        let other = |way: &mut Vec<u32>| way.iter_mut().for_each(|expert| *expert = 9 - *expert);
        renamed.derivatives.iter_mut().for_each(|derivative| other(&mut derivative.way));
        renamed.exchanges.iter_mut().for_each(|exchange| other(&mut exchange.way));
        let again = renamed.transport(0, options(1)).unwrap();
        assert!(
            (again.by_expert.unwrap().gain.estimate - found.by_expert.unwrap().gain.estimate).abs() < 1e-9
        );
    }

    #[test]
    fn experts_that_tell_nothing_are_called_telling_at_the_stated_rate() {
        let says = |seed: u64| {
            moved([1.0, 1.0], 1.0, seed).transport(0, options(seed)).unwrap().by_expert.unwrap().p
        };
        let rate = planted::rejection_rate(200, says);
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    }

    /// Derivatives of a sign that follows from the first expert, or from whether both are the same one.
    fn walked(by_pair: bool, noise: f64, seed: u64) -> Moved {
        let mut rng = Seed(seed).child("walked").rng();
        let map = DMatrix::from_fn(3, 2, |row, column| ((row + 2 * column) as f64).sin() + 1.0);
        let (mut derivatives, mut exchanges) = (Vec::new(), Vec::new());
        for token in 0..160_usize {
            let way = vec![(token % 2) as u32, (token / 2 % 2) as u32];
            let plus = if by_pair { way[0] == way[1] } else { way[0] == 0 };
            let sign = if plus { 1.0 } else { -1.0 };
            let mut noisy = || &map * sign + DMatrix::from_fn(3, 2, |_, _| noise * normal(&mut rng));
            derivatives.push(Derivative { map: noisy(), way: way.clone() });
            let own = noisy();
            let along = DVector::from_vec(vec![normal(&mut rng), normal(&mut rng)]);
            let held = &own * &along;
            exchanges.push(Exchange {
                document: token as u32 / 8,
                way,
                change: DVector::from_vec(vec![along[0], along[1], 0.0]),
                along,
                free: held.clone(),
                held,
                flips: false,
            });
        }
        Moved { variance: 1.0, derivatives, exchanges }
    }

    #[test]
    fn maps_of_pairs_are_found_where_no_expert_alone_tells_and_add_nothing_where_one_does() {
        let found = walked(true, 0.1, 1).transport(0, options(1)).unwrap();
        let (expert, path) = (found.by_expert.unwrap(), found.by_path.unwrap());
        assert!(path.gain.low > 0.5 && path.p < 0.03 && expert.p > 0.05, "{expert:?} {path:?}");
        let found = walked(false, 0.1, 1).transport(0, options(1)).unwrap();
        let (expert, path) = (found.by_expert.unwrap(), found.by_path.unwrap());
        assert!(expert.gain.low > 0.5 && path.gain.high < 0.05, "{expert:?} {path:?}");
        assert!(moved([1.0, -1.0], 0.0, 1).transport(0, options(1)).unwrap().by_path.is_none());
    }

    #[test]
    fn paths_that_tell_no_more_than_their_first_expert_are_called_telling_at_the_stated_rate() {
        let says =
            |seed: u64| walked(false, 1.0, seed).transport(0, options(seed)).unwrap().by_path.unwrap().p;
        let rate = planted::rejection_rate(200, says);
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    }

    #[test]
    fn only_the_last_expert_of_a_way_is_shuffled_among_ways_that_are_equal_before_it() {
        let ways: Vec<Vec<u32>> = (0..40).map(|at| vec![at % 2, at / 2]).collect();
        let shuffled = last_shuffled(&ways, Seed(1));
        assert!(ways.iter().zip(&shuffled).all(|(a, b)| a[0] == b[0]) && ways != shuffled);
        let lasts = |ways: &[Vec<u32>], first: u32| {
            let mut lasts: Vec<u32> = ways.iter().filter(|way| way[0] == first).map(|way| way[1]).collect();
            lasts.sort_unstable();
            lasts
        };
        assert_eq!(lasts(&ways, 0), lasts(&shuffled, 0));
    }

    #[test]
    fn a_cosine_by_hand_and_of_nothing() {
        assert!(
            (cosine(&DVector::from_vec(vec![3.0, 4.0]), &DVector::from_vec(vec![4.0, 3.0])) - 0.96).abs()
                < 1e-12
        );
        assert_eq!(cosine(&DVector::from_vec(vec![0.0, 0.0]), &DVector::from_vec(vec![4.0, 3.0])), 0.0);
    }
}
