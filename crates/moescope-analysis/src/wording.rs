//! Words for numbers: how many there are, which way something moves, and whether it does.
//!
//! Titles state findings, so what an interval leaves open must be left open in words too. An interval that holds 0 is told as that; it is
//! never told as an absence.

use std::fmt::Display;

use crate::statistics::Bootstrap;

/// A number of things, in the singular where it is one: `1 layer`, `3 layers`.
///
/// ```
/// use moescope_analysis::wording::counted;
///
/// assert_eq!(counted(1_usize, "batch", "batches"), "1 batch");
/// assert_eq!(counted(0_u64, "batch", "batches"), "0 batches");
/// ```
pub fn counted(count: impl Display + PartialEq + From<u8>, one: &str, many: &str) -> String {
    let named = if count == 1.into() { one } else { many };
    format!("{count} {named}")
}

/// A change in words that fit its sign, three decimals; what rounds to nothing has no way.
pub(crate) fn moves(change: f64) -> String {
    match (1000.0 * change).round() {
        0.0 => "changes by less than 0.001".into(),
        way if way < 0.0 => format!("falls by {:.3}", -change),
        _ => format!("rises by {change:.3}"),
    }
}

/// A change with its sign and three decimals; what rounds to nothing has the sign of nothing.
pub(crate) fn three(change: f64) -> String {
    // The sum turns a negative zero into a plain one.
    format!("{:+.3}", (1000.0 * change).round() / 1000.0 + 0.0)
}

/// A number with sign and interval; where the interval holds 0 or there is none, it says so.
pub(crate) fn signed(found: &Bootstrap) -> String {
    let [estimate, low, high] = [found.estimate, found.low, found.high].map(three);
    match (found.low.is_nan(), away_from_0(found)) {
        (true, _) => format!("{estimate} (too few documents for an interval)"),
        (_, true) => format!("{estimate} ({low} to {high})"),
        (_, false) => format!("{estimate} ({low} to {high}, not told from 0)"),
    }
}

/// Whether an interval lies on one side of 0; false where there is none.
pub(crate) fn away_from_0(found: &Bootstrap) -> bool {
    found.low > 0.0 || found.high < 0.0
}

/// Whether the interval of the largest lies above all of the next; stricter than a test of their difference.
pub(crate) fn stands_out(largest: &Bootstrap, next: Option<&Bootstrap>) -> bool {
    next.is_none_or(|next| largest.low > next.high)
}

/// Names in a row: `a`, `a and b`, `a, b and c`.
pub(crate) fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).into(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
pub(crate) fn found(estimate: f64, low: f64, high: f64) -> Bootstrap {
    Bootstrap { estimate, low, high, standard_error: (high - low) / 4.0, units: 20, replicates: 100 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_and_intervals_become_words() {
        assert_eq!(moves(-0.004), "falls by 0.004");
        assert_eq!(moves(0.25), "rises by 0.250");
        assert_eq!(moves(-0.0001), "changes by less than 0.001");
        assert_eq!(signed(&found(0.2, 0.1, 0.3)), "+0.200 (+0.100 to +0.300)");
        assert_eq!(signed(&found(0.2, -0.1, 0.5)), "+0.200 (-0.100 to +0.500, not told from 0)");
        assert_eq!(three(-0.0001), "+0.000");
        assert!(signed(&found(0.2, f64::NAN, f64::NAN)).contains("too few documents"));
    }

    #[test]
    fn what_overlaps_does_not_stand_out() {
        let largest = found(0.6, 0.5, 0.7);
        assert!(stands_out(&largest, Some(&found(0.3, 0.2, 0.4))) && stands_out(&largest, None));
        assert!(!stands_out(&largest, Some(&found(0.55, 0.4, 0.65))));
        assert!(!stands_out(&found(0.6, f64::NAN, f64::NAN), Some(&found(0.1, 0.0, 0.2))));
    }

    #[test]
    fn names_stand_in_a_row() {
        assert_eq!((listed(&["a"]), listed(&["a", "b", "c"])), ("a".into(), "a, b and c".into()));
    }
}
