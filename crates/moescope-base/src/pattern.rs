use crate::likeness::nearest_names;
use crate::{HookError, HookPoint, alias};

/// A hook name in which `*` stands for any run of characters and `{a,b}` for one of several.
///
/// `blocks.*.mlp.experts.{3,17}.hook_post` names the hidden activation of experts 3 and 17 in every block. Each alternative has to name
/// something: one that does not is an error, not left out. Names of other tools ([`ALIASES`](crate::ALIASES)) count as well, but
/// in them a `*` is a number alone: where stars that stand for numbers give names, ours or those of other tools, these are meant.
/// So `blocks.*.hook_out` is what leaves each block, and not the output of every expert besides.
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

    /// The text that was read.
    pub fn source(&self) -> &str {
        &self.source
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

    /// The points among `available` that any of the patterns names, in the order of `available`.
    ///
    /// # Errors
    /// [`HookError::NoMatch`] for the first pattern, or the first of its alternatives, that names none of them;
    /// [`HookError::Ambiguous`] for a name that tools use for different values.
    pub fn select(patterns: &[HookPattern], available: &[HookPoint]) -> Result<Vec<HookPoint>, HookError> {
        let names = Names::of(available);
        let mut chosen = vec![false; available.len()];
        for glob in patterns.iter().flat_map(|pattern| &pattern.expanded) {
            let found = names.found(glob);
            if found.is_empty() {
                return Err(names.refusal(glob));
            }
            found.into_iter().for_each(|place| chosen[place] = true);
        }
        Ok(available.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(point, _)| *point).collect())
    }
}

/// The names of points, ours first.
struct Names {
    /// Name and place of its point.
    own: Vec<(String, usize)>,
    others: Vec<(String, usize)>,
}

impl Names {
    fn of(points: &[HookPoint]) -> Names {
        let own = points.iter().enumerate().map(|(place, point)| (point.to_string(), place));
        let others = points.iter().enumerate();
        let others =
            others.flat_map(|(place, point)| point.aliases().into_iter().map(move |name| (name, place)));
        Names { own: own.collect(), others: others.collect() }
    }

    fn all(&self) -> impl Iterator<Item = &(String, usize)> {
        self.own.iter().chain(&self.others)
    }

    /// Places of the points that a glob names.
    fn found(&self, glob: &str) -> Vec<usize> {
        let by_number = self.all().filter(|(name, _)| matches_by_number(glob, name));
        let found: Vec<usize> = by_number.map(|(_, place)| *place).collect();
        if !found.is_empty() {
            return found;
        }
        let by_run = self.own.iter().filter(|(name, _)| glob_matches(glob.as_bytes(), name.as_bytes()));
        by_run.map(|(_, place)| *place).collect()
    }

    /// Why a glob names nothing, and what may have been meant.
    fn refusal(&self, glob: &str) -> HookError {
        if alias::is_ambiguous(glob) {
            return HookError::Ambiguous { name: glob.to_owned() };
        }
        let names = self.all().map(|(name, _)| with_stars_of(glob, name));
        HookError::NoMatch { pattern: glob.to_owned(), nearest: nearest_names(glob, names) }
    }
}

/// A name with the stars of a glob in place of the parts that they stand for, where both have as many parts.
fn with_stars_of(glob: &str, name: &str) -> String {
    if !glob.contains('*') || glob.split('.').count() != name.split('.').count() {
        return name.to_owned();
    }
    let parts = glob.split('.').zip(name.split('.'));
    parts.map(|(wanted, part)| if wanted == "*" { "*" } else { part }).collect::<Vec<_>>().join(".")
}

/// Whether a name is that of the glob, part by part, with numbers alone for its stars.
fn matches_by_number(glob: &str, name: &str) -> bool {
    let (mut wanted, mut found) = (glob.split('.'), name.split('.'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == found => {}
            (Some(wanted), Some(found)) => {
                let number = wanted.contains('*') && found.bytes().all(|byte| byte.is_ascii_digit());
                if !(number && glob_matches(wanted.as_bytes(), found.as_bytes())) {
                    return false;
                }
            }
            _ => return false,
        }
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

    fn names(patterns: &str) -> Result<Vec<String>, String> {
        let found = HookPattern::select(&HookPattern::list(patterns), &points());
        found
            .map(|points| points.iter().map(HookPoint::to_string).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_pattern_without_a_match_is_an_error_that_suggests() {
        assert!(names("blocks.9.hook_resid_post").unwrap_err().contains("`blocks.0.hook_resid_post`"));
        let error = names("blocks.*.mlp.exprts.*.hook_post").unwrap_err();
        assert!(error.contains("`blocks.*.mlp.experts.*.hook_post`"), "{error}");
        let error = names("blocks.*.mlp.routr.*").unwrap_err();
        assert!(error.contains("did you mean"), "{error}");
        assert!(names("nothing*like*it").unwrap_err().contains("did you mean"));
    }

    #[test]
    fn an_alternative_without_a_match_is_named() {
        let error = names("blocks.*.mlp.experts.{3,99}.hook_post").unwrap_err();
        assert!(error.contains("`blocks.*.mlp.experts.99.hook_post` matches no hook"), "{error}");
        assert!(names("blocks.{0,7}.hook_resid_post").unwrap_err().contains("`blocks.7.hook_resid_post`"));
    }

    #[test]
    fn names_of_other_tools_count_and_their_stars_are_numbers() {
        let last = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.2.hook_resid_post"];
        for pattern in ["blocks.*.hook_out", "resid_post.*", "resid_post.{0,1,2}", "*.hook_resid_post"] {
            assert_eq!(names(pattern).unwrap(), last, "{pattern}");
        }
        assert_eq!(names("resid_post.1").unwrap(), last[1..2]);
        assert_eq!(names("*").unwrap().len(), points().len());
        assert!(names("blocks.*.mlp.hook_expert_weights").unwrap_err().contains("means two things"));
    }
}
