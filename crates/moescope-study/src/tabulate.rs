//! Tables and numbers as the answers show them.

use moescope_analysis::statistics;
use moescope_base::{Column, Table};

use crate::StudyError;
use crate::claim::Claim;

/// Rows of an estimate over seeds: mean, 95 % t-interval, number of seeds. One entry for each row in every list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Estimates {
    mean: Vec<f64>,
    low: Vec<f64>,
    high: Vec<f64>,
    seeds: Vec<i64>,
}

impl Estimates {
    /// Adds a row from one value for each seed. Values that are not finite are left out and not counted; with one
    /// value left there is a mean without interval, with none a row of NaN, which tables show as empty.
    pub(crate) fn push(&mut self, values: &[f64]) -> Result<(), StudyError> {
        let known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        let (mean, low, high) = if known.len() < 2 {
            (known.first().copied().unwrap_or(f64::NAN), f64::NAN, f64::NAN)
        } else {
            let summary = statistics::one_sample(&known)?;
            (summary.mean, summary.low, summary.high)
        };
        self.mean.push(mean);
        self.low.push(low);
        self.high.push(high);
        self.seeds.push(known.len() as i64);
        Ok(())
    }

    /// The rows of `rows[row][seed]`.
    pub(crate) fn of(rows: &[Vec<f64>]) -> Result<Estimates, StudyError> {
        let mut estimates = Estimates::default();
        for row in rows {
            estimates.push(row)?;
        }
        Ok(estimates)
    }

    /// Four columns: `name`, the two ends of its interval, and its number of seeds. A number never stands in a table
    /// without the last three.
    pub(crate) fn columns(self, name: &str, unit: &str, meaning: &str) -> Vec<Column> {
        let [low, high] = Column::interval(name, unit, "95 % t-interval over seeds", self.low, self.high);
        vec![
            Column::estimate(name, unit, meaning, self.mean),
            low,
            high,
            Column::observations(name, "seeds", self.seeds),
        ]
    }
}

/// Claims in one unit as a table, for the forest plot and for download. Claims in different units belong in different
/// tables, since one axis cannot carry both.
pub(crate) fn claims_table(
    name: &str,
    title: &str,
    unit: &str,
    claims: &[Claim],
) -> Result<Table, StudyError> {
    let of = |pick: fn(&Claim) -> String| claims.iter().map(pick).collect::<Vec<_>>();
    let number = |pick: fn(&Claim) -> f64| claims.iter().map(pick).collect::<Vec<_>>();
    let [low, high] = Column::interval(
        "estimate",
        unit,
        "95 % t-interval over seeds",
        number(|c| c.evidence.ci_low),
        number(|c| c.evidence.ci_high),
    );
    let columns = vec![
        Column::key("contrast", "what is compared", of(|c| c.evidence.contrast.clone())),
        Column::estimate("estimate", unit, "mean over seeds", number(|c| c.evidence.estimate)),
        low,
        high,
        Column::observations("estimate", "seeds", claims.iter().map(|c| c.evidence.n_seeds as i64).collect()),
        Column::p_value(
            "estimate",
            "Holm-corrected within its group: primary or secondary claims of the question, by kind of test",
            number(|c| c.evidence.p_holm.unwrap_or(f64::NAN)),
        ),
        Column::text(
            "decision",
            "above, below, same (within the margin) or open",
            of(|c| format!("{:?}", c.decision).to_lowercase()),
        ),
    ];
    let method = "Each row: one value per seed, paired by seed; t-test against zero, Holm within the question's primary and within its secondary claims, each kind of test on its own; where a margin \
                  was fixed in advance, two one-sided tests for equivalence.";
    Ok(Table::new(name, title, method, columns)?)
}

/// A number with three significant digits, for sentences.
///
/// With a true minus sign; at most six decimals, so that what is next to nothing reads as 0.
pub(crate) fn digits(value: f64) -> String {
    if !value.is_finite() {
        return "unknown".into();
    }
    if value == 0.0 {
        return "0".into();
    }
    let decimals = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.decimals$}").replace('-', "−")
}

/// A large count as people say it: `3.4 million`. Two digits are as much as an estimate of such a count bears.
pub(crate) fn count_in_words(count: f64) -> String {
    let scales = [(1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e4, "thousand")];
    match scales.into_iter().find(|(scale, _)| count >= *scale) {
        Some((_, name)) if count >= 1e15 => format!("{:.1e} {name}", count / 1e12),
        Some((1e4, name)) => format!("{:.0} {name}", count / 1e3),
        Some((scale, name)) => format!("{:.1} {name}", count / scale),
        None => format!("{count:.0}"),
    }
}

/// A mean with its interval, for sentences.
///
/// For instance `−0.0412 nats [−0.0520, −0.0304]`; a missing number reads `unknown`.
pub(crate) fn with_interval(claim: &Claim) -> String {
    let e = &claim.evidence;
    let unit = if e.unit.is_empty() { String::new() } else { format!(" {}", e.unit) };
    format!("{}{unit} [{}, {}]", digits(e.estimate), digits(e.ci_low), digits(e.ci_high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_what_can_be_read() {
        assert_eq!(digits(1234.5), "1234");
        assert_eq!(digits(0.012345), "0.0123");
        assert_eq!(digits(-1.0), "−1.00");
        assert_eq!(digits(f64::NAN), "unknown");
    }

    #[test]
    fn counts_are_said_as_people_say_them() {
        assert_eq!(count_in_words(4542.3), "4542");
        assert_eq!(count_in_words(45_420.0), "45 thousand");
        assert_eq!(count_in_words(3.36e6), "3.4 million");
        assert_eq!(count_in_words(2.0e13), "20.0 trillion");
        assert_eq!(count_in_words(2.0e20), "2.0e8 trillion");
    }

    #[test]
    fn an_estimate_from_one_seed_has_no_interval() {
        let mut estimates = Estimates::default();
        estimates.push(&[1.0, f64::NAN]).unwrap();
        assert_eq!(estimates.mean, [1.0]);
        assert!(estimates.low[0].is_nan());
    }
}
