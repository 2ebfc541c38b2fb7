//! Averages of derivatives, and how well they carry exchanges to the end.

use std::collections::BTreeMap;

use moescope_base::Seed;
use nalgebra::{DMatrix, DVector};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::{ByExpert, JacobianOptions, METHOD, Transport};
use crate::statistics::{Bootstrap, Resampling, cluster_bootstrap};
use crate::{AnalysisError, check};

/// Tokens for which the average over all stands in that of an expert: few tokens alone say little.
const SHARED: f64 = 4.0;

/// Mean cosines that differ by less are the same: where no block writes, rounding would decide.
const SLACK: f64 = 1e-3;

/// The derivative at one token: `[model, direction]`.
pub(super) struct Derivative {
    pub(super) map: DMatrix<f64>,
    /// Expert with the largest weight in the next routed layer.
    pub(super) expert: Option<u32>,
}

/// One exchange, and the true change of the final vector.
pub(super) struct Exchange {
    pub(super) document: u32,
    pub(super) expert: Option<u32>,
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
        let conditioned = match self.derivatives[0].expert {
            None => None,
            Some(_) => {
                let seed = options.seed.child("experts").index(layer as u64);
                Some(self.conditioned(&average, options, seed)?)
            }
        };
        Ok(Transport {
            layer,
            directions: average.ncols(),
            variance: self.variance,
            cosine: self.over(&all, options.resampling)?,
            identity: mean(&identity),
            gain: self.over(&difference(&all, &identity), options.resampling)?,
            cosine_free: self.over(&free, options.resampling)?,
            flips: flips / self.exchanges.len() as f64,
            conditioned,
        })
    }

    /// Cosine with averages by expert, against the same with experts shuffled between the tokens of each half.
    fn conditioned(
        &self,
        average: &DMatrix<f64>,
        options: JacobianOptions,
        seed: Seed,
    ) -> Result<ByExpert, AnalysisError> {
        let own: Vec<Option<u32>> = self.derivatives.iter().map(|derivative| derivative.expert).collect();
        let asked: Vec<Option<u32>> = self.exchanges.iter().map(|exchange| exchange.expert).collect();
        let shuffled = |experts: &[Option<u32>], seed: Seed| {
            let mut experts = experts.to_vec();
            experts.shuffle(&mut seed.rng());
            experts
        };
        let found = self.cosines(average, &own, &asked);
        let shuffle = |index: usize| {
            let seed = seed.index(index as u64);
            let (own, asked) =
                (shuffled(&own, seed.child("derivatives")), shuffled(&asked, seed.child("exchanges")));
            self.cosines(average, &own, &asked)
        };
        let null: Vec<Vec<f64>> = (0..options.shuffles).into_par_iter().map(shuffle).collect();
        let at_least = null.iter().filter(|null| mean(null) >= mean(&found) - SLACK).count();
        let usual: Vec<f64> = (0..found.len())
            .map(|at| null.iter().map(|null| null[at]).sum::<f64>() / null.len() as f64)
            .collect();
        Ok(ByExpert {
            gain: self.over(&difference(&found, &usual), options.resampling)?,
            p: (1 + at_least) as f64 / (1 + null.len()) as f64,
        })
    }

    /// Cosines with averages by the given experts.
    fn cosines(&self, average: &DMatrix<f64>, own: &[Option<u32>], asked: &[Option<u32>]) -> Vec<f64> {
        let mut maps: BTreeMap<Option<u32>, DMatrix<f64>> = BTreeMap::new();
        for expert in asked {
            maps.entry(*expert).or_insert_with(|| {
                let count = own.iter().filter(|other| *other == expert).count() as f64;
                match self.average(|at| own[at] == *expert) {
                    Some(map) => (map * count + average * SHARED) / (count + SHARED),
                    None => average.clone(),
                }
            });
        }
        let pairs = self.exchanges.iter().zip(asked);
        pairs.map(|(exchange, expert)| cosine(&(&maps[expert] * &exchange.along), &exchange.held)).collect()
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
            derivatives.push(Derivative { map: seen, expert: Some(expert as u32) });
            let along = DVector::from_vec(vec![normal(&mut rng), normal(&mut rng)]);
            let held = &own * &along;
            exchanges.push(Exchange {
                document: token as u32 / 2,
                expert: Some(expert as u32),
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
        assert!(found.conditioned.unwrap().gain.high.abs() < 1e-9);
        assert!(found.identity < 0.99 && found.gain.low > 0.0 && found.flips == 1.0 / 40.0, "{found:?}");
    }

    #[test]
    fn maps_that_differ_by_expert_are_found_and_a_change_of_names_is_not() {
        let found = moved([1.0, -1.0], 0.0, 1).transport(0, options(1)).unwrap();
        assert!(found.cosine.high < 0.5 && found.conditioned.unwrap().gain.low > 0.5, "{found:?}");
        let mut renamed = moved([1.0, -1.0], 0.0, 1);
        let other = |expert: &mut Option<u32>| *expert = expert.map(|expert| 9 - expert);
        renamed.derivatives.iter_mut().for_each(|derivative| other(&mut derivative.expert));
        renamed.exchanges.iter_mut().for_each(|exchange| other(&mut exchange.expert));
        let again = renamed.transport(0, options(1)).unwrap();
        assert!(
            (again.conditioned.unwrap().gain.estimate - found.conditioned.unwrap().gain.estimate).abs()
                < 1e-9
        );
    }

    #[test]
    fn experts_that_tell_nothing_are_called_telling_at_the_stated_rate() {
        let says = |seed: u64| {
            moved([1.0, 1.0], 1.0, seed).transport(0, options(seed)).unwrap().conditioned.unwrap().p
        };
        let rate = planted::rejection_rate(200, says);
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
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
