use super::{Bootstrap, mean, student};

/// A 95 % interval from the estimates without each group of units in turn, with Student's t for so few groups; the units are counted alone.
///
/// For what depends on the number of rows, such as a rank or a product of components: a bootstrap draws rows twice, which moves every replicate the same
/// way. Leaving out moves them by a little alone, and only their spread counts.
///
/// - **Source:** Quenouille 1956, Tukey 1958; over groups as in Efron and Tibshirani 1993, chapter 11.
pub(crate) fn jackknife(estimate: f64, without: &[f64], units: usize) -> Bootstrap {
    let (groups, centre) = (without.len() as f64, mean(without));
    let freedom = groups - 1.0;
    let spread: f64 = without.iter().map(|value| (value - centre).powi(2)).sum();
    let standard_error = (spread * freedom / groups).sqrt();
    let reach = student::quantile(0.975, freedom) * standard_error;
    let (low, high) = (estimate - reach, estimate + reach);
    Bootstrap { estimate, low, high, standard_error, units, replicates: without.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_by_hand() {
        // Deviations of one: the spread is four times three quarters, and t of three degrees of freedom is 3.182.
        let found = jackknife(5.0, &[4.0, 6.0, 4.0, 6.0], 9);
        let reach = 3.182_446 * 3f64.sqrt();
        assert!((found.low - (5.0 - reach)).abs() < 1e-4 && (found.high - (5.0 + reach)).abs() < 1e-4);
        assert_eq!((found.estimate, found.units), (5.0, 9));
    }
}
