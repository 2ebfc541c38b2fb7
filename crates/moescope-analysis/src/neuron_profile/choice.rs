//! Which neurons are looked at: those that write most.

use moescope_base::{HookPoint, Request};

use super::bank::{Bank, Place, banks, lengths, router_points, value};
use super::{EXPERTS, NEURONS};
use crate::AnalysisError;
use crate::instrument::Material;

/// Sequences that decide, at most; whole batches.
const SEQUENCES: usize = 64;

/// Neurons of one bank that are looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chosen {
    pub(super) bank: Bank,
    /// Those that write most over the text, ascending.
    pub(super) neurons: Vec<usize>,
}

/// The neurons of a layer that write most: at most 16 of a dense layer, of the shared expert, and of each of the four experts whose
/// neurons write most over all tokens together.
///
/// What a neuron writes at a token is the size of its activation times the length of its column of down, times the weight of its expert.
///
/// # Errors
/// If the subject cannot answer or does not show its weights.
pub(super) fn chosen(material: &mut Material<'_>, layer: usize) -> Result<Vec<Chosen>, AnalysisError> {
    let (banks, writes) = writes(material, layer)?;
    let wrote = |bank: usize| writes[bank].iter().sum::<f64>();
    let expert = |bank: &usize| matches!(banks[*bank].place, Place::Expert(_));
    let (mut experts, others): (Vec<usize>, Vec<usize>) = (0..banks.len()).partition(expert);
    // Of equals the first.
    experts.sort_by(|a, b| wrote(*b).total_cmp(&wrote(*a)).then(a.cmp(b)));
    experts.truncate(EXPERTS);
    experts.sort_unstable();
    let of = |bank: usize| Chosen { bank: banks[bank], neurons: largest(&writes[bank], NEURONS) };
    Ok(experts.into_iter().chain(others).map(of).collect())
}

/// What each neuron of each bank of a layer writes over some of the text, `[bank][neuron]`.
fn writes(material: &mut Material<'_>, layer: usize) -> Result<(Vec<Bank>, Vec<Vec<f64>>), AnalysisError> {
    let shape = material.subject.shape().clone();
    let banks = banks(&shape, layer);
    let mut writes: Vec<Vec<f64>> =
        banks.iter().map(|bank| Ok(lengths(&bank.down(material)?))).collect::<Result<_, AnalysisError>>()?;
    let mut sums: Vec<Vec<f64>> = writes.iter().map(|lengths| vec![0.0; lengths.len()]).collect();
    let points: Vec<HookPoint> = banks.iter().map(Bank::post).chain(router_points(&shape, layer)).collect();
    for sample in material.some_samples("neurons", SEQUENCES)? {
        let seen = material.subject.run(&Request::recording(sample.tokens(), &points))?;
        for (bank, sums) in banks.iter().zip(&mut sums) {
            let reached = bank.reached(&seen.values, sample.tokens().len())?;
            let numbers = value(&seen.values, bank.post())?.real().unwrap_or_default();
            for ((_, weight), row) in reached.iter().zip(numbers.chunks_exact(sums.len())) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight.abs() * f64::from(x.abs()));
            }
        }
    }
    writes.iter_mut().zip(&sums).for_each(|(writes, sums)| {
        writes.iter_mut().zip(sums).for_each(|(write, sum)| *write *= sum);
    });
    Ok((banks, writes))
}

/// Of the bank of a layer whose neurons write most over all tokens together, the neurons that write most, at most so many: the hook point of
/// their activations, and their numbers.
///
/// # Errors
/// As [`chosen`].
pub(crate) fn largest_writers(
    material: &mut Material<'_>,
    layer: usize,
    count: usize,
) -> Result<Vec<(HookPoint, usize)>, AnalysisError> {
    let (banks, writes) = writes(material, layer)?;
    let wrote = |bank: &usize| writes[*bank].iter().sum::<f64>();
    let most = (0..banks.len()).max_by(|a, b| wrote(a).total_cmp(&wrote(b)).then(b.cmp(a)));
    let of = |bank: usize| largest(&writes[bank], count).into_iter().map(move |neuron| (bank, neuron));
    Ok(most.into_iter().flat_map(of).map(|(bank, neuron)| (banks[bank].post(), neuron)).collect())
}

/// The places of the largest numbers, ascending; of equals the first.
fn largest(numbers: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*b].total_cmp(&numbers[*a]).then(a.cmp(b)));
    order.truncate(count);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_taken_and_of_equals_the_first() {
        assert_eq!(largest(&[1.0, 5.0, 3.0, 5.0, 3.0], 3), [1, 2, 3]);
        assert_eq!(largest(&[0.0; 4], 2), [0, 1]);
        assert_eq!(largest(&[1.0], 9), [0]);
    }
}
