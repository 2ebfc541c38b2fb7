use std::collections::BTreeMap;

use moescope_base::Subject;

use crate::AnalysisError;

/// Rows in one product with the unembedding.
const ROWS_AT_ONCE: usize = 256;

/// What final norm and unembedding make of a vector, as directions: with the denominator of the norm held, a logit is linear.
///
/// Logits are taken against their mean over the vocabulary, which no prediction depends on.
pub(super) struct Readout {
    /// Direction of each wanted token: `[coordinate]`.
    directions: BTreeMap<u32, Vec<f64>>,
    /// What the logit of each wanted token is without any vector.
    bases: BTreeMap<u32, f64>,
}

impl Readout {
    /// Asks the subject to read out one coordinate after the other.
    pub(super) fn of(subject: &mut dyn Subject, wanted: &[u32]) -> Result<Readout, AnalysisError> {
        let (width, vocabulary) = (subject.shape().d_model, subject.shape().vocab);
        let base = subject.unembed(&vec![0.0; width])?;
        let ones = subject.unembed(&vec![1.0; width])?;
        // A norm that takes the mean off sees nothing in a vector of ones.
        let largest = |logits: &[f32]| logits.iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
        let change: Vec<f32> = ones.iter().zip(&base).map(|(one, base)| one - base).collect();
        let centred = largest(&change) <= 1e-4 * largest(&ones).max(f32::MIN_POSITIVE);
        let share = 1.0 / width as f64;
        // One coordinate so large that the norm's denominator is 1.
        let size = 1.0 / (share * if centred { 1.0 - share } else { 1.0 }).sqrt();
        let mut directions: BTreeMap<u32, Vec<f64>> =
            wanted.iter().map(|token| (*token, vec![0.0; width])).collect();
        for first in (0..width).step_by(ROWS_AT_ONCE) {
            let count = ROWS_AT_ONCE.min(width - first);
            let mut rows = vec![0.0; count * width];
            (0..count).for_each(|row| rows[row * width + first + row] = size as f32);
            let logits = subject.unembed(&rows)?;
            for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
                let mean = mean_change(logits, &base);
                for (token, direction) in &mut directions {
                    let token = *token as usize;
                    direction[first + row] =
                        (f64::from(logits[token]) - f64::from(base[token]) - mean) / size;
                }
            }
        }
        let mean = base.iter().map(|logit| f64::from(*logit)).sum::<f64>() / vocabulary as f64;
        let bases =
            directions.keys().map(|token| (*token, f64::from(base[*token as usize]) - mean)).collect();
        Ok(Readout { directions, bases })
    }

    /// What a vector adds to the logit of a wanted token, where the norm divides by `scale`.
    pub(super) fn adds(&self, vector: &[f32], token: u32, scale: f64) -> f64 {
        let direction = &self.directions[&token];
        vector.iter().zip(direction).map(|(x, w)| f64::from(*x) * w).sum::<f64>() / scale
    }

    /// The logit of a wanted token without any vector.
    pub(super) fn base(&self, token: u32) -> f64 {
        self.bases[&token]
    }
}

fn mean_change(logits: &[f32], base: &[f32]) -> f64 {
    let changes = logits.iter().zip(base).map(|(logit, base)| f64::from(*logit) - f64::from(*base));
    changes.sum::<f64>() / logits.len() as f64
}
