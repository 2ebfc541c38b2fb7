//! Axes of still pictures.

use super::canvas::{Anchor, Canvas};
use super::legend::{LETTER, in_two_lines};
use crate::number;

/// Maps numbers to positions on one axis.
///
/// Linear from `low..high` in the unit of the data to `from..to` in the picture; `from > to` for an axis that rises.
pub(super) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
    /// Positions are logarithms; the labels are powers of two.
    powers: bool,
}

impl Scale {
    /// An axis that holds all values, from position `from` to position `to`, with round ends.
    pub(super) fn over(values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Scale {
        let (low, high) = extent(values);
        let step = step(high - low);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        let count = ((high - low) / step).round() as usize;
        let ticks = (0..=count).map(|i| low + step * i as f64).collect();
        Scale { low, high, from, to, ticks, powers: false }
    }

    /// An axis with a tick at each of these values, which rise and are not empty, and a little room beside them.
    ///
    /// With `powers` they are logarithms, as for [`Scale::powers_of_two`].
    pub(super) fn at(ticks: Vec<f64>, powers: bool, (from, to): (f64, f64)) -> Scale {
        let (low, high) = extent(ticks.iter().copied());
        let room = 0.04 * (high - low);
        Scale { low: low - room, high: high + room, from, to, ticks, powers }
    }

    /// An axis of powers of two over logarithms.
    pub(super) fn powers_of_two(values: impl Iterator<Item = f64>, span: (f64, f64)) -> Scale {
        let (low, high) = extent(values);
        let (low, high) = (low.floor(), high.ceil());
        let every = ((high - low) / 12.0).ceil().max(1.0);
        let count = ((high - low) / every) as usize;
        let ticks = (0..=count).map(|i| low + every * i as f64).collect();
        Scale { low, high, from: span.0, to: span.1, ticks, powers: true }
    }

    /// Position of a number; NaN for NaN.
    pub(super) fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The number at a tick, in the unit of the data.
    fn label(&self, tick: f64) -> String {
        number::round(if self.powers { tick.exp2() } else { tick })
    }

    /// Grid lines and labels of a horizontal axis between the heights `top` and `bottom`; a label that would run into
    /// the one before it is left out.
    pub(super) fn draw_across(&self, canvas: &mut Canvas, (top, bottom): (f64, f64), title: &str) {
        let mut free = f64::MIN;
        for &tick in &self.ticks {
            let (x, label) = (self.place(tick), self.label(tick));
            canvas.line("faint", (x, top), (x, bottom));
            let half = LETTER * label.chars().count() as f64 / 2.0;
            if x - half > free {
                canvas.text("soft", (x, bottom + 16.0), Anchor::Middle, &label);
                free = x + half + LETTER;
            }
        }
        canvas.line("rule", (self.from, bottom), (self.to, bottom));
        canvas.text("soft", ((self.from + self.to) / 2.0, bottom + 36.0), Anchor::Middle, title);
    }

    /// Grid lines and labels of a vertical axis between the positions `left` and `right`.
    pub(super) fn draw_up(&self, canvas: &mut Canvas, (left, right): (f64, f64), title: &str) {
        for &tick in &self.ticks {
            let y = self.place(tick);
            canvas.line("faint", (left, y), (right, y));
            canvas.text("soft", (left - 8.0, y + 4.0), Anchor::End, &self.label(tick));
        }
        let letters = ((self.from - self.to).abs() / LETTER) as usize;
        for (line, text) in in_two_lines(title, letters).iter().enumerate() {
            canvas.upward((10.0 + 14.0 * line as f64, (self.from + self.to) / 2.0), text);
        }
    }
}

/// Ends of the values; one wide about a single value, and from 0 to 1 without any.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    match (low, high) {
        (low, high) if low > high => (0.0, 1.0),
        (low, high) if low == high => (low - 0.5, low + 0.5),
        ends => ends,
    }
}

/// A step of 1, 2 or 5 times a power of ten that cuts the range into about five.
fn step(range: f64) -> f64 {
    let rough = range / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let multiple = [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough).unwrap_or(10.0);
    multiple * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_the_values() {
        let scale = Scale::over([0.13, 0.97].into_iter(), (0.0, 100.0));
        let labels: Vec<String> = scale.ticks.iter().map(|t| scale.label(*t)).collect();
        assert_eq!(labels, ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert!((scale.place(0.5) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn no_value_and_one_value_still_make_an_axis() {
        assert_eq!(Scale::over([].into_iter(), (0.0, 1.0)).place(1.0), 1.0);
        assert!(Scale::over([3.0].into_iter(), (0.0, 1.0)).place(3.0).is_finite());
    }

    #[test]
    fn ticks_stand_at_the_values_and_keep_them_from_the_ends() {
        let scale = Scale::at([50.0, 100.0, 200.0].map(f64::log2).to_vec(), true, (0.0, 108.0));
        let labels: Vec<String> = scale.ticks.iter().map(|t| scale.label(*t)).collect();
        assert_eq!(labels, ["50", "100", "200"]);
        assert!((scale.place(50f64.log2()) - 4.0).abs() < 1e-9);
        assert!(Scale::at(vec![7.0], false, (0.0, 1.0)).place(7.0).is_finite());
    }

    #[test]
    fn powers_of_two_are_labelled_as_numbers() {
        let scale = Scale::powers_of_two([0.0, 3.0].into_iter(), (0.0, 1.0));
        let labels: Vec<String> = scale.ticks.iter().map(|t| scale.label(*t)).collect();
        assert_eq!(labels, ["1", "2", "4", "8"]);
    }
}
