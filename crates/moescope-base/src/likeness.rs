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

/// Up to three of the candidates that differ least from a name, best first, and one at least where there is any; looser than
/// [`nearest_name`], since names of hooks are long and differ in their middle. A `*` in the name stands for any run of characters.
pub(crate) fn nearest_names(name: &str, candidates: impl Iterator<Item = String>) -> Vec<String> {
    let limit = (name.chars().count() / 3).max(3);
    let distance = |candidate: &str| match name.contains('*') {
        true => distance_from_glob(name, candidate),
        false => osa_distance(name, candidate),
    };
    let mut scored: Vec<(usize, String)> =
        candidates.map(|candidate| (distance(&candidate), candidate)).collect();
    scored.sort();
    scored.dedup();
    let like = scored.iter().take_while(|(distance, _)| *distance <= limit).count();
    scored.into_iter().take(like.clamp(1, 3)).map(|(_, candidate)| candidate).collect()
}

/// Letters that must be inserted, removed or replaced in a name before the glob matches it.
fn distance_from_glob(glob: &str, name: &str) -> usize {
    let name: Vec<char> = name.chars().collect();
    // Distances of what was read of the glob so far from every beginning of the name.
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for letter in glob.chars() {
        let mut next = vec![row[0] + usize::from(letter != '*')];
        for (place, found) in name.iter().enumerate() {
            next.push(match letter {
                '*' => row[place + 1].min(next[place]),
                _ => {
                    (row[place] + usize::from(letter != *found)).min(row[place + 1] + 1).min(next[place] + 1)
                }
            });
        }
        row = next;
    }
    row[name.len()]
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
        assert_eq!(nearest_names("quite another", ["hook_z".to_owned()].into_iter()), ["hook_z"]);
        assert!(nearest_names("x", std::iter::empty()).is_empty());
    }

    #[test]
    fn a_star_costs_nothing() {
        for (glob, distance) in
            [("*", 0), ("ab*", 0), ("a*d", 0), ("*x", 1), ("b*e", 2), ("", 4), ("abcd*z", 1)]
        {
            assert_eq!(distance_from_glob(glob, "abcd"), distance, "{glob}");
        }
    }
}
