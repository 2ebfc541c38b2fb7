use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Site, alias};

/// The full name of one place inside a model, such as `blocks.3.mlp.experts.7.hook_post`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HookPoint {
    layer: Option<u32>,
    expert: Option<u32>,
    site: Site,
}

/// A name that is no hook point, or no pattern that matches one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The name has no place in the naming scheme.
    #[error(
        "`{name}` is not a hook name{}; list the names of a model with `moescope record MODEL --list-hooks`",
        did_you_mean(.nearest)
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// The most similar known names, best first.
        nearest: Vec<String>,
    },
    /// The pattern is well formed but matches nothing in this model.
    #[error(
        "`{pattern}` matches no hook of this model{}; list its hooks with `moescope record MODEL --list-hooks`",
        did_you_mean(.nearest)
    )]
    NoMatch {
        /// What was asked for.
        pattern: String,
        /// The most similar names of the model, best first.
        nearest: Vec<String>,
    },
    /// A name that other tools use for different values.
    #[error(
        "`{name}` means two things: in TransformerLens 2 the scores of all experts before the choice, here `mlp.router.hook_scores`, and in 4 the \
         weights as applied, here `mlp.router.hook_weights`; name one of these, or say `--compat tl2` or `--compat tl4`"
    )]
    Ambiguous {
        /// What was asked for.
        name: String,
    },
}

fn did_you_mean(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!(
            "; did you mean {}?",
            names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ")
        ),
    }
}

impl HookPoint {
    /// A place outside the blocks: embedding, final norm, logits.
    ///
    /// # Panics
    /// If the site belongs to a block.
    pub fn global(site: Site) -> HookPoint {
        assert!(!site.in_block(), "{} belongs to a block", site.name());
        HookPoint { layer: None, expert: None, site }
    }

    /// A place in block `layer`, not inside a single expert.
    ///
    /// # Panics
    /// If the site is outside the blocks or inside an expert.
    pub fn block(site: Site, layer: usize) -> HookPoint {
        assert!(site.in_block() && !site.in_expert(), "{} is not a block site", site.name());
        HookPoint { layer: Some(layer as u32), expert: None, site }
    }

    /// A place inside one expert of block `layer`.
    ///
    /// # Panics
    /// If the site is not inside an expert.
    pub fn expert(site: Site, layer: usize, expert: usize) -> HookPoint {
        assert!(site.in_expert(), "{} is not an expert site", site.name());
        HookPoint { layer: Some(layer as u32), expert: Some(expert as u32), site }
    }

    /// The kind of place.
    pub fn site(&self) -> Site {
        self.site
    }

    /// Block, if the place is in one.
    pub fn layer(&self) -> Option<usize> {
        self.layer.map(|l| l as usize)
    }

    /// Expert, if the place is inside one.
    pub fn expert_index(&self) -> Option<usize> {
        self.expert.map(|e| e as usize)
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.layer, self.expert) {
            (Some(layer), Some(expert)) => {
                write!(f, "blocks.{layer}.mlp.experts.{expert}.{}", self.site.name())
            }
            (Some(layer), None) => write!(f, "blocks.{layer}.{}", self.site.name()),
            _ => f.write_str(self.site.name()),
        }
    }
}

impl From<HookPoint> for String {
    fn from(point: HookPoint) -> String {
        point.to_string()
    }
}

impl TryFrom<String> for HookPoint {
    type Error = HookError;
    fn try_from(name: String) -> Result<HookPoint, HookError> {
        name.parse()
    }
}

impl FromStr for HookPoint {
    type Err = HookError;

    fn from_str(name: &str) -> Result<HookPoint, HookError> {
        match parse(name).or_else(|| alias::named_by(name)) {
            Some(point) => Ok(point),
            None if alias::is_ambiguous(name) => Err(HookError::Ambiguous { name: name.to_owned() }),
            None => Err(HookError::Unknown { name: name.to_owned(), nearest: nearest_site_names(name) }),
        }
    }
}

fn parse(name: &str) -> Option<HookPoint> {
    let Some(rest) = name.strip_prefix("blocks.") else {
        let site = Site::ALL.into_iter().find(|s| !s.in_block() && s.name() == name)?;
        return Some(HookPoint::global(site));
    };
    let (layer, rest) = rest.split_once('.')?;
    let layer = number(layer)?;
    if let Some((expert, leaf)) = rest.strip_prefix("mlp.experts.").and_then(|r| r.split_once('.')) {
        let site = Site::ALL.into_iter().find(|s| s.in_expert() && s.name() == leaf)?;
        return Some(HookPoint::expert(site, layer, number(expert)?));
    }
    let site = Site::ALL.into_iter().find(|s| s.in_block() && !s.in_expert() && s.name() == rest)?;
    Some(HookPoint::block(site, layer))
}

/// A number without sign or leading zeros, so that each point has exactly one spelling.
pub(crate) fn number(text: &str) -> Option<usize> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number as usize)
}

/// The names most like it of all that there are, with the numbers of block and expert that it has itself.
fn nearest_site_names(name: &str) -> Vec<String> {
    let mut numbers = name.split('.').filter_map(number);
    let (layer, expert) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let points = Site::ALL.into_iter().map(|site| match (site.in_block(), site.in_expert()) {
        (_, true) => HookPoint::expert(site, layer, expert),
        (true, false) => HookPoint::block(site, layer),
        _ => HookPoint::global(site),
    });
    let names = points.flat_map(|point| std::iter::once(point.to_string()).chain(point.aliases()));
    crate::likeness::nearest_names(name, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_point() -> impl Strategy<Value = HookPoint> {
        (0..Site::ALL.len(), 0usize..100, 0usize..300).prop_map(|(site, layer, expert)| {
            let site = Site::ALL[site];
            match (site.in_block(), site.in_expert()) {
                (_, true) => HookPoint::expert(site, layer, expert),
                (true, false) => HookPoint::block(site, layer),
                _ => HookPoint::global(site),
            }
        })
    }

    proptest! {
        #[test]
        fn a_printed_name_parses_to_the_same_point(point in any_point()) {
            prop_assert_eq!(point.to_string().parse::<HookPoint>(), Ok(point));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*") {
            let _ = text.parse::<HookPoint>();
        }
    }

    #[test]
    fn a_misspelt_name_gets_a_suggestion() {
        let error = "blocks.0.hook_resid_pots".parse::<HookPoint>().unwrap_err();
        assert!(error.to_string().contains("blocks.0.hook_resid_post"), "{error}");
    }

    #[test]
    fn even_a_name_like_none_gets_one_suggestion_and_keeps_its_numbers() {
        let error = "blocks.4.hook_resid".parse::<HookPoint>().unwrap_err().to_string();
        assert!(error.contains("`blocks.4.hook_resid_pre`"), "{error}");
        let error = "zzzzzzzzzzzz".parse::<HookPoint>().unwrap_err().to_string();
        assert!(error.contains("did you mean"), "{error}");
    }

    #[test]
    fn a_name_with_two_meanings_is_refused_with_both() {
        let error = "blocks.0.mlp.hook_expert_weights".parse::<HookPoint>().unwrap_err().to_string();
        assert!(
            error.contains("mlp.router.hook_scores") && error.contains("mlp.router.hook_weights"),
            "{error}"
        );
    }

    #[test]
    fn leading_zeros_and_signs_are_refused() {
        assert!("blocks.01.hook_resid_pre".parse::<HookPoint>().is_err());
        assert!("blocks.+1.hook_resid_pre".parse::<HookPoint>().is_err());
    }
}
