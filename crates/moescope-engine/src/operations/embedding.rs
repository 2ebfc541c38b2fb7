//! Rows of a table.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The ids, since the rows alone do not tell where they came from.
struct Embedding {
    table: Var,
    ids: Vec<u32>,
}

impl Tape<'_> {
    /// The rows of `table[vocabulary, width]` that `ids[token]` name: `[token, width]`.
    ///
    /// # Errors
    /// [`EngineError::Range`] for an id beyond the table, [`EngineError::Shape`] for a table that is not a matrix.
    pub fn embedding(&mut self, table: Var, ids: &[u32]) -> Result<Var, EngineError> {
        let &[vocabulary, width] = self.value(table).shape() else {
            return Err(EngineError::Shape {
                operation: "embedding",
                argument: "table",
                found: self.value(table).shape().to_vec(),
                wanted: "[vocabulary, width]".into(),
            });
        };
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(EngineError::Range {
                operation: "embedding",
                argument: "ids",
                found: id as usize,
                low: 0,
                high: vocabulary.saturating_sub(1),
            });
        }
        let mut out = Tensor::unfilled([ids.len(), width]); // [token, width]
        self.device.embedding(self.value(table).data(), ids, out.data_mut());
        Ok(self.record(out, [Some(table), None], Embedding { table, ids: ids.to_vec() }))
    }
}

impl Operation for Embedding {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        if sweep.wants(self.table) {
            let (mut out, started) = sweep.open(self.table);
            if !started {
                out.data_mut().fill(0.0);
            }
            sweep.device().embedding_backward(gradient.data(), &self.ids, out.data_mut());
            sweep.put(self.table, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(table: &[f64], ids: &[u32], width: usize) -> Vec<f64> {
        ids.iter().flat_map(|&id| table[id as usize * width..][..width].to_vec()).collect()
    }

    proptest! {
        #[test]
        fn rows_follow_the_reference(ids in proptest::collection::vec(0u32..7, 1..12), width in 1usize..6, seed: u64) {
            let build = |tape: &mut Tape<'_>, x: &[Var]| tape.embedding(x[0], &ids);
            check(&[numbers(&[7, width], seed)], build, |x| reference(&x[0], &ids, width));
        }
    }

    #[test]
    fn a_large_table_has_the_same_bits_on_any_number_of_threads() {
        let ids: Vec<u32> = (0..500).map(|i| (i * i * 31) % 4000).collect();
        check_bits(&[numbers(&[4000, 17], 1)], |tape, x| tape.embedding(x[0], &ids));
    }

    #[test]
    fn an_unknown_id_is_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let table = tape.constant(Tensor::zeros([3, 2]));
        assert!(matches!(tape.embedding(table, &[0, 3]), Err(EngineError::Range { found: 3, high: 2, .. })));
    }
}
