/// Tokens that chose both of two experts, each pair counted once.
#[derive(Clone, Debug)]
pub struct Pairs {
    experts: usize,
    /// Tokens at `[expert, partner]` in the order in which a token listed them; the two orders add up to the pair.
    ordered: Vec<u32>,
}

/// Equal pairs are equal, in whatever order tokens listed them.
impl PartialEq for Pairs {
    fn eq(&self, other: &Pairs) -> bool {
        self.experts == other.experts && self.counts() == other.counts()
    }
}

impl Pairs {
    /// No token yet.
    pub fn new(experts: usize) -> Pairs {
        Pairs { experts, ordered: vec![0; experts * experts] }
    }

    /// Counts the sets of some tokens, each of `per_token` distinct experts.
    pub fn add(&mut self, choices: &[u32], per_token: usize) {
        for set in choices.chunks_exact(per_token) {
            for (slot, expert) in set.iter().enumerate() {
                let row = &mut self.ordered[*expert as usize * self.experts..][..self.experts];
                set[slot..].iter().for_each(|partner| row[*partner as usize] += 1);
            }
        }
    }

    /// Counts tokens that choose one expert each, so many for each expert.
    pub(super) fn add_single(&mut self, counts: &[u32]) {
        let diagonal = self.ordered.iter_mut().step_by(self.experts + 1);
        diagonal.zip(counts).for_each(|(own, more)| *own += more);
    }

    /// Tokens that chose both experts, whatever the order, and on the diagonal one: `[expert, expert]`.
    pub fn counts(&self) -> Vec<u32> {
        let n = self.experts;
        let mut counts = vec![0; n * n];
        for expert in 0..n {
            counts[expert * n + expert] = self.ordered[expert * n + expert];
            for partner in 0..expert {
                let both = self.ordered[expert * n + partner] + self.ordered[partner * n + expert];
                counts[expert * n + partner] = both;
                counts[partner * n + expert] = both;
            }
        }
        counts
    }

    /// Slots of each expert: `[expert]`.
    pub fn slots(&self) -> Vec<u64> {
        self.ordered.iter().step_by(self.experts + 1).map(|count| u64::from(*count)).collect()
    }

    /// Expert, partner and count, each pair once with the larger expert first.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (i64, i64, i64)> + '_ {
        let (n, counts) = (self.experts, self.counts());
        (0..n).flat_map(move |expert| (0..=expert).map(move |partner| (expert, partner))).map(
            move |(expert, partner)| (expert as i64, partner as i64, i64::from(counts[expert * n + partner])),
        )
    }

    /// Adds to one pair; whether there is such a pair and the count stays one.
    pub(crate) fn add_cell(&mut self, expert: usize, partner: usize, count: i64) -> bool {
        if expert.max(partner) >= self.experts {
            return false;
        }
        let cell = &mut self.ordered[expert * self.experts + partner];
        let sum = i64::from(*cell).checked_add(count).and_then(|sum| u32::try_from(sum).ok());
        sum.map(|sum| *cell = sum).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_worked_layer_and_its_cells() {
        let mut pairs = Pairs::new(4);
        pairs.add(&[0, 1, 1, 0, 0, 2, 3, 2], 2);
        assert_eq!(pairs.counts(), [3, 2, 1, 0, 2, 2, 0, 0, 1, 0, 2, 1, 0, 0, 1, 1]);
        assert_eq!(pairs.slots(), [3, 2, 2, 1]);
        let mut read = Pairs::new(4);
        assert!(pairs.cells().all(|(a, b, n)| read.add_cell(a as usize, b as usize, n)));
        assert_eq!((read.counts(), read.slots()), (pairs.counts(), pairs.slots()));
        assert!(!read.add_cell(4, 0, 1));
    }
}
