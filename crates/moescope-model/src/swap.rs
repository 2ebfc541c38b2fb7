//! Layers that use each other's routes.
//!
//! The first of two layers would need routes that are computed later. So a swap takes a pass of its own that records both, and
//! becomes two replays; all other edits stay what they are.

use std::borrow::Cow;

use moescope_base::{Edit, HookPoint, RouteEdit, Site, Tokens, Value};

use crate::ModelError;
use crate::description::{Description, Routed};
use crate::route_edits;

/// What a pass chooses at a layer, for whoever asks for its routes: `[batch, pos, slot]`.
type Chosen<'f> = dyn FnMut(&[Edit], [HookPoint; 2]) -> Result<[Value; 2], ModelError> + 'f;

/// The edits with every swap turned into two replays, of the routes that a pass with the edits before the swap makes.
///
/// Edits of the two layers' choices that stand before the swap have had their say in that pass and are dropped; those that stand
/// after it meet recorded routes, which leave them no choice.
///
/// # Errors
/// [`ModelError::Edit`] for layers without routes, or of different shapes; whatever the pass refuses.
pub(crate) fn resolved<'e>(
    description: &Description,
    tokens: &Tokens,
    edits: &'e [Edit],
    chosen: &mut Chosen<'_>,
) -> Result<Cow<'e, [Edit]>, ModelError> {
    let is_swap = |edit: &Edit| matches!(edit, Edit::Route { change: RouteEdit::Swap { .. }, .. });
    if !edits.iter().any(is_swap) {
        return Ok(Cow::Borrowed(edits));
    }
    let mut resolved: Vec<Edit> = Vec::with_capacity(edits.len() + 1);
    for edit in edits {
        let Edit::Route { layer, change: RouteEdit::Swap { with } } = edit else {
            resolved.push(edit.clone());
            continue;
        };
        check(description, *layer, *with)?;
        let layers = [*layer, *with];
        let points = layers.map(|layer| HookPoint::block(Site::RouterIndices, layer as usize));
        let [first, second] = chosen(&resolved, points)?;
        if first.columns() != second.columns() {
            let (found, other) = (first.columns(), second.columns());
            return Err(ModelError::edit(
                route_edits::place(*layer as usize),
                format!(
                    "its tokens choose {found} experts and those of layer {with} choose {other}; wanted as many"
                ),
            ));
        }
        debug_assert_eq!(first.shape()[..2], [tokens.batch(), tokens.positions()]);
        let spoken = |edit: &Edit| matches!(edit, Edit::Route { layer, change } if layers.contains(layer) && (change.chooses() || is_shuffle(change)));
        resolved.retain(|edit| !spoken(edit));
        for (layer, value) in layers.into_iter().zip([second, first]) {
            let change = RouteEdit::replay_of(&value).expect("a model records whole indices");
            resolved.push(Edit::Route { layer, change });
        }
    }
    Ok(Cow::Owned(resolved))
}

fn is_shuffle(change: &RouteEdit) -> bool {
    matches!(change, RouteEdit::Shuffle { .. })
}

/// Refuses a pair of layers that cannot use each other's routes.
fn check(description: &Description, layer: u32, with: u32) -> Result<(), ModelError> {
    for layer in [layer, with] {
        route_edits::check_layer(description, layer as usize)?;
    }
    let refuse = |reason: String| Err(ModelError::edit(route_edits::place(layer as usize), reason));
    if layer == with {
        return refuse("a layer cannot be swapped with itself; name another as `with`".into());
    }
    let experts =
        |layer: u32| description.feed_forward[layer as usize].routed().map_or(0, |r: &Routed| r.experts);
    match experts(layer) == experts(with) {
        true => Ok(()),
        false => refuse(format!(
            "it has {} experts and layer {with} has {}; wanted as many",
            experts(layer),
            experts(with)
        )),
    }
}
