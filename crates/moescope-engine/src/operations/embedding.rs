//! Rows of a table.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

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
