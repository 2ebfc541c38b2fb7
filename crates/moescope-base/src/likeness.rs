//! What was probably meant by a name that is not known.

use strsim::osa_distance;

/// The candidate that is most like a name, if one is like it at all: at most a third of the name's letters, or one, are inserted,
/// removed, replaced or swapped with a neighbour. Of equally like ones the first.
///
/// ```
/// assert_eq!(moescope_base::nearest_name("stesp", ["steps", "batch"]), Some("steps"));
/// assert_eq!(moescope_base::nearest_name("colour", ["steps", "batch"]), None);
/// ```
pub fn nearest_name<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|candidate| (osa_distance(name, candidate), candidate));
    let (distance, nearest) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= (name.chars().count() / 3).max(1)).then_some(nearest)
}

/// Up to three of the candidates that differ least from a name, best first; looser than [`nearest_name`], since names of hooks
/// are long and differ in their middle.
pub(crate) fn nearest_names(name: &str, candidates: impl Iterator<Item = String>) -> Vec<String> {
    let limit = (name.chars().count() / 3).max(3);
    let mut scored: Vec<(usize, String)> = candidates
        .map(|candidate| (osa_distance(name, &candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_like_name_is_suggested() {
        assert_eq!(nearest_name("granularty", ["granularity", "d_ff"]), Some("granularity"));
        assert_eq!(nearest_name("d_fef", ["d_eff"]), Some("d_eff"));
        assert_eq!(nearest_name("x", []), None);
    }

    #[test]
    fn the_best_of_several_comes_first() {
        let names = ["hook_z", "hook_q", "unembed"].map(String::from);
        assert_eq!(nearest_names("hook_zz", names.into_iter()), ["hook_z", "hook_q"]);
    }
}
