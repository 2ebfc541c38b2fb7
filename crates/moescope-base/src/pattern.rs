use crate::likeness::nearest_names;
use crate::{HookError, HookPoint};

/// A hook name in which `*` stands for any run of characters and `{a,b}` for one of several.
///
/// `blocks.*.mlp.experts.{3,17}.hook_post` names the hidden activation of experts 3 and 17 in every block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookPattern {
    source: String,
    /// One glob for each choice of alternatives.
    expanded: Vec<String>,
}

impl HookPattern {
    /// Reads a pattern; any text is one, and whether it matches is asked of a model.
    pub fn new(source: &str) -> HookPattern {
        HookPattern { source: source.to_owned(), expanded: expand(source) }
    }

    /// Reads patterns separated by commas; commas inside braces belong to their pattern.
    pub fn list(sources: &str) -> Vec<HookPattern> {
        let mut depth = 0;
        let parts = sources.split(move |c| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            c == ',' && depth == 0
        });
        parts.map(str::trim).filter(|p| !p.is_empty()).map(HookPattern::new).collect()
    }

    /// Whether the pattern names this point.
    pub fn matches(&self, point: &HookPoint) -> bool {
        let name = point.to_string();
        self.expanded.iter().any(|glob| glob_matches(glob.as_bytes(), name.as_bytes()))
    }

    /// The points among `available` that any of the patterns names, in the order of `available`.
    ///
    /// # Errors
    /// [`HookError::NoMatch`] for the first pattern that names none of them.
    pub fn select(patterns: &[HookPattern], available: &[HookPoint]) -> Result<Vec<HookPoint>, HookError> {
        for pattern in patterns {
            if !available.iter().any(|point| pattern.matches(point)) {
                let nearest = nearest_names(&pattern.source, available.iter().map(HookPoint::to_string));
                return Err(HookError::NoMatch { pattern: pattern.source.clone(), nearest });
            }
        }
        Ok(available.iter().copied().filter(|p| patterns.iter().any(|pattern| pattern.matches(p))).collect())
    }
}

/// All ways of choosing one alternative from each `{a,b}`.
fn expand(source: &str) -> Vec<String> {
    let Some((head, rest)) = source.split_once('{') else { return vec![source.to_owned()] };
    let Some((choices, tail)) = rest.split_once('}') else { return vec![source.to_owned()] };
    let tails = expand(tail);
    choices.split(',').flat_map(|c| tails.iter().map(move |t| format!("{head}{}{t}", c.trim()))).collect()
}

/// Glob match with `*` only, by the greedy algorithm that remembers the last star.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((star_g, star_t)) = star else { return false };
                star = Some((star_g, star_t + 1));
                g = star_g + 1;
                t = star_t + 1;
            }
        }
    }
    glob[g..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Site;

    fn points() -> Vec<HookPoint> {
        (0..3)
            .flat_map(|l| {
                [HookPoint::block(Site::ResidPost, l)]
                    .into_iter()
                    .chain((0..20).map(move |e| HookPoint::expert(Site::ExpertPost, l, e)))
            })
            .collect()
    }

    #[test]
    fn stars_and_braces_select_what_they_say() {
        let patterns = HookPattern::list("blocks.*.mlp.experts.{3,17}.hook_post, blocks.1.hook_resid_post");
        assert_eq!(patterns.len(), 2);
        let chosen = HookPattern::select(&patterns, &points()).unwrap();
        assert_eq!(chosen.len(), 7);
        assert!(chosen.contains(&HookPoint::expert(Site::ExpertPost, 2, 17)));
    }

    #[test]
    fn a_pattern_without_a_match_is_an_error_that_suggests() {
        let error =
            HookPattern::select(&HookPattern::list("blocks.9.hook_resid_post"), &points()).unwrap_err();
        assert!(error.to_string().contains("blocks.0.hook_resid_post"), "{error}");
    }
}
