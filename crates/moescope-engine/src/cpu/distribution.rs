//! Distributions over a vocabulary, read from logits: analyses ask for thousands of them for each document.
//!
//! Exponentials are single precision, which is what logits are, and come out of the same polynomial as everywhere in this engine;
//! sums are double, so that vocabularies of any size add no error of their own.

use super::vector::{exp, largest, vectorised};

/// Partial sums: two vectors of double numbers of the widest kind.
const LANES: usize = 16;

/// `ln Σ exp(x)` of one row of logits, nats.
///
/// - **Range:** at least the largest logit; not-a-number if a logit is.
///
/// ```
/// use moescope_engine::log_total;
/// assert!((log_total(&[0.0, 0.0]) - 2f64.ln()).abs() < 1e-7);
/// ```
pub fn log_total(logits: &[f32]) -> f64 {
    let most = largest_of(logits);
    f64::from(most) + sum_of_exp(logits, most).ln()
}

/// How far the distribution of one row of logits is from that of another: `Σ p (ln p - ln q)` with `p` of the first row, nats.
///
/// What is the same in both rows falls out: equal rows, and rows that differ by a constant, have the divergence 0.
///
/// - **Range:** 0 or more, infinite where the second row rules out what the first does not; not-a-number if a logit is. What is more than 87
///   nats below the largest logit of its row counts as ruled out.
/// - **Error:** about 1e-7 nats; of what is below 1e-3 nats about 1e-5 of it, where logits of both rows are of like size.
/// - **Panics:** never; of rows of unlike length the longer one is cut.
///
/// ```
/// use moescope_engine::divergence;
/// let found = divergence(&[0.0, 0.0], &[0.0, 3f32.ln()]); // (1/2, 1/2) from (1/4, 3/4)
/// assert!((found - 0.5 * (2f64).ln() - 0.5 * (2f64 / 3.0).ln()).abs() < 1e-6);
/// ```
pub fn divergence(logits: &[f32], from: &[f32]) -> f64 {
    let length = logits.len().min(from.len());
    let (logits, from) = (&logits[..length], &from[..length]);
    let (most, from_most) = (largest_of(logits), largest_of(from));
    let [total, apart] = expected_difference(logits, from, most);
    let from_total = sum_of_exp(from, from_most);
    let totals = f64::from(most) - f64::from(from_most) + total.ln() - from_total.ln();
    let mean = apart / total;
    let found = mean - totals;
    if found < SMALL {
        // With x what a logit differs by beyond the mean, `Σ p x = 0`, and the divergence is `ln Σ p exp(-x)`: no large numbers are taken from each other.
        let small = (expected_excess(logits, from, most, mean) / total).ln_1p();
        // Logits beyond what single precision tells apart leave nothing to add up.
        if small.is_finite() {
            return small;
        }
    }
    // Rounding must not make a divergence negative.
    if found < 0.0 { 0.0 } else { found }
}

/// Divergences in which the rounding of large sums, about 1e-7 nats, would show in the first digits.
const SMALL: f64 = 1e-3;

/// The distribution of one row of logits, in their place.
pub fn to_probabilities(logits: &mut [f32]) {
    let most = largest_of(logits);
    let total = sum_of_exp(logits, most) as f32;
    shares(logits, most, total);
}

vectorised! {
    fn largest_of<'a>(x: &'a [f32]) -> f32 {
        largest(x)
    }
}

vectorised! {
    /// `Σ exp(x - shift)`.
    fn sum_of_exp<'a>(x: &'a [f32], shift: f32) -> f64 {
        let mut sums = [0.0f64; LANES];
        let (pieces, rest) = x.as_chunks::<LANES>();
        for piece in pieces {
            for i in 0..LANES {
                sums[i] += f64::from(exp(piece[i] - shift));
            }
        }
        let mut sum = added_up(sums);
        for x in rest {
            sum += f64::from(exp(x - shift));
        }
        sum
    }
}

vectorised! {
    /// `Σ e` and `Σ e (a - b)` with `e = exp(a - shift)`; where `e` is zero the difference does not count, whatever it is.
    fn expected_difference<'a>(a: &'a [f32], b: &'a [f32], shift: f32) -> [f64; 2] {
        let (mut totals, mut sums) = ([0.0f64; LANES], [0.0f64; LANES]);
        let ((a_pieces, a_rest), (b_pieces, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a_pieces.iter().zip(b_pieces) {
            for i in 0..LANES {
                let weight = exp(a[i] - shift);
                let apart = if weight == 0.0 { 0.0 } else { a[i] - b[i] };
                totals[i] += f64::from(weight);
                sums[i] += f64::from(weight) * f64::from(apart);
            }
        }
        let (mut total, mut sum) = (added_up(totals), added_up(sums));
        for (a, b) in a_rest.iter().zip(b_rest) {
            let weight = exp(a - shift);
            let apart = if weight == 0.0 { 0.0 } else { a - b };
            total += f64::from(weight);
            sum += f64::from(weight) * f64::from(apart);
        }
        [total, sum]
    }
}

vectorised! {
    /// `Σ e (exp(-x) - 1 + x)` with `e = exp(a - shift)` and `x = a - b - mean`.
    fn expected_excess<'a>(a: &'a [f32], b: &'a [f32], shift: f32, mean: f64) -> f64 {
        // In two parts, as one single number would move all `x` by what it is rounded by.
        let mean_part = mean as f32;
        let mean = [mean_part, (mean - f64::from(mean_part)) as f32];
        let mut sums = [0.0f64; LANES];
        let ((a_pieces, a_rest), (b_pieces, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a_pieces.iter().zip(b_pieces) {
            for i in 0..LANES {
                sums[i] += weighted_excess(a[i], b[i], shift, mean);
            }
        }
        let mut sum = added_up(sums);
        for (a, b) in a_rest.iter().zip(b_rest) {
            sum += weighted_excess(*a, *b, shift, mean);
        }
        sum
    }
}

/// One term of [`expected_excess`]. What the first row all but rules out counts by what the second one gives it: `e exp(-x) = exp(b - shift + mean)`.
#[inline(always)]
fn weighted_excess(a: f32, b: f32, shift: f32, mean: [f32; 2]) -> f64 {
    let weight = exp(a - shift);
    let over = b - a + mean[0] + mean[1];
    let given = f64::from(exp(b - shift + mean[0]));
    if weight == 0.0 {
        given
    } else if over < FAR {
        f64::from(weight) * f64::from(excess(over))
    } else {
        given - f64::from(weight) * (1.0 + f64::from(over))
    }
}

/// Where `exp` of a difference is so large that only its product with the weight, not each of them, is sure to be a number.
const FAR: f32 = 8.0;

/// `exp(x) - 1 - x`, near zero by its series.
#[inline(always)]
fn excess(x: f32) -> f32 {
    let series = x.mul_add(1.0 / 5040.0, 1.0 / 720.0);
    let series = x.mul_add(series, 1.0 / 120.0);
    let series = x.mul_add(series, 1.0 / 24.0);
    let series = x.mul_add(series, 1.0 / 6.0);
    let series = x.mul_add(series, 0.5);
    if x.abs() < 0.5 { x * x * series } else { exp(x) - 1.0 - x }
}

vectorised! {
    /// `x = exp(x - shift) / total`.
    fn shares<'a>(x: &'a mut [f32], shift: f32, total: f32) {
        for x in x {
            *x = exp(*x - shift) / total;
        }
    }
}

/// Adds up lanes, halving them each time.
#[inline(always)]
fn added_up(mut sums: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same in double precision, one entry after the other.
    fn slow(logits: &[f32]) -> Vec<f64> {
        let most = logits.iter().fold(f64::NEG_INFINITY, |most, x| most.max(f64::from(*x)));
        let total: f64 = logits.iter().map(|x| (f64::from(*x) - most).exp()).sum();
        logits.iter().map(|x| f64::from(*x) - most - total.ln()).collect()
    }

    proptest! {
        #[test]
        fn as_the_slow_way_says(rows in prop::collection::vec((-30.0f32..30.0, -30.0f32..30.0), 1..200)) {
            let (a, b): (Vec<f32>, Vec<f32>) = rows.into_iter().unzip();
            let (p, q) = (slow(&a), slow(&b));
            prop_assert!((log_total(&a) - (f64::from(a[0]) - p[0])).abs() < 2e-6);
            let wanted: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
            prop_assert!((divergence(&a, &b) - wanted).abs() < 1e-5 * (1.0 + wanted), "{wanted}");
            prop_assert_eq!(divergence(&a, &a), 0.0);
            let mut shares = a;
            to_probabilities(&mut shares);
            prop_assert!(shares.iter().zip(&p).all(|(share, p)| (f64::from(*share) - p.exp()).abs() < 1e-6));
        }
    }

    proptest! {
        /// The change of a logit by so little that large sums would hide it, wherever the logits lie.
        #[test]
        fn small_divergences_are_right_in_their_first_digits(
            rows in prop::collection::vec((-4.0f32..4.0, -1.0f32..1.0), 2..200), magnitude in -5.0f32..0.0, offset in -20.0f32..20.0,
        ) {
            let size = 10f32.powf(magnitude);
            let a: Vec<f32> = rows.iter().map(|(x, _)| x + offset).collect();
            let b: Vec<f32> = rows.iter().map(|(x, y)| x + offset + size * y).collect();
            // The same sum in double precision, without cancellation.
            let p: Vec<f64> = slow(&a).iter().map(|p| p.exp()).collect();
            let apart: Vec<f64> = a.iter().zip(&b).map(|(a, b)| f64::from(*b) - f64::from(*a)).collect();
            let mean: f64 = p.iter().zip(&apart).map(|(p, x)| p * x).sum();
            let series = |x: f64| x * x * (0.5 + x / 6.0 + x * x / 24.0 + x.powi(3) / 120.0);
            let excess = |x: f64| if x.abs() < 1e-2 { series(x) } else { x.exp_m1() - x };
            let wanted = p.iter().zip(&apart).map(|(p, x)| p * excess(x - mean)).sum::<f64>().ln_1p();
            let found = divergence(&a, &b);
            prop_assert!((found - wanted).abs() <= 1e-4 * wanted + 1e-13, "{found} {wanted}");
        }
    }

    #[test]
    fn excess_is_right_on_both_sides_of_its_seam() {
        for x in [-3.0f32, -0.51, -0.49, -1e-3, 0.0, 1e-4, 0.3, 0.499, 0.501, 2.0] {
            let wanted = f64::from(x).exp_m1() - f64::from(x);
            assert!((f64::from(excess(x)) - wanted).abs() <= 3e-6 * wanted + 1e-16, "{x}");
        }
    }

    /// Two tokens, where the first row gives all but nothing to the second: `ln` of what the other row leaves to the first, whatever is left of
    /// its weight in single precision.
    #[test]
    fn what_only_the_second_row_allows_counts_in_small_divergences_too() {
        for behind in [-200.0f32, -100.0, -86.0, -60.0, -30.0] {
            for given in [3e-7f32, 1e-6, 1e-5, 9e-4] {
                let found = divergence(&[0.0, behind], &[0.0, given.ln()]);
                let wanted = f64::from(given.ln()).exp().ln_1p();
                assert!((found - wanted).abs() <= 1e-4 * wanted, "{behind} {given}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn the_longer_row_is_cut() {
        let (short, long) =
            (vec![0.25f32; 17], (0..33).map(|x| if x < 17 { 0.25 } else { 9.0 }).collect::<Vec<_>>());
        assert_eq!((divergence(&short, &long), divergence(&long, &short)), (0.0, 0.0));
    }

    #[test]
    fn what_cannot_be_adds_nothing_and_what_is_no_number_is_told() {
        let never = f32::NEG_INFINITY;
        assert_eq!(divergence(&[0.0, never], &[0.0, never]), 0.0);
        assert_eq!(divergence(&[0.0, 0.0], &[0.0, never]), f64::INFINITY);
        assert!((divergence(&[0.0, never], &[0.0, 0.0]) - 2f64.ln()).abs() < 1e-7);
        assert_eq!(divergence(&[1.0, 2.0], &[8.0, 9.0]), 0.0, "a shift of all changes nothing");
        assert!(log_total(&[0.0, f32::NAN]).is_nan() && divergence(&[0.0, f32::NAN], &[0.0, 1.0]).is_nan());
        assert_eq!(log_total(&[1e30, 0.0]), f64::from(1e30f32));
    }
}
