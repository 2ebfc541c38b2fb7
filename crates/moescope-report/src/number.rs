//! Numbers as a person reads them: few digits, a true minus sign, spaces between thousands.

/// What stands for a number that is missing.
///
/// An en dash, not an empty cell, which would look like an oversight, and not zero, which would be a result.
pub(crate) const MISSING: &str = "–";

/// About `digits` significant digits; very large and very small numbers as a power of ten.
///
/// Plain digits from 0.0001 to 10⁷, at most eight of them after the point. NaN is [`MISSING`].
pub(crate) fn significant(x: f64, digits: i32) -> String {
    if !x.is_finite() {
        return special(x);
    }
    let exponent = exponent(x);
    if x != 0.0 && !(-4..7).contains(&exponent) {
        return power_of_ten(x, digits);
    }
    fixed(x, (digits - 1 - exponent).clamp(0, 8))
}

/// An estimate with its interval: as many decimals as the interval gives meaning to.
///
/// Two digits of the half-width are kept. Without an interval the estimate has four significant digits.
///
/// Gives the estimate and, where at least one end is finite, `[low, high]`. All three have equal decimals, so that
/// the text claims no more digits of the estimate than its interval holds up; where an end is infinite, the interval
/// has no width, or a number is 10⁷ or more, each has three significant digits instead.
pub(crate) fn with_interval(x: f64, low: f64, high: f64) -> (String, Option<String>) {
    if !low.is_finite() && !high.is_finite() {
        return (significant(x, 4), None);
    }
    let half_width = (high - low) / 2.0;
    let large = [x, low, high].iter().any(|v| v.is_finite() && v.abs() >= 1e7);
    if large || !half_width.is_finite() || half_width < 1e-7 {
        let interval = format!("[{}, {}]", significant(low, 3), significant(high, 3));
        return (significant(x, 3), Some(interval));
    }
    // A little more than the half-width, so that 0.0099… counts as 0.01.
    let decimals = (1 - exponent(1.04 * half_width)).clamp(0, 8);
    let text = |v: f64| if v.is_finite() { fixed(v, decimals) } else { special(v) };
    (text(x), Some(format!("[{}, {}]", text(low), text(high))))
}

/// A round number such as that of an axis, without zeros at its end.
pub(crate) fn round(x: f64) -> String {
    if x == 0.0 {
        return "0".to_owned();
    }
    let text = significant(x, 6);
    if text.contains('.') && !text.contains('×') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// The entries of a column with equal decimals, so that they can be compared at a glance.
///
/// The largest entry has four significant digits. A column that spans more than three powers of ten has no decimals
/// that suit all, so each entry then has four significant digits of its own.
pub(crate) fn column(entries: &[f64]) -> Vec<String> {
    let sizes = || entries.iter().map(|x| x.abs()).filter(|x| x.is_finite() && *x > 0.0);
    let (small, large) = sizes().fold((f64::MAX, 0.0_f64), |(s, l), x| (s.min(x), l.max(x)));
    if small < large / 1e3 || !(1e-4..1e7).contains(&large) {
        return entries.iter().map(|x| significant(*x, 4)).collect();
    }
    let most = (3 - exponent(large)).clamp(0, 8);
    let needed = |x: &f64| fixed(*x, most).split_once('.').map_or(0, |(_, f)| f.trim_end_matches('0').len());
    let finite = || entries.iter().filter(|x| x.is_finite());
    let decimals = finite().map(needed).max().unwrap_or(0) as i32;
    entries.iter().map(|x| if x.is_finite() { fixed(*x, decimals) } else { special(*x) }).collect()
}

/// A probability: two digits, and no more than that below a thousandth.
pub(crate) fn probability(p: f64) -> String {
    match p {
        p if p.is_nan() => MISSING.to_owned(),
        p if p < 0.001 => "< 0.001".to_owned(),
        p if p > 0.1 => fixed(p, 2),
        p => significant(p, 2),
    }
}

/// A whole number with narrow spaces between thousands.
pub(crate) fn integer(x: i64) -> String {
    let sign = if x < 0 { "−" } else { "" };
    format!("{sign}{}", grouped(&x.unsigned_abs().to_string()))
}

/// The word for a number that is not finite: an infinite end of an interval is a result, NaN is none.
fn special(x: f64) -> String {
    match x {
        f64::INFINITY => "∞".to_owned(),
        f64::NEG_INFINITY => "−∞".to_owned(),
        _ => MISSING.to_owned(),
    }
}

/// Power of ten of the first digit; 0 for zero, which has none.
fn exponent(x: f64) -> i32 {
    if x == 0.0 { 0 } else { x.abs().log10().floor() as i32 }
}

/// A number with so many decimals. What rounds to zero loses its sign: `−0.00` would tell of a direction.
fn fixed(x: f64, decimals: i32) -> String {
    let text = format!("{:.*}", decimals as usize, x.abs());
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |parts| parts);
    let zero = text.bytes().all(|b| b == b'0' || b == b'.');
    let sign = if x < 0.0 && !zero { "−" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", grouped(whole))
}

/// As `1.23 × 10⁻⁷`, with raised digits, since a person reads it; files for machines have the full number.
fn power_of_ten(x: f64, digits: i32) -> String {
    let text = format!("{:.*e}", (digits - 1).max(0) as usize, x.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let raised: String = exponent.chars().map(superscript).collect();
    format!("{}{mantissa} × 10{raised}", if x < 0.0 { "−" } else { "" })
}

/// A raised digit; any other character, which is the minus of an exponent, as a raised minus.
fn superscript(digit: char) -> char {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    digit.to_digit(10).map_or('⁻', |d| RAISED[d as usize])
}

/// Four digits stay together; longer numbers are cut into threes.
fn grouped(digits: &str) -> String {
    if digits.len() < 5 {
        return digits.to_owned();
    }
    let first = digits.len() % 3;
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && i % 3 == first {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_follow_the_size_of_the_number() {
        let shown = |x| significant(x, 4);
        assert_eq!(shown(5.14159), "5.142");
        assert_eq!(shown(-0.00123456), "−0.001235");
        assert_eq!(shown(1234567.0), "1\u{202f}234\u{202f}567");
        assert_eq!(shown(1.5e-9), "1.500 × 10⁻⁹");
        assert_eq!(shown(-2e30), "−2.000 × 10³⁰");
        assert_eq!(shown(0.0), "0.000");
        assert_eq!(shown(f64::NAN), "–");
        assert_eq!(shown(f64::NEG_INFINITY), "−∞");
    }

    #[test]
    fn the_interval_decides_the_decimals() {
        assert_eq!(with_interval(0.123456, 0.11, 0.137), ("0.123".into(), Some("[0.110, 0.137]".into())));
        assert_eq!(with_interval(1234.5, 1200.0, 1300.0), ("1234".into(), Some("[1200, 1300]".into())));
        assert_eq!(with_interval(2.0, f64::NAN, f64::NAN), ("2.000".into(), None));
        assert_eq!(with_interval(1.0, f64::NEG_INFINITY, 2.0).1.unwrap(), "[−∞, 2.00]");
        assert_eq!(with_interval(0.5, 0.5, 0.5).1.unwrap(), "[0.500, 0.500]");
    }

    #[test]
    fn a_column_has_equal_decimals_and_no_idle_zeros() {
        assert_eq!(column(&[0.21, 0.21]), ["0.21", "0.21"]);
        assert_eq!(column(&[0.07, 0.1196, f64::NAN]), ["0.0700", "0.1196", "–"]);
        assert_eq!(column(&[1e-5, 2.0]), ["1.000 × 10⁻⁵", "2.000"]);
        assert_eq!(column(&[0.0, 3.0, -12.0]), ["0", "3", "−12"]);
        assert!(column(&[]).is_empty());
    }

    #[test]
    fn round_numbers_have_no_idle_zeros() {
        assert_eq!([0.0, 0.5, -3.412, 100.0].map(round), ["0", "0.5", "−3.412", "100"]);
    }

    #[test]
    fn a_rounded_zero_has_no_sign() {
        assert_eq!(with_interval(-0.001, -0.5, 0.5).0, "0.00");
        assert_eq!(integer(-12345), "−12\u{202f}345");
        assert_eq!(integer(i64::MIN).chars().next(), Some('−'));
    }

    #[test]
    fn small_probabilities_are_bounded() {
        assert_eq!(probability(0.0), "< 0.001");
        assert_eq!(probability(0.0344), "0.034");
        assert_eq!(probability(0.5), "0.50");
        assert_eq!(probability(f64::NAN), "–");
    }
}
