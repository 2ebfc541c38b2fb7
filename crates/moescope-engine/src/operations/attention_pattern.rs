//! Who looks at whom.

use crate::backward::{Operation, Sweep};
use crate::{AttentionLayout, EngineError, Tape, Tensor, Var};

struct AttentionPattern {
    q: Var,
    k: Var,
    layout: AttentionLayout,
}

const NAME: &str = "attention_pattern";

impl Tape<'_> {
    /// Causal `softmax(q · kᵀ / sqrt(head_dim))`, `[batch, head, query, key]`; zero where the key is later than the query.
    ///
    /// `q[token, head * head_dim]`, `k[token, key_value_head * head_dim]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the widths do not fit the layout, [`EngineError::Range`] when the heads cannot be shared
    /// out evenly.
    pub fn attention_pattern(&mut self, q: Var, k: Var, layout: AttentionLayout) -> Result<Var, EngineError> {
        check_layout(NAME, layout)?;
        self.require_shape(NAME, "q", q, &[layout.tokens(), layout.heads * layout.head_dim])?;
        self.require_shape(NAME, "k", k, &[layout.tokens(), layout.key_value_heads * layout.head_dim])?;
        let mut out = Tensor::unfilled([layout.batch, layout.heads, layout.positions, layout.positions]);
        self.device.attention_pattern(self.value(q).data(), self.value(k).data(), layout, out.data_mut());
        let var = self.record(out, [Some(q), Some(k)], AttentionPattern { q, k, layout });
        self.nodes[var.0].causal = true;
        Ok(var)
    }
}

/// Refuses a layout without entries or with heads that cannot be shared out evenly.
pub(super) fn check_layout(operation: &'static str, layout: AttentionLayout) -> Result<(), EngineError> {
    let AttentionLayout { heads, key_value_heads, head_dim, .. } = layout;
    if key_value_heads == 0 || !heads.is_multiple_of(key_value_heads) {
        let argument = "key_value_heads, a divisor of heads,";
        return Err(EngineError::Range { operation, argument, found: key_value_heads, low: 1, high: heads });
    }
    if head_dim == 0 {
        let high = usize::MAX;
        return Err(EngineError::Range { operation, argument: "head_dim", found: head_dim, low: 1, high });
    }
    Ok(())
}

impl Operation for AttentionPattern {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let mut q_gradient = sweep.unfilled_like(self.q);
        let mut k_gradient = sweep.unfilled_like(self.k);
        sweep.device().attention_pattern_backward(
            sweep.value(self.q).data(),
            sweep.value(self.k).data(),
            sweep.result().data(),
            gradient.data_mut(),
            self.layout,
            q_gradient.data_mut(),
            k_gradient.data_mut(),
        );
        sweep.add(self.q, q_gradient);
        sweep.add(self.k, k_gradient);
    }
}
