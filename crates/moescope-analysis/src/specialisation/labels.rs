use moescope_trace::TokenTable;

/// What is known about each token, as dense codes: `codes[token]`, each below `values`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    name: String,
    codes: Vec<u32>,
    values: usize,
}

impl Labels {
    /// Labels of tokens; equal numbers are equal labels, and the numbers mean nothing else.
    pub fn new(name: impl Into<String>, raw: &[u32]) -> Labels {
        let mut distinct = raw.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let code = |label: &u32| {
            distinct.binary_search(label).expect("every label is among the distinct labels") as u32
        };
        Labels { name: name.into(), codes: raw.iter().map(code).collect(), values: distinct.len() }
    }

    /// The domain of each token.
    pub fn domain(tokens: &TokenTable) -> Labels {
        Labels::new("domain", &widen(&tokens.domains))
    }

    /// The id of each token.
    pub fn token(tokens: &TokenTable) -> Labels {
        Labels::new("token", &tokens.ids)
    }

    /// The id of the token that follows each token.
    pub fn next_token(tokens: &TokenTable) -> Labels {
        Labels::new("next_token", &tokens.next_ids)
    }

    /// The token that the model thinks likeliest after each token, as [`next_token`](Labels::next_token) is the one that follows.
    ///
    /// A function of what the layers have computed, routes among it: that experts tell it does not show that they decide it.
    pub fn predicted_token(ids: &[u32]) -> Labels {
        Labels::new("predicted_token", ids)
    }

    /// The class of each token, such as word or number.
    pub fn class(tokens: &TokenTable) -> Labels {
        Labels::new("class", &widen(&tokens.classes))
    }

    /// The position of each token in its window, in buckets that double: 0, 1–2, 3–6, 7–14, …
    pub fn position(tokens: &TokenTable) -> Labels {
        let buckets = tokens.positions.iter().map(|position| position_bucket(*position));
        Labels::new("position", &buckets.collect::<Vec<_>>())
    }

    /// What the labels are.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Label of each token.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// Number of distinct labels.
    pub fn values(&self) -> usize {
        self.values
    }
}

/// Bucket of a position; buckets double: 0, 1–2, 3–6, 7–14, …
pub(crate) fn position_bucket(position: u32) -> u32 {
    (u64::from(position) + 1).ilog2()
}

fn widen(column: &[u16]) -> Vec<u32> {
    column.iter().map(|x| u32::from(*x)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_renumbered_densely() {
        let labels = Labels::new("x", &[70, 5, 70, 9]);
        assert_eq!((labels.codes(), labels.values()), (&[2, 0, 2, 1][..], 3));
    }

    #[test]
    fn position_buckets_double() {
        let tokens = TokenTable { positions: vec![0, 1, 2, 3, 6, 7], ..TokenTable::default() };
        assert_eq!(Labels::position(&tokens).codes(), [0, 1, 1, 2, 2, 3]);
    }
}
