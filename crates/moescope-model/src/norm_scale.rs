//! The denominators of norms, for whoever looks at them.

use moescope_base::HookPoint;
use moescope_engine::Var;

use crate::forward::Run;
use crate::parameters::NormIndex;
use crate::pass::Heard;

impl Run<'_, '_, '_> {
    /// Lets the listener hear what the norm divides the rows of `x[token, model]` by. The norm itself is one operation, which does
    /// not give it away, so it is worked out once more, and only where somebody listens.
    pub(crate) fn tell_scale(&mut self, point: HookPoint, x: Var, norm: NormIndex, epsilon: f32) {
        if self.meets(point) {
            let value = self.tape.value(x);
            let rows = value.data().chunks_exact(value.columns());
            let scales: Vec<f32> = rows.map(|row| scale(row, norm.bias.is_some(), epsilon)).collect();
            self.tell(point, Heard::Numbers(&scales));
        }
    }
}

/// `sqrt(mean(x²) + epsilon)`, with the mean taken off first where the norm is centred. Summed in f64.
fn scale(row: &[f32], centred: bool, epsilon: f32) -> f32 {
    let count = row.len() as f64;
    let mean = if centred { row.iter().map(|x| f64::from(*x)).sum::<f64>() / count } else { 0.0 };
    let square = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    (square + f64::from(epsilon)).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denominators_by_hand() {
        assert_eq!(scale(&[3.0, 4.0, 0.0, 5.0], false, 0.0), 12.5f32.sqrt());
        assert_eq!(scale(&[1.0, 3.0], true, 3.0), 2.0, "variance 1 and epsilon 3");
        assert_eq!(scale(&[7.0, 7.0], true, 0.25), 0.5, "a constant row varies by nothing");
    }
}
