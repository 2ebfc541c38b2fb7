//! The hook points as a page of Markdown: the generated half of `docs/hooks.md`.

use moescope_base::{ALIASES, Site};

/// One row for each hook point: name, axes, meaning, whether it may be edited and has a gradient, and what TransformerLens has.
///
/// Names, axes and meaning are those that the code goes by; `L` is the number of a block and `E` that of an expert.
pub fn hooks_page() -> String {
    let mut page = String::from(
        "| name | axes | what it is | edit | gradient | other names that work | in TransformerLens |\n|---|---|---|---|---|---|---|\n",
    );
    for site in Site::ALL {
        let others: Vec<String> =
            ALIASES.iter().filter(|alias| alias.site == site).map(|alias| code(alias.name)).collect();
        let axes: Vec<String> = site.axes().iter().map(ToString::to_string).collect();
        let yes = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
        let cells = [
            code(&name(site)),
            format!("[{}]", axes.join(", ")),
            site.meaning().to_owned(),
            yes(site.editable()),
            yes(site.has_gradient()),
            others.join(", "),
            elsewhere(site).to_owned(),
        ];
        page.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    page
}

/// The name of a site with letters for its numbers.
fn name(site: Site) -> String {
    match (site.in_block(), site.in_expert()) {
        (_, true) => format!("blocks.L.mlp.experts.E.{}", site.name()),
        (true, false) => format!("blocks.L.{}", site.name()),
        _ => site.name().to_owned(),
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// What TransformerLens has in its place, and where a name means something else there.
fn elsewhere(site: Site) -> &'static str {
    match site {
        Site::AttnIn => "the same name; there before the gain, here after it: what attention reads",
        Site::FinalNormalized => "the same name; there before the gain, here after it",
        Site::MlpIn => {
            "`ln2.hook_normalized`, before the gain; **its `hook_mlp_in` is the stream before the norm**, here `hook_resid_mid`"
        }
        Site::AttnQ | Site::AttnK => {
            "the same name; **there before rotary embedding** (`hook_rot_q`, `hook_rot_k` are after it), and [batch, pos, head, d_head]"
        }
        Site::AttnV | Site::AttnZ => "the same name; there [batch, pos, head, d_head]",
        Site::AttnOut | Site::MlpOut => {
            "the same name; there before a norm that the block has behind this half (Gemma-2), here after it: what is added"
        }
        Site::RouterScores => "2: `mlp.hook_expert_weights`, batch and pos in one axis",
        Site::RouterIndices => "2, 4: `mlp.hook_expert_indices`, batch and pos in one axis",
        Site::RouterWeights => {
            "4: `mlp.hook_expert_weights`, [batch * pos, expert] with zeros for experts that were not chosen"
        }
        Site::RouterLogits => "4: `hook_out` of the bridge of the router",
        Site::ExpertGate | Site::ExpertPre | Site::ExpertPost => {
            "2, 3: the same name, of all tokens' rows; gone in 4"
        }
        Site::Logits => "3, 4: `unembed.hook_out`",
        Site::AttnRouterLogits
        | Site::AttnRouterIndices
        | Site::AttnRouterWeights
        | Site::RouterIn
        | Site::RouterSelect
        | Site::ExpertOut
        | Site::ExpertOutWeighted
        | Site::RoutedOut
        | Site::SharedGate
        | Site::SharedPre
        | Site::SharedPost
        | Site::SharedOut
        | Site::SharedWeight => "none",
        _ => "the same name",
    }
}
