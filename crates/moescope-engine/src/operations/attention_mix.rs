//! What is seen through an attention pattern.

use super::attention_pattern::check_layout;
use crate::backward::{Operation, Sweep};
use crate::{AttentionLayout, EngineError, MixReach, Tape, Tensor, Var};

struct AttentionMix {
    pattern: Var,
    v: Var,
    layout: AttentionLayout,
    causal: bool,
}

const NAME: &str = "attention_mix";

impl Tape<'_> {
    /// Values `v[token, key_value_head * head_dim]` mixed by `pattern[batch, head, query, key]`: `[token, head * head_dim]`.
    ///
    /// A pattern straight from [`attention_pattern`](Self::attention_pattern) is known to be zero for later keys, and those
    /// entries are skipped; any other pattern is read whole.
    ///
    /// # Errors
    /// [`EngineError::Shape`] or [`EngineError::Range`] when something does not fit the layout.
    pub fn attention_mix(
        &mut self,
        pattern: Var,
        v: Var,
        layout: AttentionLayout,
    ) -> Result<Var, EngineError> {
        check_layout(NAME, layout)?;
        let AttentionLayout { batch, positions, heads, key_value_heads, head_dim } = layout;
        self.require_shape(NAME, "pattern", pattern, &[batch, heads, positions, positions])?;
        self.require_shape(NAME, "v", v, &[layout.tokens(), key_value_heads * head_dim])?;
        let causal = self.nodes[pattern.0].causal;
        let mut out = Tensor::unfilled([layout.tokens(), heads * head_dim]);
        let (pattern_data, v_data) = (self.value(pattern).data(), self.value(v).data());
        self.device.attention_mix(pattern_data, v_data, layout, causal, out.data_mut());
        Ok(self.record(out, [Some(pattern), Some(v)], AttentionMix { pattern, v, layout, causal }))
    }
}

impl Operation for AttentionMix {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let reach = MixReach { causal: self.causal, full: !self.causal || sweep.watched(self.pattern) };
        let mut pattern_gradient = sweep.wants(self.pattern).then(|| sweep.unfilled_like(self.pattern));
        let mut v_gradient = sweep.wants(self.v).then(|| sweep.unfilled_like(self.v));
        sweep.device().attention_mix_backward(
            sweep.value(self.pattern).data(),
            sweep.value(self.v).data(),
            gradient.data(),
            self.layout,
            reach,
            pattern_gradient.as_mut().map(Tensor::data_mut),
            v_gradient.as_mut().map(Tensor::data_mut),
        );
        if let Some(v_gradient) = v_gradient {
            sweep.add(self.v, v_gradient);
        }
        if let Some(pattern_gradient) = pattern_gradient {
            sweep.add(self.pattern, pattern_gradient);
        }
    }
}
