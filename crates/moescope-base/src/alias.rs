//! Names that other tools have for our hook points.

use crate::{HookPoint, Site};

/// A name of another tool, with `L` for the number of the block, and the site that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name, such as `blocks.L.hook_in`.
    pub name: &'static str,
    /// The site.
    pub site: Site,
}

/// Every alias. Each stands for a hook point wherever a hook is named; what is recorded has the name of the hook point itself.
///
/// The short ones, such as `resid_post.L`, are those of interp-engine; the others are TransformerLens'. A name that tools use for
/// different values is none: see [`HookError::Ambiguous`](crate::HookError::Ambiguous).
pub const ALIASES: [Alias; 28] = [
    Alias { name: "embed", site: Site::Embed },
    Alias { name: "embed.hook_out", site: Site::Embed },
    Alias { name: "pos_embed", site: Site::PosEmbed },
    Alias { name: "pos_embed.hook_out", site: Site::PosEmbed },
    Alias { name: "blocks.L.hook_in", site: Site::ResidPre },
    Alias { name: "resid_pre.L", site: Site::ResidPre },
    Alias { name: "blocks.L.attn.hook_in", site: Site::AttnIn },
    Alias { name: "blocks.L.ln1.hook_out", site: Site::AttnIn },
    Alias { name: "blocks.L.attn.q.hook_out", site: Site::AttnQ },
    Alias { name: "blocks.L.attn.k.hook_out", site: Site::AttnK },
    Alias { name: "blocks.L.attn.v.hook_out", site: Site::AttnV },
    Alias { name: "blocks.L.attn.o.hook_in", site: Site::AttnZ },
    Alias { name: "blocks.L.attn.hook_out", site: Site::AttnOut },
    Alias { name: "resid_mid.L", site: Site::ResidMid },
    Alias { name: "blocks.L.ln2.hook_normalized", site: Site::MlpIn },
    Alias { name: "blocks.L.ln2.hook_out", site: Site::MlpIn },
    Alias { name: "blocks.L.mlp.hook_in", site: Site::MlpIn },
    Alias { name: "router_logits.L", site: Site::RouterLogits },
    Alias { name: "blocks.L.mlp.hook_expert_indices", site: Site::RouterIndices },
    Alias { name: "expert_indices.L", site: Site::RouterIndices },
    Alias { name: "expert_weights.L", site: Site::RouterWeights },
    Alias { name: "blocks.L.mlp.hook_out", site: Site::MlpOut },
    Alias { name: "blocks.L.hook_out", site: Site::ResidPost },
    Alias { name: "resid_post.L", site: Site::ResidPost },
    Alias { name: "ln_final.hook_out", site: Site::FinalNormalized },
    Alias { name: "unembed.hook_in", site: Site::FinalNormalized },
    Alias { name: "unembed", site: Site::Logits },
    Alias { name: "unembed.hook_out", site: Site::Logits },
];

/// The end of the names that mean the scores of all experts in TransformerLens 2 and the weights as applied in 4.
const AMBIGUOUS: &str = ".mlp.hook_expert_weights";

impl HookPoint {
    /// The names that other tools have for this point.
    pub fn aliases(&self) -> Vec<String> {
        if self.expert_index().is_some() {
            return Vec::new();
        }
        let layer = self.layer().map(|layer| layer.to_string());
        let named = |alias: &Alias| match &layer {
            Some(layer) => {
                let parts = alias.name.split('.').map(|part| if part == "L" { layer } else { part });
                parts.collect::<Vec<_>>().join(".")
            }
            None => alias.name.to_owned(),
        };
        ALIASES.iter().filter(|alias| alias.site == self.site()).map(named).collect()
    }
}

/// The point that another tool's name stands for.
pub(crate) fn named_by(name: &str) -> Option<HookPoint> {
    ALIASES.iter().find_map(|alias| {
        let parts = alias.name.split('.').zip(name.split('.'));
        let same = alias.name.split('.').count() == name.split('.').count()
            && parts.clone().all(|(wanted, found)| wanted == "L" || wanted == found);
        let layer = parts.clone().find(|(wanted, _)| *wanted == "L").map(|(_, found)| found);
        match (same, layer) {
            (false, _) => None,
            (true, None) => Some(HookPoint::global(alias.site)),
            (true, Some(layer)) => crate::hook_point::number(layer).map(|l| HookPoint::block(alias.site, l)),
        }
    })
}

/// Whether a name, or a pattern, is one that versions of TransformerLens use for different values.
pub(crate) fn is_ambiguous(name: &str) -> bool {
    name.ends_with(AMBIGUOUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_names_its_site_and_is_no_name_of_ours() {
        for alias in ALIASES {
            let name = alias.name.replace(".L", ".3");
            let point: HookPoint = name.parse().unwrap();
            assert_eq!(point.site(), alias.site, "{name}");
            assert_eq!(point.layer(), alias.site.in_block().then_some(3), "{name}");
            assert_ne!(point.to_string(), name);
            assert!(point.aliases().contains(&name), "{name}");
        }
    }

    #[test]
    fn a_number_with_leading_zeros_or_none_at_all_is_no_alias() {
        for name in ["resid_post.01", "resid_post.x", "resid_post", "blocks.L.hook_in", "resid_post.1.2"] {
            assert_eq!(named_by(name), None, "{name}");
        }
        assert!(HookPoint::expert(Site::ExpertOut, 0, 1).aliases().is_empty());
    }
}
