use moescope_base::Column;

use crate::number;

/// What an axis shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantity {
    pub(crate) name: String,
    pub(crate) unit: String,
}

/// One estimate with all that its row says about it; NaN where the table says nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) null: f64,
    pub(crate) p: f64,
    /// Observations with what they are of, such as `5 seeds`.
    pub(crate) count: Option<String>,
}

impl Quantity {
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
