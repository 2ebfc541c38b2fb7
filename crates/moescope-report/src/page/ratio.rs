//! Logarithms to base two as the ratios that they stand for.

use crate::number;

/// A number of doublings with its interval as a ratio in words, such as `= 1.68 × d_ff [1.47, 1.92]`; none for any
/// other unit.
///
/// Three doublings are a factor of eight, but few readers see in −5.01 a factor of 0.031. What the ratio is of stands
/// there where `contrast` names it, as in `log2(width / d_ff)`. Estimate and ends are each raised to a power, so the
/// estimate is the geometric mean over seeds.
pub(super) fn in_words(unit: &str, contrast: &str, (x, low, high): (f64, f64, f64)) -> Option<String> {
    let logarithm = unit == "doublings" || unit.split_whitespace().next() == Some("log2");
    if !logarithm || !x.is_finite() {
        return None;
    }
    let ends = [low, high].map(|end| number::significant(end.exp2(), 3));
    let interval =
        if low.is_nan() || high.is_nan() { String::new() } else { format!(" [{}]", ends.join(", ")) };
    let of = base(contrast).map_or(String::new(), |base| format!(" {base}"));
    Some(format!("= {} ×{of}{interval}", number::significant(x.exp2(), 3)))
}

/// The second of the two in `log2(first / second)`.
fn base(contrast: &str) -> Option<&str> {
    let (_, inner) = contrast.split_once("log2(")?;
    let (inner, _) = inner.rsplit_once(')')?;
    inner.split_once(" / ").map(|(_, base)| base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doublings_become_factors_of_what_they_are_compared_with() {
        let words = in_words("doublings", "log2(effective width of moe-g4 / d_ff)", (1.0, 0.0, 2.0));
        assert_eq!(words.unwrap(), "= 2.00 × d_ff [1.00, 4.00]");
        let words = in_words("doublings", "log2 of paths − of shuffled paths", (-4.0, f64::NAN, f64::NAN));
        assert_eq!(words.unwrap(), "= 0.0625 ×");
        assert!(in_words("log2 of the ratio", "", (0.5, 0.5, 0.5)).is_some());
        assert_eq!(in_words("nats", "", (1.0, 0.0, 2.0)), None);
        assert_eq!(in_words("doublings", "", (f64::NAN, 0.0, 2.0)), None);
    }
}
