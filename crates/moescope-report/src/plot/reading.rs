//! One estimate with its companions, and what it is an estimate of.

use moescope_base::Column;

use crate::number;

/// What an axis shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantity {
    /// Name of the column, with spaces for underscores.
    pub(crate) name: String,
    /// Unit; empty for a number without one.
    pub(crate) unit: String,
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
        Quantity { name: column.name.replace('_', " "), unit: column.unit.clone() }
    }

    /// Name with unit, as it stands at an axis.
    pub(crate) fn title(&self) -> String {
        if self.unit.is_empty() || self.unit == self.name {
            return self.name.clone();
        }
        format!("{} ({})", self.name, self.unit)
    }
}

impl Reading {
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
