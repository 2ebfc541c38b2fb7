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
/// - **Range:** 0 or more, infinite where the second row rules out what the first does not; not-a-number if a logit is.
/// - **Panics:** never; of rows of unlike length the longer one is cut.
///
/// ```
/// use moescope_engine::divergence;
/// let found = divergence(&[0.0, 0.0], &[0.0, 3f32.ln()]); // (1/2, 1/2) from (1/4, 3/4)
/// assert!((found - 0.5 * (2f64).ln() - 0.5 * (2f64 / 3.0).ln()).abs() < 1e-6);
/// ```
pub fn divergence(logits: &[f32], from: &[f32]) -> f64 {
    let (most, from_most) = (largest_of(logits), largest_of(from));
    let [total, apart] = expected_difference(logits, from, most);
    let from_total = sum_of_exp(from, from_most);
    let totals = f64::from(most) - f64::from(from_most) + total.ln() - from_total.ln();
    let found = apart / total - totals;
    // Rounding must not make a divergence negative.
    if found < 0.0 { 0.0 } else { found }
}

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
