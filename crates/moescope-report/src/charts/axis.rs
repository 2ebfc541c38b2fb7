//! Axes: numbers, powers of two, and names.

use serde_json::{Value, json};

use crate::plot::Quantity;

/// Room beside the outermost ticks, as a part of the distance between them.
const ROOM: f64 = 0.04;

/// An axis of numbers with its name and unit.
///
/// The axis need not hold zero: intervals are compared with each other, and a chart whose marks have a length from
/// zero asks for zero itself.
pub(super) fn numbers(quantity: &Quantity, vertical: bool) -> Value {
    json!({
        "type": "value",
        "scale": true,
        "name": quantity.title(),
        "nameLocation": "middle",
        "nameGap": if vertical { 14 } else { 26 },
        "nameTextStyle": {"color": "@soft"},
        "axisLabel": {"color": "@soft", "formatter": "@number", "hideOverlap": true},
        "axisLine": {"show": !vertical, "lineStyle": {"color": "@rule"}},
        "axisTick": {"show": !vertical, "lineStyle": {"color": "@rule"}},
        "splitLine": {"lineStyle": {"color": "@faint"}},
    })
}

/// Puts the ticks of a horizontal axis at the places given, which are not empty, and a little room beside the outermost.
pub(super) fn with_ticks(axis: &mut Value, ticks: &[f64]) {
    let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
    let room = if low < high { ROOM * (high - low) } else { 0.5 };
    axis["min"] = json!(low - room);
    axis["max"] = json!(high + room);
    for part in ["axisTick", "axisLabel", "splitLine"] {
        axis[part]["customValues"] = json!(ticks);
    }
}

/// Ends the axis of a quantity where its range ends, once its values come near.
///
/// The library would else round the end of the axis up, to shares above 1.
pub(super) fn end_at_range(axis: &mut Value, quantity: &Quantity, values: impl Iterator<Item = f64>) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    if let Some((least, most)) = quantity.range.filter(|(least, most)| high > least + 0.8 * (most - least)) {
        axis["max"] = json!(most);
        if low < least + 0.4 * (most - least) {
            axis["interval"] = json!(0.2 * (most - least)); // so that the last tick is the end
        }
    }
}

/// An axis in powers of two over positions that are logarithms.
///
/// The positions are logarithms already, so the axis is linear, with a label at each whole power. A single position
/// still gets an axis one power wide.
pub(super) fn powers_of_two(quantity: &Quantity, positions: impl Iterator<Item = f64>) -> Value {
    let (low, high) = positions.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    let mut axis = numbers(quantity, false);
    axis["min"] = json!(low.floor());
    axis["max"] = json!(high.ceil().max(low.floor() + 1.0));
    axis["interval"] = json!(1);
    axis["axisLabel"]["formatter"] = json!("@power");
    axis
}

/// An axis of names, the first at the top or at the left.
///
/// A label is cut at 230 pixels; its full text stands in the words of its marks.
pub(super) fn names(labels: &[String], title: Option<&Quantity>) -> Value {
    let mut axis = json!({
        "type": "category",
        "data": labels,
        "axisLabel": {"color": "@ink", "width": 230, "overflow": "truncate"},
        "axisLine": {"show": false},
        "axisTick": {"show": false},
        "splitLine": {"show": false},
    });
    if let Some(quantity) = title {
        axis["name"] = json!(quantity.title());
        axis["nameLocation"] = json!("middle");
        axis["nameGap"] = json!(26);
        axis["nameTextStyle"] = json!({"color": "@soft"});
    }
    axis
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share() -> Quantity {
        Quantity { name: "accuracy".into(), unit: "share".into(), range: Some((0.0, 1.0)) }
    }

    #[test]
    fn the_axis_of_a_share_ends_at_one_and_only_when_values_come_near() {
        let mut axis = numbers(&share(), false);
        end_at_range(&mut axis, &share(), [0.1, 0.3].into_iter());
        assert!(axis.get("max").is_none());
        end_at_range(&mut axis, &share(), [0.1, 0.95].into_iter());
        assert_eq!((&axis["max"], &axis["interval"]), (&json!(1.0), &json!(0.2)));
    }

    #[test]
    fn ticks_stand_at_the_data_alone() {
        let mut axis = numbers(&share(), false);
        with_ticks(&mut axis, &[1.0, 2.0]);
        for part in ["axisTick", "axisLabel", "splitLine"] {
            assert_eq!(axis[part]["customValues"], json!([1.0, 2.0]));
        }
        assert!(axis["min"].as_f64() < Some(1.0) && axis["max"].as_f64() > Some(2.0));
        with_ticks(&mut axis, &[7.0]);
        assert_eq!((&axis["min"], &axis["max"]), (&json!(6.5), &json!(7.5)));
    }
}
