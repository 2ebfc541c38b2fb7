//! Which hook points a model has.

use moescope_base::{HookPattern, HookPoint};

use crate::ModelError;
use crate::description::{Description, FeedForward};

/// Refuses a point that the model does not have, with suggestions.
pub(crate) fn check(description: &Description, point: HookPoint) -> Result<(), ModelError> {
    if exists(description, point) {
        return Ok(());
    }
    let all = description.subject_shape().hook_points();
    HookPattern::select(&[HookPattern::new(&point.to_string())], &all)?;
    Ok(())
}

/// The answer without the list of all points, which a model of many experts makes long.
fn exists(description: &Description, point: HookPoint) -> bool {
    let site = point.site();
    if !description.site_options().has(site) {
        return false;
    }
    let Some(layer) = point.layer() else { return !site.in_block() };
    match description.feed_forward.get(layer) {
        None => false,
        Some(FeedForward::Routed(routed)) => {
            !site.dense_only() && point.expert_index().is_none_or(|e| e < routed.experts)
        }
        Some(_) => !site.routed_only(),
    }
}

/// Whether the router at this point's layer has scores.
pub(crate) fn scored(description: &Description, point: HookPoint) -> bool {
    let layer = point.layer().and_then(|layer| description.feed_forward.get(layer));
    layer.and_then(FeedForward::routed).is_some_and(|routed| routed.router.kind.scores())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Router;
    use crate::testing;

    #[test]
    fn the_quick_answer_agrees_with_the_list() {
        let description = testing::routed_description(Router::learned(true));
        let all = description.subject_shape().hook_points();
        assert!(all.iter().all(|point| exists(&description, *point)));
        for name in ["blocks.0.mlp.router.hook_logits", "blocks.1.mlp.hook_post", "blocks.9.hook_resid_pre"] {
            assert!(check(&description, name.parse().unwrap()).is_err(), "{name}");
        }
        let beyond = "blocks.1.mlp.experts.6.hook_out".parse().unwrap();
        assert!(check(&description, beyond).unwrap_err().to_string().contains("did you mean"));
    }
}
