//! Routed weight by domain: what standing committees are told by.
//!
//! Weights are real numbers, whose sums depend on their order where they are rounded on the way. Within a
//! document the order is that of its tokens, which no cutting changes; documents are then added exactly, so
//! that shards give the bits of one pass.
//!
//! The halves of the documents are kept apart, since two samples of one domain are what two domains are to be
//! held against: with few documents even these have not all of their weight in common.

use moescope_trace::SumGroup;

use super::ExactSum;

/// Weight that each expert of one layer got, by domain and half of the documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Masses {
    experts: usize,
    /// `[domain, half, expert]`.
    sums: Vec<ExactSum>,
}

const STATISTIC: &str = "masses";

impl Masses {
    pub(super) fn new(experts: usize) -> Masses {
        Masses { experts, sums: Vec::new() }
    }

    /// Makes room for so many domains.
    pub(super) fn make_room(&mut self, domains: usize) {
        self.sums.resize(domains * 2 * self.experts, ExactSum::default());
    }

    /// Adds the weights of one document, `[expert]`, which must have been summed in the order of its tokens.
    pub(super) fn add(&mut self, domain: u32, half: u8, weights: &[f64]) {
        let first = (domain as usize * 2 + half as usize) * self.experts;
        let own = &mut self.sums[first..first + self.experts];
        own.iter_mut().zip(weights).filter(|(_, weight)| **weight != 0.0).for_each(|(s, w)| s.add(*w));
    }

    /// Weight of each expert in one half of the documents of a domain: `[expert]`.
    pub fn of(&self, domain: usize, half: usize) -> Vec<f64> {
        let first = (domain * 2 + half) * self.experts;
        let sums = self.sums.get(first..first + self.experts).unwrap_or_default();
        sums.iter().map(ExactSum::value).collect()
    }

    /// Weight of each expert over all documents: `[expert]`, in the unit of the weights as applied.
    ///
    /// Where routers renormalise, all experts together have one for each token.
    pub fn all(&self) -> Vec<f64> {
        let of = |expert: usize| {
            let mut sum = ExactSum::default();
            self.sums.iter().skip(expert).step_by(self.experts).for_each(|part| sum.merge(part));
            sum.value()
        };
        (0..self.experts).map(of).collect()
    }

    /// The digits of every sum: the row is `(2 · rank of the domain + half) · experts + expert`, the column the digit.
    pub(super) fn group(&self, layer: i64, ranks: &[usize]) -> SumGroup {
        let mut cells = Vec::new();
        for (place, sum) in self.sums.iter().enumerate() {
            let (domain, rest) = (place / (2 * self.experts), place % (2 * self.experts));
            let row = (ranks[domain] * 2 * self.experts + rest) as i64;
            let digits = sum.cells().into_iter().enumerate().filter(|(_, digit)| *digit != 0);
            cells.extend(digits.map(|(digit, value)| (row, digit as i64, value)));
        }
        cells.sort_unstable();
        SumGroup::of(STATISTIC, layer, cells)
    }

    /// Adds a cell of [`group`](Self::group), ranks by the names of the own domains; none where the statistic is another.
    pub(super) fn take(
        &mut self,
        statistic: &str,
        names: &[u32],
        (row, column): (usize, usize),
        sum: i64,
    ) -> Option<bool> {
        if statistic != STATISTIC {
            return None;
        }
        let (rank, rest) = (row / (2 * self.experts), row % (2 * self.experts));
        let Some(domain) = names.get(rank) else { return Some(false) };
        let place = *domain as usize * 2 * self.experts + rest;
        Some(self.sums.get_mut(place).is_some_and(|own| own.add_cell(column, sum)))
    }
}
