//! Where a dictionary reads and writes.
//!
//! A dictionary is of vectors, one for each token: values with the axes `[batch, pos, X]` or, of a single expert, `[row, X]`. Attention
//! patterns, choices of experts and denominators of norms are none, and are refused by name.

use clap::Args;
use moescope_analysis::knockout::ExpertId;
use moescope_base::{Axis, HookPattern, HookPoint, Site, SubjectShape};
use moescope_model::Description;

use crate::failure::Failure;

/// Options that name a site.
#[derive(Debug, Args)]
pub(super) struct SiteArgs {
    /// Hook that is read, and written too unless --target names another: blocks.3.hook_resid_post, say. `moescope record MODEL
    /// --list-hooks` lists them.
    #[arg(long, value_name = "HOOK")]
    pub(super) site: Option<String>,
    /// Hook that is written, for a transcoder: blocks.3.hook_mlp_out, say.
    #[arg(long, value_name = "HOOK")]
    pub(super) target: Option<String>,
    /// The output of one expert, short for --site blocks.L.mlp.experts.E.hook_out. Its rows are those of the tokens that choose it.
    #[arg(long, value_name = "L:E", conflicts_with = "site")]
    pub(super) expert: Option<String>,
    /// Tokens at the start of each window whose rows are left out. Models put very long vectors on the first token of a text, which would
    /// drown all others.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) skip: usize,
}

impl SiteArgs {
    /// Refuses to leave out whole windows.
    ///
    /// # Errors
    /// If no token of a window would be left.
    pub(super) fn require_rows(&self, positions: usize) -> Result<(), Failure> {
        match self.skip < positions {
            true => Ok(()),
            false => Err(Failure::input(format!(
                "--skip {} leaves nothing of windows of {positions} tokens; take fewer, or longer windows (--positions)",
                self.skip
            ))),
        }
    }

    /// Name of the hook that is read, if one is named.
    ///
    /// # Errors
    /// If `--expert` names no expert.
    pub(super) fn read(&self) -> Result<Option<String>, Failure> {
        let Some(expert) = &self.expert else { return Ok(self.site.clone()) };
        // Both spellings are in use.
        let ExpertId { layer, expert } = expert.replace('.', ":").parse()?;
        Ok(Some(HookPoint::expert(Site::ExpertOut, layer, expert).to_string()))
    }
}

/// Where a dictionary reads and, if it is a transcoder, writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sites {
    /// What is read.
    pub(super) input: HookPoint,
    /// What is written, if it is another site.
    pub(super) target: Option<HookPoint>,
    /// Tokens at the start of each window whose rows are left out.
    pub(super) skip: usize,
}

impl Sites {
    /// Finds hooks by their names, ours or those of other tools that stand for them.
    ///
    /// A target that is the site itself makes an autoencoder, not a transcoder.
    ///
    /// # Errors
    /// If a name matches nothing, with the nearest that does, or several, or a value that is no vector of each token.
    pub(super) fn find(
        shape: &SubjectShape,
        input: &str,
        target: Option<&str>,
        skip: usize,
    ) -> Result<Sites, Failure> {
        let input = one(shape, input)?;
        let target = target.map(|target| one(shape, target)).transpose()?;
        // A site with itself as its target is an autoencoder.
        Ok(Sites { input, target: target.filter(|target| *target != input), skip })
    }

    /// What is written: the target, or the site itself.
    pub(super) fn written(&self) -> HookPoint {
        self.target.unwrap_or(self.input)
    }

    /// All points, in order.
    pub(super) fn points(&self) -> Vec<HookPoint> {
        let mut points: Vec<HookPoint> = std::iter::once(self.input).chain(self.target).collect();
        points.sort_unstable();
        points
    }

    /// Widths of what is read and written, in numbers: `(input, target)`, as the model has them, before anything is run.
    pub(super) fn widths(&self, description: &Description, positions: usize) -> (usize, usize) {
        let width = |point| (description.recorded_row(point, positions) / 4) as usize;
        (width(self.input), width(self.written()))
    }
}

/// The one hook of a name, whose value has to be a vector of each token.
fn one(shape: &SubjectShape, name: &str) -> Result<HookPoint, Failure> {
    let found = HookPattern::select(&[HookPattern::new(name)], &shape.hook_points())?;
    let [point] = found[..] else {
        return Err(Failure::input(format!(
            "`{name}` names {} hooks, wanted one: a dictionary belongs to one site",
            found.len()
        )));
    };
    let site = point.site();
    let vectors = matches!(site.axes(), [Axis::Batch, Axis::Pos, _] | [Axis::Row, _]);
    let integers = matches!(site, Site::RouterIndices | Site::AttnRouterIndices);
    if !vectors || integers || site.is_scale() {
        let meaning = site.meaning();
        return Err(Failure::input(format!(
            "`{point}` is {meaning}, which is no vector of each token; choose a residual stream, an output or hidden activations"
        )));
    }
    Ok(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::{FeedForwardShape, SiteOptions};

    fn shape() -> SubjectShape {
        SubjectShape {
            d_model: 8,
            vocab: 16,
            heads: 2,
            head_dim: 4,
            feed_forward: vec![FeedForwardShape::Routed { experts: 3, per_token: 2, expert_width: 4 }; 2],
            options: SiteOptions::default(),
        }
    }

    #[test]
    fn names_become_sites_and_a_site_with_itself_is_no_transcoder() {
        let name = "blocks.1.hook_resid_post";
        let found = Sites::find(&shape(), name, Some(name), 0).unwrap();
        assert_eq!((found.written().to_string(), found.target, found.points().len()), (name.into(), None, 1));
        let found = Sites::find(&shape(), name, Some("blocks.1.hook_mlp_out"), 0).unwrap();
        assert_eq!(found.written().to_string(), "blocks.1.hook_mlp_out");
        let args = SiteArgs { site: None, target: None, expert: Some("1.2".into()), skip: 0 };
        assert_eq!(args.read().unwrap().unwrap(), "blocks.1.mlp.experts.2.hook_out");
    }

    #[test]
    fn wrong_names_are_refused_with_what_would_do() {
        let refused = |name: &str| Sites::find(&shape(), name, None, 0).unwrap_err().message;
        assert!(refused("blocks.1.hook_resid_pst").contains("blocks.1.hook_resid_post"));
        assert!(refused("blocks.*.hook_resid_post").contains("names 2 hooks"));
        assert!(refused("blocks.0.attn.hook_pattern").contains("no vector of each token"));
        assert!(refused("blocks.0.mlp.router.hook_indices").contains("no vector of each token"));
        assert!(SiteArgs { site: None, target: None, expert: Some("x".into()), skip: 0 }.read().is_err());
    }
}
