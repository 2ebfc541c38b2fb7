//! The tokens by which a neuron is known.

use std::collections::BTreeMap;

use moescope_base::Seed;
use rand::RngExt;
use rayon::prelude::*;

/// Occurrences below which a token is not looked at.
const FEWEST: usize = 5;
/// Tokens that a neuron is tested on, at most, drawn at random from those that reach it.
const TOKENS: usize = 4000;
/// Neurons that are drawn for together: as many sums as fit into a few registers.
const TOGETHER: usize = 8;

/// A token at which a neuron is stronger than at the others of the same documents.
///
/// - **Unit:** `deviance` in standard deviations under exchange within documents, 0 where the token tells nothing; `times` is the mean size of
///   the activation there, in units of its mean over the same documents.
/// - **Does not show:** why: a token may be strong for what goes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Telling {
    pub(super) id: u32,
    pub(super) deviance: f64,
    pub(super) times: f64,
}

/// The tokens by which a neuron is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    /// The most telling first, and of the others those beyond 95 % of the draws; none where no token is stronger than the others.
    pub(super) first: Vec<Telling>,
    /// Mean of the largest deviance where values are moved along each document.
    pub(super) null: f64,
    /// Share of the draws with a token that tells as much.
    pub(super) p_value: f64,
}

/// The places at which the neurons of one bank are tested.
///
/// A neuron's values are replaced by their ranks within each document, and these by Savage's scores (1956), which weigh the strongest most, so that
/// a neuron that prefers a document tells nothing. Under the null the scores of each document are moved along it by a random number of tokens, its
/// end coming round to its beginning. That keeps what neighbours have in common: a neuron that stays strong for a stretch of text, whatever the
/// tokens, would be beyond chance too often if its values were dealt out one by one.
pub(super) struct Trial {
    /// Rows of the bank, document after document.
    rows: Vec<usize>,
    /// Ends of the documents in `rows`.
    ends: Vec<usize>,
    /// Type of each of `rows`, if it counts.
    kinds: Vec<Option<u32>>,
    /// Token id of each type.
    ids: Vec<u32>,
    /// One over the standard deviation of each type's sum of scores under the null.
    precision: Vec<f64>,
    /// For each of `rows` a random number, by which equal values are put in order.
    order: Vec<f64>,
    /// By how many tokens each document is moved, a share of its length: `[draw][document]`.
    moves: Vec<Vec<f64>>,
}

impl Trial {
    /// For the tokens that reach a bank: `ids[row]`, `documents[row]`, and so many draws of the null.
    pub(super) fn new(ids: &[u32], documents: &[u32], draws: usize, seed: Seed) -> Trial {
        let mut rng = seed.child("tokens and ties").rng();
        let key: Vec<f64> = ids.iter().map(|_| rng.random()).collect();
        let mut rows: Vec<usize> = (0..ids.len()).collect();
        rows.sort_by(|a, b| key[*a].total_cmp(&key[*b]));
        rows.truncate(TOKENS);
        rows.sort_by_key(|row| (documents[*row], *row));
        let parts: Vec<&[usize]> = rows.chunk_by(|a, b| documents[*a] == documents[*b]).collect();
        let ends: Vec<usize> = parts
            .iter()
            .scan(0, |end, part| {
                *end += part.len();
                Some(*end)
            })
            .collect();
        let mut counts = BTreeMap::<u32, usize>::new();
        rows.iter().for_each(|row| *counts.entry(ids[*row]).or_default() += 1);
        counts.retain(|_, count| *count >= FEWEST);
        let place: BTreeMap<u32, u32> = counts.keys().copied().zip(0..).collect();
        let kinds: Vec<Option<u32>> = rows.iter().map(|row| place.get(&ids[*row]).copied()).collect();
        let ids: Vec<u32> = counts.into_keys().collect();
        let precision = precision(&kinds, &ends, ids.len());
        let order = rows.iter().map(|row| key[*row]).collect();
        let draw = |draw: usize| {
            let mut rng = seed.index(draw as u64).rng();
            ends.iter().map(|_| rng.random()).collect()
        };
        let moves = (0..draws).map(draw).collect();
        Trial { rows, ends, kinds, ids, precision, order, moves }
    }

    /// Ranges of the documents.
    fn parts(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.ends.iter().scan(0, |start, end| Some(std::mem::replace(start, *end)..*end))
    }

    /// How far the sum of the scores of each type is above its expectation, in standard deviations.
    fn deviances(&self, scores: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.ids.len()];
        for (kind, score) in self.kinds.iter().zip(scores) {
            if let Some(kind) = kind {
                sums[*kind as usize] += score;
            }
        }
        sums.iter().zip(&self.precision).map(|(sum, precision)| sum * precision).collect()
    }

    /// What tokens tell of neurons with these values, `[neuron][row of the bank]`.
    pub(super) fn known(&self, neurons: &[&[f32]], count: usize) -> Vec<Known> {
        let sizes: Vec<Vec<f64>> = neurons.iter().map(|values| self.sizes(values)).collect();
        let scores: Vec<Vec<f64>> = sizes.iter().map(|sizes| self.scores(sizes)).collect();
        let nulls: Vec<Vec<f64>> = scores.chunks(TOGETHER).flat_map(|some| self.nulls(some)).collect();
        let of = |((sizes, scores), null): ((&Vec<f64>, &Vec<f64>), &Vec<f64>)| {
            self.known_of(sizes, scores, null, count)
        };
        sizes.iter().zip(&scores).zip(&nulls).map(of).collect()
    }

    /// Sizes of the activations at the places of the trial.
    fn sizes(&self, values: &[f32]) -> Vec<f64> {
        self.rows.iter().map(|row| f64::from(values[*row].abs())).collect()
    }

    /// Savage's scores of the sizes within each document.
    fn scores(&self, size: &[f64]) -> Vec<f64> {
        let mut scores = vec![0.0; size.len()];
        for part in self.parts() {
            let mut order: Vec<usize> = part.clone().collect();
            order.sort_by(|a, b| {
                size[*a].total_cmp(&size[*b]).then(self.order[*a].total_cmp(&self.order[*b]))
            });
            order.iter().zip(savage(part.len())).for_each(|(place, score)| scores[*place] = score);
        }
        scores
    }

    /// What tokens tell of one neuron beside its null.
    fn known_of(&self, size: &[f64], scores: &[f64], null: &[f64], count: usize) -> Known {
        let mut first: Vec<(usize, f64)> = self.deviances(scores).into_iter().enumerate().collect();
        first.retain(|(_, deviance)| *deviance > 0.0);
        first.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let largest = first.first().map_or(0.0, |first| first.1);
        // A draw that moves nothing gives the same sums in another order.
        let below = null.partition_point(|null| *null < largest * (1.0 - 1e-9));
        let beyond = null.get(null.len() * 19 / 20).copied().unwrap_or(f64::INFINITY);
        let named = first.into_iter().enumerate().filter(|(rank, of)| *rank == 0 || of.1 > beyond);
        let telling = |(_, (kind, deviance)): (usize, (usize, f64))| Telling {
            id: self.ids[kind],
            deviance,
            times: self.times(kind, size),
        };
        Known {
            first: named.take(count).map(telling).collect(),
            null: null.iter().sum::<f64>() / null.len().max(1) as f64,
            p_value: (1 + null.len() - below) as f64 / (1 + null.len()) as f64,
        }
    }

    /// For each of at most [`TOGETHER`] neurons the largest deviance of each draw, ascending: what the best of all tokens reaches where the neuron
    /// has nothing to do with them.
    ///
    /// Every neuron has a null of its own, since it depends on how long the neuron stays strong. The moves are the same for all neurons, so that what
    /// is drawn does not depend on which of them are looked at, and so that several can be moved and summed at once.
    fn nulls(&self, scores: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let lane = |row: usize| -> [f64; TOGETHER] {
            std::array::from_fn(|neuron| scores.get(neuron).map_or(0.0, |scores| scores[row]))
        };
        let lanes: Vec<[f64; TOGETHER]> = (0..self.rows.len()).map(lane).collect();
        // What is of no type that counts has a sum of its own that nobody reads.
        let none = self.ids.len();
        let kinds: Vec<usize> =
            self.kinds.iter().map(|kind| kind.map_or(none, |kind| kind as usize)).collect();
        let draw = |sums: &mut Vec<[f64; TOGETHER]>, moves: &Vec<f64>| {
            sums.clear();
            sums.resize(none + 1, [0.0; TOGETHER]);
            for (part, by) in self.parts().zip(moves) {
                let by = (by * part.len() as f64) as usize % part.len();
                let (end, beginning) = lanes[part.clone()].split_at(by);
                let (first, last) = kinds[part].split_at(beginning.len());
                add(sums, first, beginning);
                add(sums, last, end);
            }
            let mut largest = [0.0f64; TOGETHER];
            for (sums, precision) in sums[..none].iter().zip(&self.precision) {
                largest.iter_mut().zip(sums).for_each(|(most, sum)| *most = most.max(sum * precision));
            }
            largest
        };
        let largest: Vec<[f64; TOGETHER]> = self.moves.par_iter().map_init(Vec::new, draw).collect();
        let ascending = |neuron: usize| {
            let mut null: Vec<f64> = largest.iter().map(|largest| largest[neuron]).collect();
            null.sort_by(f64::total_cmp);
            null
        };
        (0..scores.len()).map(ascending).collect()
    }

    /// Mean size at the tokens of a type, in units of the mean over all tokens of the documents in which these stand.
    fn times(&self, kind: usize, size: &[f64]) -> f64 {
        let (mut own, mut usual) = (0.0, 0.0);
        for part in self.parts() {
            let mean = size[part.clone()].iter().sum::<f64>() / part.len() as f64;
            for place in part.filter(|place| self.kinds[*place] == Some(kind as u32)) {
                own += size[place];
                usual += mean;
            }
        }
        own / usual
    }
}

/// Adds scores to the sums of their types, for several neurons at once.
fn add(sums: &mut [[f64; TOGETHER]], kinds: &[usize], scores: &[[f64; TOGETHER]]) {
    for (kind, scores) in kinds.iter().zip(scores) {
        sums[*kind].iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
    }
}

/// Savage's scores of so many values, ascending: expected order statistics of an exponential distribution, less their mean.
fn savage(count: usize) -> Vec<f64> {
    let mut sum = -1.0;
    let next = |rank: usize| {
        sum += 1.0 / (count - rank) as f64;
        sum
    };
    (0..count).map(next).collect()
}

/// One over the standard deviation of the sum of scores of each type when the scores of each document are dealt out anew; 0 of a type that
/// fills its documents.
fn precision(kinds: &[Option<u32>], ends: &[usize], types: usize) -> Vec<f64> {
    let mut variance = vec![0.0; types];
    let mut start = 0;
    for end in ends {
        let all = (end - start) as f64;
        let spread = savage(end - start).iter().map(|score| score * score).sum::<f64>() / (all - 1.0);
        let mut own = BTreeMap::<u32, f64>::new();
        kinds[start..*end].iter().flatten().for_each(|kind| *own.entry(*kind).or_default() += 1.0);
        // A document of one token has no other order.
        if all > 1.0 {
            own.iter().for_each(|(kind, own)| variance[*kind as usize] += own * (all - own) / all * spread);
        }
        start = *end;
    }
    let precision = |variance: f64| if variance > 1e-12 { 1.0 / variance.sqrt() } else { 0.0 };
    variance.into_iter().map(precision).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::normal;

    #[test]
    fn scores_and_their_spread_by_hand() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        let scores = savage(3);
        [1.0 / 3.0 - 1.0, 5.0 / 6.0 - 1.0, 11.0 / 6.0 - 1.0]
            .iter()
            .zip(&scores)
            .for_each(|(a, b)| close(*a, *b));
        // One of three places: the variance of one score, which has mean 0.
        let spread = scores.iter().map(|score| score * score).sum::<f64>() / 3.0;
        close(precision(&[Some(0), None, None], &[3], 1)[0], 1.0 / spread.sqrt());
        // Alone in its document a token has no other place.
        assert_eq!(precision(&[Some(0)], &[1], 1), [0.0]);
    }

    /// What tokens tell of one neuron.
    fn one(trial: &Trial, values: &[f32], count: usize) -> Known {
        trial.known(&[values], count).remove(0)
    }

    #[test]
    fn neurons_looked_at_together_are_told_as_each_by_itself() {
        let (ids, documents) = text(9, 11);
        let trial = Trial::new(&ids, &documents, 29, Seed(12));
        let mut rng = Seed(13).rng();
        let neurons: Vec<Vec<f32>> =
            (0..2 * TOGETHER + 3).map(|_| ids.iter().map(|_| normal(&mut rng) as f32).collect()).collect();
        let all: Vec<&[f32]> = neurons.iter().map(Vec::as_slice).collect();
        let alone: Vec<Known> = all.iter().map(|values| one(&trial, values, 3)).collect();
        assert_eq!(trial.known(&all, 3), alone);
        // The null by hand: every document moved, the largest deviance of each draw.
        let scores = trial.scores(&trial.sizes(all[0]));
        let draw = |moves: &Vec<f64>| {
            let moved = trial.parts().zip(moves).flat_map(|(part, by)| {
                let mut moved = scores[part.clone()].to_vec();
                moved.rotate_left((by * part.len() as f64) as usize % part.len());
                moved
            });
            trial.deviances(&moved.collect::<Vec<f64>>()).into_iter().fold(0.0, f64::max)
        };
        let null: Vec<f64> = trial.moves.iter().map(draw).collect();
        assert!((alone[0].null - null.iter().sum::<f64>() / 29.0).abs() < 1e-12);
    }

    /// Documents of 20 tokens of twelve types.
    fn text(documents: usize, seed: u64) -> (Vec<u32>, Vec<u32>) {
        let mut rng = Seed(seed).child("text").rng();
        let ids = (0..20 * documents).map(|_| rng.random_range(0..12)).collect();
        (ids, (0..20 * documents).map(|token| (token / 20) as u32).collect())
    }

    #[test]
    fn a_planted_token_is_found_whatever_the_sign_and_the_document_is_not() {
        let (ids, documents) = text(20, 1);
        let trial = Trial::new(&ids, &documents, 199, Seed(2));
        let mut rng = Seed(3).rng();
        let noise: Vec<f64> = ids.iter().map(|_| normal(&mut rng).abs()).collect();
        let values = |of: &dyn Fn(usize) -> f64| (0..ids.len()).map(|t| of(t) as f32).collect::<Vec<f32>>();
        let own = one(&trial, &values(&|t| if ids[t] == 7 { -3.0 - noise[t] } else { noise[t] }), 3);
        assert_eq!((own.first[0].id, own.p_value), (7, 1.0 / 200.0), "{own:?}");
        assert!(own.first[0].deviance > 2.0 * own.null && own.first[0].times > 2.0);
        let of_document = one(&trial, &values(&|t| noise[t] + f64::from(documents[t])), 3);
        assert!(of_document.p_value > 0.05, "{of_document:?}");
    }

    #[test]
    fn values_may_be_stretched_and_documents_renamed() {
        let (ids, documents) = text(12, 4);
        let mut rng = Seed(5).rng();
        let values: Vec<f32> = ids.iter().map(|id| normal(&mut rng) as f32 + *id as f32 / 4.0).collect();
        let squares: Vec<f32> = values.iter().map(|x| x * x).collect();
        let trial = Trial::new(&ids, &documents, 99, Seed(6));
        let (plain, stretched) = (one(&trial, &values, 3), one(&trial, &squares, 3));
        let say = |known: &Known| {
            (known.first.iter().map(|t| (t.id, t.deviance)).collect::<Vec<_>>(), known.p_value)
        };
        assert_eq!(say(&plain), say(&stretched));
        let renamed: Vec<u32> = documents.iter().map(|d| 100 + 2 * d).collect();
        assert_eq!(one(&Trial::new(&ids, &renamed, 99, Seed(6)), &values, 3), plain);
    }

    #[test]
    fn a_neuron_that_stays_strong_for_a_while_is_known_by_no_token() {
        // Words come in stretches, and so does the neuron, without regard to each other: 200 seeds at one in twenty.
        let beyond = (0..200).filter(|seed| {
            let mut rng = Seed(*seed).child("stretches").rng();
            let documents: Vec<u32> = (0..1200).map(|token| token / 120).collect();
            let (mut ids, mut values) = (Vec::new(), Vec::new());
            let (mut word, mut state) = (0_u32, 0.0_f64);
            for _ in 0..1200 {
                if rng.random_bool(0.15) {
                    word = rng.random_range(0..10);
                }
                state = 0.95 * state + normal(&mut rng);
                ids.push(word);
                values.push(state as f32);
            }
            one(&Trial::new(&ids, &documents, 99, Seed(*seed)), &values, 1).p_value <= 0.05
        });
        let beyond = beyond.count();
        assert!((1..20).contains(&beyond), "{beyond} of 200");
    }

    #[test]
    fn noise_is_known_by_a_token_as_often_as_it_should_also_where_most_of_it_is_zero() {
        // Two neurons for each of 200 seeds, one of them mostly silent: 400 tests at one in twenty; above 35 is far beyond chance.
        let beyond: usize = (0..200)
            .map(|seed| {
                let (ids, documents) = text(10, 1000 + seed);
                let trial = Trial::new(&ids, &documents, 99, Seed(seed));
                let mut rng = Seed(seed).child("noise").rng();
                let dense: Vec<f32> = ids.iter().map(|_| normal(&mut rng) as f32).collect();
                let sparse: Vec<f32> = dense.iter().map(|x| (x - 1.5).max(0.0)).collect();
                [dense, sparse].iter().filter(|values| one(&trial, values, 1).p_value <= 0.05).count()
            })
            .sum();
        assert!((5..36).contains(&beyond), "{beyond} of 400");
    }
}
