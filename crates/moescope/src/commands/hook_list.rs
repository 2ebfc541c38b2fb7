//! `moescope record MODEL --list-hooks`: what can be looked at in a model.

use moescope_base::{Axis, HookPoint};
use moescope_model::Description;

use crate::context::Context;
use crate::say;

/// Prints every point of the model with the lengths of its axes, its meaning and its other names, for people or as JSON.
pub(super) fn print(description: &Description, context: &Context) {
    let points = description.subject_shape().hook_points();
    if context.json() {
        let hook = |point: &HookPoint| {
            let axes = description.axis_lengths(*point);
            serde_json::json!({
                "name": point.to_string(),
                "axes": axes.iter().map(|(axis, _)| axis.to_string()).collect::<Vec<_>>(),
                "lengths": axes.iter().map(|(_, length)| *length).collect::<Vec<_>>(),
                "meaning": point.site().meaning(),
                "editable": point.site().editable(),
                "gradient": point.site().has_gradient(),
                "aliases": point.aliases(),
            })
        };
        context.print_json(&points.iter().map(hook).collect::<Vec<_>>());
        return;
    }
    for point in &points {
        let also = match point.aliases() {
            names if names.is_empty() => String::new(),
            names => format!("; also {}", names.join(", ")),
        };
        let shape = shape(&description.axis_lengths(*point));
        say!("{:44} {shape:38} {}{also}", point.to_string(), point.site().meaning());
    }
}

/// Axes with the lengths that the model decides: `[batch, pos, d_model=64]`.
fn shape(axes: &[(Axis, Option<usize>)]) -> String {
    let axis = |(axis, length): &(Axis, Option<usize>)| match (axis, length) {
        (Axis::Single, _) | (_, None) => axis.to_string(),
        (_, Some(length)) => format!("{axis}={length}"),
    };
    format!("[{}]", axes.iter().map(axis).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stand_beside_the_axes_that_have_one() {
        let axes = [(Axis::Batch, None), (Axis::Head, Some(4)), (Axis::Single, Some(1))];
        assert_eq!(shape(&axes), "[batch, head=4, 1]");
    }
}
