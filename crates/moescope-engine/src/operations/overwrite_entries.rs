//! Single entries replaced by a given number.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The replaced entries, whose gradient ends here.
struct OverwriteEntries {
    x: Var,
    places: Vec<usize>,
}

impl Tape<'_> {
    /// `x` with the entries at `places`, counted row by row, replaced by `value`.
    ///
    /// The gradient flows to the other entries only: a replaced one no longer depends on `x`. `x` itself stays as it is.
    ///
    /// # Errors
    /// [`EngineError::Range`] for a place beyond the last entry.
    pub fn overwrite_entries(&mut self, x: Var, places: &[usize], value: f32) -> Result<Var, EngineError> {
        let length = self.value(x).len();
        if let Some(&found) = places.iter().find(|&&place| place >= length) {
            let (operation, high) = ("overwrite_entries", length.saturating_sub(1));
            return Err(EngineError::Range { operation, argument: "places", found, low: 0, high });
        }
        let mut out = self.value(x).clone();
        places.iter().for_each(|&place| out.data_mut()[place] = value);
        Ok(self.record(out, [Some(x), None], OverwriteEntries { x, places: places.to_vec() }))
    }
}

impl Operation for OverwriteEntries {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        self.places.iter().for_each(|&place| gradient.data_mut()[place] = 0.0);
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn replaced_entries_are_constants() {
        let reference = |x: &[Vec<f64>]| {
            let mut out = x[0].clone();
            (out[1], out[4]) = (0.5, 0.5);
            out
        };
        let build = |tape: &mut Tape<'_>, x: &[Var]| tape.overwrite_entries(x[0], &[4, 1], 0.5);
        check(&[numbers(&[2, 3], 1)], build, reference);
    }

    #[test]
    fn no_place_changes_nothing_and_a_missing_one_is_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = numbers(&[2, 3], 5);
        let var = tape.constant(x.clone());
        let same = tape.overwrite_entries(var, &[], 9.0).unwrap();
        assert_eq!(tape.value(same), &x);
        let missing = tape.overwrite_entries(var, &[6], 0.0);
        assert!(matches!(missing, Err(EngineError::Range { found: 6, high: 5, .. })));
    }
}
