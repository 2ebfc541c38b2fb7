//! Gains of edges under the true direction and under random ones.
//!
//! An edge joins a sending expert to a receiving one of a later layer. Its gain says how much longer or
//! shorter the answer of the receiver is than the change that it was given. A gain alone says little, since
//! some experts answer strongly to anything, so each is held against the gains of changes that are as long
//! and point elsewhere.
//!
//! A small example: the sender's change has squared length 4 at each of two tokens, and the receiver's
//! answers have squared lengths 16 and 16. The gain is the root of 32 / 8, which is 2. If a random direction
//! gets answers of 4 and 4, its gain is 1: the receiver reads this sender twice as strongly as it reads any
//! direction.

use std::collections::BTreeMap;

use super::{Edge, Expert};
use crate::statistics::{LEAST_UNITS, Resampling, bootstrap};
use crate::{AnalysisError, check};

/// Sums over the tokens of one document that the receiver sees.
#[derive(Clone, Debug, Default)]
pub(super) struct Lengths {
    /// Squared change of the receiver's answer: under the true direction, then under each turn.
    answered: Vec<f64>,
    /// Squared change of the sender's write.
    sent: f64,
}

/// Sums by sender and receiver, and by document.
pub(super) type Tallies = BTreeMap<(Expert, Expert), BTreeMap<u32, Lengths>>;

/// Adds the tokens of one pass: `sent[token]` is the squared length of the change there.
///
/// Draw 0 is the true direction, the others are turns of it. Tokens at which the sender's write does not
/// change have nothing to answer to and count nowhere. Turns keep lengths, so what was sent is added up once,
/// under the true direction.
pub(super) fn add(
    tallies: &mut Tallies,
    edge: (Expert, Expert),
    draw: usize,
    answered: &[(usize, f64)],
    sent: &[f64],
    documents: &[u32],
) {
    for (token, square) in answered.iter().filter(|(token, _)| sent[*token] > 0.0) {
        let lengths = tallies.entry(edge).or_default().entry(documents[*token]).or_default();
        lengths.answered.resize(lengths.answered.len().max(draw + 1), 0.0);
        lengths.answered[draw] += square;
        if draw == 0 {
            lengths.sent += sent[*token];
        }
    }
}

/// Every edge that at least four documents have, with its null and its p-value.
///
/// Edges that fewer documents have are left out, since no interval can be given for them.
///
/// # Errors
///
/// If no edge has four documents, or the resampling cannot be done.
pub(super) fn edges(tallies: &Tallies, resampling: Resampling) -> Result<Vec<Edge>, AnalysisError> {
    let seen: Vec<(&(Expert, Expert), Vec<&Lengths>)> = tallies
        .iter()
        .map(|(edge, documents)| (edge, documents.values().collect::<Vec<&Lengths>>()))
        .filter(|(_, documents)| documents.len() >= LEAST_UNITS)
        .collect();
    let gains: Vec<Vec<f64>> = seen.iter().map(|(_, documents)| gains(documents)).collect();
    let p_values = p_values(&gains);
    let edge = |(place, ((sender, receiver), documents)): (usize, &(&(Expert, Expert), Vec<&Lengths>))| {
        let of = |drawn: &[usize]| gain(drawn.iter().map(|document| documents[*document]), 0);
        Ok(Edge {
            sender: *sender,
            receiver: *receiver,
            gain: bootstrap(documents.len(), of, resampling)?,
            null: root_mean_square(gains[place][1..].iter().copied()),
            p: p_values[place],
        })
    };
    check::at_least(super::METHOD, "edges that four documents have", seen.len(), 1)?;
    seen.iter().enumerate().map(edge).collect()
}

/// The gain of an edge under every draw, the true direction first.
fn gains(documents: &[&Lengths]) -> Vec<f64> {
    let draws = documents.iter().map(|lengths| lengths.answered.len()).max().unwrap_or(0);
    (0..draws).map(|draw| gain(documents.iter().copied(), draw)).collect()
}

/// A ratio of sums rather than a mean of ratios: tokens at which hardly anything was sent would otherwise
/// decide the result.
fn gain<'a>(documents: impl Iterator<Item = &'a Lengths> + Clone, draw: usize) -> f64 {
    let answered: f64 = documents.clone().map(|lengths| lengths.answered[draw]).sum();
    (answered / documents.map(|lengths| lengths.sent).sum::<f64>()).sqrt()
}

/// Probability of so large a gain among all edges: `gains[edge][draw]`, the true direction first. Each gain counts in units of the edge's
/// root mean square over all other draws, so that all draws are treated alike.
///
/// The smallest p-value is one over the number of draws, the true direction among them: 24 turns reach 0.04.
/// One family of comparisons holds all edges, so that the chance of calling any edge where all directions are
/// read alike stays at the level, however many edges there are. Holm's correction of separate ranks would
/// need as many times more turns as there are edges.
pub(super) fn p_values(gains: &[Vec<f64>]) -> Vec<f64> {
    let ratios: Vec<Vec<f64>> = gains.iter().map(|of_edge| ratios(of_edge)).collect();
    let draws = gains.first().map_or(0, Vec::len);
    let largest = |draw: usize| ratios.iter().map(|of_edge| of_edge[draw]).fold(0.0, f64::max);
    let largest: Vec<f64> = (1..draws).map(largest).collect();
    let p = |of_edge: &Vec<f64>| {
        let above = largest.iter().filter(|largest| **largest >= of_edge[0]).count();
        (1 + above) as f64 / draws as f64
    };
    ratios.iter().map(p).collect()
}

/// Each gain over the root mean square of the others.
///
/// A gain of 0 is 0 in any unit; a gain beside others that are all 0 is infinite, and so the largest.
fn ratios(gains: &[f64]) -> Vec<f64> {
    let of = |draw: usize| {
        let others = gains.iter().enumerate().filter(|(other, _)| *other != draw).map(|(_, gain)| *gain);
        match (gains[draw], root_mean_square(others)) {
            (0.0, _) => 0.0,
            (gain, unit) => gain / unit,
        }
    };
    (0..gains.len()).map(of).collect()
}

fn root_mean_square(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value * value, count + 1.0));
    (sum / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use rand::RngExt;

    #[test]
    fn a_p_value_by_hand() {
        // Ratios 3.79, 0.46, 0.22 and 0.69, 0.32, 2.53: the largest of the two turns are 0.46 and 2.53.
        let found = p_values(&[vec![3.0, 1.0, 0.5], vec![2.0, 1.0, 4.0]]);
        assert_eq!(found, [1.0 / 3.0, 2.0 / 3.0]);
        assert!((ratios(&[3.0, 1.0, 0.5])[0] - 3.0 / 0.625_f64.sqrt()).abs() < 1e-12);
        assert_eq!(p_values(&[vec![0.0; 4]]), [1.0], "an edge that answers to nothing says nothing");
        assert_eq!(p_values(&[vec![1.0, 0.0, 0.0]]), [1.0 / 3.0]);
    }

    #[test]
    fn gains_are_lengths_for_each_unit_sent() {
        let edge = (Expert { layer: 0, expert: 1 }, Expert { layer: 1, expert: 2 });
        let mut tallies = Tallies::new();
        // Token 2 has no change and counts nowhere.
        for (draw, square) in [(0, 16.0), (1, 4.0)] {
            let answered = [(0, square), (1, square), (2, 99.0)];
            for document in [1, 3, 5, 7] {
                let documents = [document, document + 1, document + 1];
                add(&mut tallies, edge, draw, &answered, &[4.0, 4.0, 0.0], &documents);
            }
        }
        let resampling = Resampling {
            replicates: 50,
            level: 0.95,
            method: crate::statistics::BootstrapMethod::Percentile,
            seed: Seed(1),
        };
        let found = edges(&tallies, resampling).unwrap()[0];
        assert_eq!((found.gain.estimate, found.gain.low, found.null), (2.0, 2.0, 1.0));
        tallies.values_mut().for_each(|documents| documents.retain(|document, _| *document < 4));
        assert!(edges(&tallies, resampling).is_err(), "three documents are no interval");
    }

    #[test]
    fn where_all_directions_are_read_alike_an_edge_is_called_in_one_of_twenty_families() {
        let smallest = |seed: u64| {
            let mut rng = Seed(seed).rng();
            let gain = |rng: &mut rand_chacha::ChaCha8Rng| rng.random::<f64>().powi(2);
            let gains: Vec<Vec<f64>> = (0..12).map(|_| (0..25).map(|_| gain(&mut rng)).collect()).collect();
            p_values(&gains).into_iter().fold(1.0, f64::min)
        };
        let rate = planted::rejection_rate(200, smallest);
        // The smallest p is 1/25; so much is exceeded once in a thousand times.
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    }
}
