//! One estimate with its companions, and what it is an estimate of.

use moescope_base::{Column, ColumnData};

use crate::number;

/// What an axis shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantity {
    /// Name of the column, with spaces for underscores.
    pub(crate) name: String,
    /// Unit; empty for a number without one.
    pub(crate) unit: String,
    /// Least and greatest value that there can be; none where the column does not declare it.
    pub(crate) range: Option<(f64, f64)>,
}

/// One estimate with all that its row says about it; NaN where the table says nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// Estimate, in the unit of its [`Quantity`], as are both ends and the null.
    pub(crate) value: f64,
    /// Lower end of the interval; the table's method says of which kind and level.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
    /// What the estimate would be if there were no effect.
    pub(crate) null: f64,
    /// Probability of so extreme an estimate under the null, in `[0, 1]`; the column's meaning says whether it is
    /// adjusted.
    pub(crate) p: f64,
    /// Observations with what they are of, such as `5 seeds`.
    pub(crate) count: Option<String>,
}

impl Quantity {
    /// The quantity that a column holds.
    pub(crate) fn of(column: &Column) -> Quantity {
        // A column called `value` says only in its meaning what it holds.
        let telling =
            column.name != "value" || column.meaning.is_empty() || column.meaning.len() > LONGEST_NAME;
        let name = if telling { column.name.replace('_', " ") } else { column.meaning.clone() };
        Quantity { name, unit: column.unit.clone(), range: range(column) }
    }

    /// Name with unit, as it stands at an axis.
    pub(crate) fn title(&self) -> String {
        if self.unit.is_empty() || self.unit == self.name {
            return self.name.clone();
        }
        format!("{} ({})", self.name, self.unit)
    }
}

/// Longest meaning that stands at an axis in the place of a name, in bytes.
const LONGEST_NAME: usize = 60;

/// From 0 to 1 for a column that is a share by its unit or its name and holds nothing else.
///
/// A difference of shares has their unit too; one outside of the range gives it away, and a plot that compares with
/// a reference knows that it shows differences. A share of something may be corrected for chance and fall below 0, so
/// it declares no range.
fn range(column: &Column) -> Option<(f64, f64)> {
    let ColumnData::Real(values) = &column.data else { return None };
    let declared = column.unit == "share" || column.name == "share";
    let holds = values.iter().filter(|v| v.is_finite()).all(|v| (0.0..=1.0).contains(v));
    (declared && holds).then_some((0.0, 1.0))
}

impl Reading {
    /// The reading as it is drawn: its interval ends where the range of the quantity ends.
    ///
    /// A t interval knows no range; drawn beyond it, it would show values that cannot be. Words and tables keep the
    /// interval as it was computed.
    pub(crate) fn drawn(self, quantity: &Quantity) -> Reading {
        let Some((least, most)) = quantity.range else { return self };
        // `clamp` keeps NaN, so a missing end stays missing.
        Reading { low: self.low.clamp(least, most), high: self.high.clamp(least, most), ..self }
    }

    /// Whether [`Reading::drawn`] leaves out a part of the interval.
    pub(crate) fn is_cut(&self, quantity: &Quantity) -> bool {
        quantity.range.is_some_and(|(least, most)| self.low < least || self.high > most)
    }

    /// Whether an interval can be drawn.
    pub(crate) fn has_interval(&self) -> bool {
        self.low.is_finite() && self.high.is_finite()
    }

    /// All finite numbers that a picture of this reading must hold.
    pub(crate) fn extent(&self) -> impl Iterator<Item = f64> {
        [self.value, self.low, self.high, self.null].into_iter().filter(|x| x.is_finite())
    }

    /// The reading in words, one line for each number.
    pub(crate) fn lines(&self, quantity: &Quantity) -> Vec<String> {
        let (value, interval) = number::with_interval(self.value, self.low, self.high);
        let interval = interval.map_or(String::new(), |i| format!(" {i}"));
        let mut lines = vec![format!("{}: {value}{interval} {}", quantity.name, quantity.unit)];
        if !self.null.is_nan() {
            lines.push(format!("under the null: {}", number::significant(self.null, 4)));
        }
        lines.extend(self.count.iter().map(|count| format!("n = {count}")));
        if !self.p.is_nan() {
            lines.push(format!("p = {}", number::probability(self.p)).replace("= <", "<"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(values: Vec<f64>) -> Quantity {
        Quantity::of(&Column::estimate("accuracy", "share", "right answers", values))
    }

    fn reading(low: f64, high: f64) -> Reading {
        Reading { value: 0.9, low, high, null: f64::NAN, p: f64::NAN, count: None }
    }

    #[test]
    fn the_interval_of_a_share_is_drawn_no_further_than_a_share_goes() {
        let quantity = share(vec![0.9, f64::NAN]);
        let wide = reading(-0.1, 1.2);
        assert!(wide.is_cut(&quantity));
        assert!(wide.lines(&quantity)[0].contains("[−0.10, 1.20]"), "words keep the interval");
        let drawn = wide.drawn(&quantity);
        assert_eq!((drawn.low, drawn.high), (0.0, 1.0));
        assert!(reading(f64::NAN, 1.2).drawn(&quantity).low.is_nan());
    }

    #[test]
    fn a_difference_of_shares_and_another_unit_have_no_range() {
        assert_eq!(share(vec![0.2, -0.1]).range, None);
        assert_eq!(Quantity::of(&Column::estimate("loss", "nats", "loss", vec![0.5])).range, None);
        assert!(!reading(-0.1, 1.2).is_cut(&share(vec![-0.1])));
    }

    #[test]
    fn a_column_called_value_is_named_by_its_meaning() {
        let column = Column::estimate("value", "nats/token", "validation loss", vec![1.0]);
        assert_eq!(Quantity::of(&column).title(), "validation loss (nats/token)");
    }
}
