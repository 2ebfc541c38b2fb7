//! The neurons of one feed-forward layer over some tokens.

use moescope_base::{HookPoint, Site, Value};
use rayon::prelude::*;

use crate::AnalysisError;

/// Which neuron of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NeuronId {
    pub(super) bank: usize,
    pub(super) neuron: usize,
}

/// Neurons that see the same tokens: those of a dense layer, of one expert, or of the shared expert.
#[derive(Clone, Debug, PartialEq)]
struct Bank {
    point: HookPoint,
    width: usize,
    /// Tokens that pass through, an index into those of the layer, ascending.
    tokens: Vec<u32>,
    /// `[row, neuron]`, a row for each of these tokens.
    values: Vec<f32>,
}

/// All neurons of a layer. A neuron of an expert that a token has not chosen is 0 there: it writes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Neurons {
    tokens: usize,
    banks: Vec<Bank>,
}

/// Sums of every neuron over the tokens of each part, `[bank][part * width + neuron]`.
pub(super) type Sums = Vec<Vec<f64>>;

impl Neurons {
    /// No token yet of the neurons at these points.
    pub(super) fn none_of(points: &[HookPoint]) -> Neurons {
        let bank =
            |point: &HookPoint| Bank { point: *point, width: 0, tokens: Vec::new(), values: Vec::new() };
        Neurons { tokens: 0, banks: points.iter().map(bank).collect() }
    }

    /// Tokens.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Appends the tokens `rows`, ascending, of a pass.
    pub(super) fn append<'v>(
        &mut self,
        rows: &[usize],
        value: impl Fn(HookPoint) -> Option<&'v Value>,
    ) -> Result<(), AnalysisError> {
        let before = self.tokens;
        for bank in &mut self.banks {
            let value = value(bank.point).ok_or(AnalysisError::NotRecorded { point: bank.point })?;
            let numbers = value.real().ok_or(AnalysisError::NotRecorded { point: bank.point })?;
            bank.width = value.columns();
            for (place, row) in rows.iter().enumerate() {
                let found = match value.rows() {
                    Some(tokens) => tokens.binary_search(&(*row as u32)).ok(),
                    None => Some(*row),
                };
                if let Some(at) = found {
                    bank.tokens.push((before + place) as u32);
                    bank.values.extend_from_slice(&numbers[at * bank.width..(at + 1) * bank.width]);
                }
            }
        }
        self.tokens += rows.len();
        Ok(())
    }

    /// Sums of every neuron over the tokens of each of `parts` parts; `part_of` names the part of a token, or none.
    pub(super) fn sums(&self, parts: usize, part_of: impl Fn(usize) -> Option<usize> + Sync) -> Sums {
        let of_bank = |bank: &Bank| {
            let mut sums = vec![0.0; parts * bank.width];
            for (token, row) in bank.tokens.iter().zip(bank.values.chunks_exact(bank.width.max(1))) {
                if let Some(part) = part_of(*token as usize) {
                    let sums = &mut sums[part * bank.width..(part + 1) * bank.width];
                    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
                }
            }
            sums
        };
        self.banks.par_iter().map(of_bank).collect()
    }

    /// Every neuron, bank after bank.
    pub(super) fn ids(&self) -> impl Iterator<Item = NeuronId> + '_ {
        let of = |(bank, of): (usize, &Bank)| (0..of.width).map(move |neuron| NeuronId { bank, neuron });
        self.banks.iter().enumerate().flat_map(of)
    }

    /// Neurons of a bank.
    pub(super) fn width(&self, bank: usize) -> usize {
        self.banks[bank].width
    }

    /// The values of a neuron, `[token]`.
    pub(super) fn column(&self, id: NeuronId) -> Vec<f64> {
        let bank = &self.banks[id.bank];
        let mut column = vec![0.0; self.tokens];
        for (token, row) in bank.tokens.iter().zip(bank.values.chunks_exact(bank.width.max(1))) {
            column[*token as usize] = f64::from(row[id.neuron]);
        }
        column
    }

    /// Where a neuron is, for people: the number of its expert, `shared`, or nothing in a dense layer.
    pub(super) fn place(&self, id: NeuronId) -> String {
        let point = self.banks[id.bank].point;
        match (point.expert_index(), point.site()) {
            (Some(expert), _) => expert.to_string(),
            (None, Site::SharedPost) => "shared".into(),
            (None, _) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::ValueData;

    #[test]
    fn a_neuron_of_an_expert_is_zero_where_the_token_is_not_sent_there() {
        let dense = HookPoint::block(Site::MlpPost, 0);
        let expert = HookPoint::expert(Site::ExpertPost, 0, 3);
        let real = |numbers: &[f32]| ValueData::Real(numbers.to_vec());
        let all = Value::new(dense, vec![1, 3, 2], real(&[1., 2., 3., 4., 5., 6.]), None).unwrap();
        let some = Value::new(expert, vec![2, 1], real(&[7., 8.]), Some(vec![0, 2])).unwrap();
        let mut neurons = Neurons::none_of(&[dense, expert]);
        let of = |point: HookPoint| Some(if point == dense { &all } else { &some });
        neurons.append(&[0, 1], of).unwrap();
        neurons.append(&[2], of).unwrap();
        let column = |bank, neuron| neurons.column(NeuronId { bank, neuron });
        assert_eq!((column(0, 1), column(1, 0)), (vec![2., 4., 6.], vec![7., 0., 8.]));
        assert_eq!(neurons.place(NeuronId { bank: 1, neuron: 0 }), "3");
        assert_eq!((neurons.ids().count(), neurons.tokens()), (3, 3));
        // Tokens 0 and 1 are the first part, token 2 in none.
        let sums = neurons.sums(2, |token| [Some(0), Some(1), None][token]);
        assert_eq!(sums, [vec![1., 2., 3., 4.], vec![7., 0.]]);
        assert!(neurons.append(&[0], |_| None).is_err());
    }
}
