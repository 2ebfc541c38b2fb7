use moescope_trace::TokenTable;

use crate::grouped::grouped;

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
        let most = raw.iter().max().map_or(0, |most| *most as usize);
        let (codes, values) = if most < 4 * raw.len() { tabled(raw, most) } else { sorted(raw) };
        Labels { name: name.into(), codes, values }
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

    /// Tokens by another label and, within it, by this one.
    pub(super) fn order_within(&self, given: &Labels) -> Vec<u32> {
        let tokens = 0..self.codes.len() as u32;
        let own = |token: u32| (self.codes[token as usize] as usize, token);
        let (by_label, _) = grouped(self.values, || tokens.clone().map(own));
        let by_both = || by_label.iter().map(|token| (given.codes[*token as usize] as usize, *token));
        grouped(given.values, by_both).0
    }

    /// The labels of these tokens, in this order.
    pub(super) fn reordered(&self, order: &[u32]) -> Labels {
        let codes = order.iter().map(|token| self.codes[*token as usize]).collect();
        Labels { name: self.name.clone(), codes, values: self.values }
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

/// Ranks of labels that are not much larger than there are tokens, and how many labels there are.
fn tabled(raw: &[u32], most: usize) -> (Vec<u32>, usize) {
    let mut code = vec![0; most + 1]; // [label]
    raw.iter().for_each(|label| code[*label as usize] = 1);
    let mut values = 0;
    code.iter_mut().for_each(|own| (values, *own) = (values + *own, values));
    (raw.iter().map(|label| code[*label as usize]).collect(), values as usize)
}

/// The same of any labels.
fn sorted(raw: &[u32]) -> (Vec<u32>, usize) {
    let mut distinct = raw.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let code =
        |label: &u32| distinct.binary_search(label).expect("every label is among the distinct labels") as u32;
    (raw.iter().map(code).collect(), distinct.len())
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
        let raw = [3, 0, 3, 1, 1];
        assert_eq!((tabled(&raw, 3), sorted(&raw)), ((vec![2, 0, 2, 1, 1], 3), (vec![2, 0, 2, 1, 1], 3)));
        assert_eq!(Labels::new("x", &[]).values(), 0);
    }

    #[test]
    fn tokens_are_put_in_order_by_what_is_given_first() {
        let (own, given) = (Labels::new("x", &[1, 0, 0, 1, 0]), Labels::new("given", &[2, 1, 2, 1, 2]));
        let order = own.order_within(&given);
        assert_eq!(order, [1, 3, 2, 4, 0]);
        assert_eq!(own.reordered(&order).codes(), [0, 1, 0, 0, 1]);
    }

    #[test]
    fn position_buckets_double() {
        let tokens = TokenTable { positions: vec![0, 1, 2, 3, 6, 7], ..TokenTable::default() };
        assert_eq!(Labels::position(&tokens).codes(), [0, 1, 1, 2, 2, 3]);
    }
}
