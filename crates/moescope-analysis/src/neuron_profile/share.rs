//! A mean over tokens with an interval over documents.

use std::collections::BTreeMap;

use crate::AnalysisError;
use crate::statistics::{Bootstrap, Resampling, bootstrap};

/// Sums of a number over the tokens of each document, with how many tokens these are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parts {
    /// In the order of the documents.
    of_document: Vec<(f64, f64)>,
}

impl Parts {
    /// Of one number for each token.
    pub(crate) fn new(documents: &[u32], numbers: impl Iterator<Item = f64>) -> Parts {
        let mut parts = BTreeMap::<u32, (f64, f64)>::new();
        for (document, number) in documents.iter().zip(numbers) {
            let part = parts.entry(*document).or_default();
            *part = (part.0 + number, part.1 + 1.0);
        }
        Parts { of_document: parts.into_values().collect() }
    }

    /// Sum and number of tokens of each document.
    pub(crate) fn each(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.of_document.iter().copied()
    }

    /// Mean over all tokens; NaN without any.
    pub(crate) fn mean(&self) -> f64 {
        let (sum, count) = self.each().fold((0.0, 0.0), |all, part| (all.0 + part.0, all.1 + part.1));
        sum / count
    }

    /// The mean with its interval; documents are resampled. Where there are too few documents for an interval its ends are NaN.
    ///
    /// # Errors
    /// As [`bootstrap`], but for too few documents.
    pub(crate) fn interval(&self, resampling: Resampling) -> Result<Bootstrap, AnalysisError> {
        if self.of_document.len() < 2 {
            return Ok(Bootstrap::without_interval(self.mean(), self.of_document.len()));
        }
        let mean = |drawn: &[usize]| {
            let parts = drawn.iter().map(|document| self.of_document[*document]);
            let (sum, count) = parts.fold((0.0, 0.0), |all, part| (all.0 + part.0, all.1 + part.1));
            sum / count
        };
        bootstrap(self.of_document.len(), mean, resampling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_model::resampling;

    #[test]
    fn a_mean_over_tokens_by_hand() {
        let parts = Parts::new(&[4, 4, 2, 4], [1.0, 3.0, 6.0, 2.0].into_iter());
        assert_eq!(parts.each().collect::<Vec<_>>(), [(6.0, 1.0), (6.0, 3.0)]);
        assert_eq!(parts.mean(), 3.0);
        // Two documents are too few for an interval.
        let found = parts.interval(resampling(1)).unwrap();
        assert!(found.estimate == 3.0 && found.low.is_nan() && found.units == 2);
        // Four of one token each, of which three agree: replicates are 6 and more, of four times the fourth 10.
        let parts = Parts::new(&[1, 2, 3, 4], [6.0, 6.0, 6.0, 10.0].into_iter());
        let found = parts.interval(resampling(1)).unwrap();
        assert_eq!((found.estimate, found.low, found.units), (7.0, 6.0, 4));
        assert!((8.0..=10.0).contains(&found.high), "{found:?}");
        let one = Parts::new(&[7, 7], [1.0, 0.0].into_iter()).interval(resampling(1)).unwrap();
        assert!(one.estimate == 0.5 && one.low.is_nan());
        assert!(Parts::new(&[], std::iter::empty()).mean().is_nan());
    }
}
