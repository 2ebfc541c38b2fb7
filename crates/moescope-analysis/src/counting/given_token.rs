//! What experts tell of the domain of a text once the token is known.

use moescope_trace::SumGroup;

use super::contingency::count_log;
use super::layer::renamed;
use super::{Contingency, ExactSum, LabelInformation};

/// Slots of one layer by domain, token id and expert, for the low token ids.
///
/// Tokenizers number frequent pieces first, so that low ids are most of a text. How many have rows follows from the number of domains alone: the
/// largest power of two for which all domains together have room.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenToken {
    /// Rows of all domains together.
    rows: usize,
    /// Ids below this are counted.
    limit: usize,
    /// One table for each domain, rows by token id.
    domains: Vec<Contingency>,
    experts: usize,
}

/// What the choice of an expert tells about the domain beyond the token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToldBeyondToken {
    /// Information, its bias and the entropy of the domain given the token: bits for each slot that was counted.
    pub information: LabelInformation,
    /// Token ids below this were counted.
    pub limit: usize,
}

const STATISTIC: &str = "domain_given_token";

impl GivenToken {
    pub(super) fn new(experts: usize, rows: usize) -> GivenToken {
        GivenToken { rows, limit: rows, domains: Vec::new(), experts }
    }

    /// Makes room for so many domains, which may leave room for fewer ids.
    pub(super) fn make_room(&mut self, domains: usize) {
        self.domains.resize_with(domains, || Contingency::new(self.experts));
        let most = (self.rows / domains.max(1)).max(1);
        self.limit = 1 << most.ilog2();
        self.domains.iter_mut().for_each(|table| table.truncate(self.limit));
    }

    /// Counts what a token of a domain chose.
    #[inline]
    pub(super) fn add(&mut self, domain: u32, id: u32, set: &[u32]) {
        if (id as usize) < self.limit {
            self.domains[domain as usize].add_one(id, set);
        }
    }

    /// Cells of the domains by rank: the row is `rank · rows + id`.
    pub(super) fn group(&self, layer: i64, ranks: &[usize]) -> SumGroup {
        let mut cells = Vec::new();
        for (table, rank) in self.domains.iter().zip(ranks) {
            cells.extend(renamed(table, |row| rank * self.rows + row));
        }
        cells.sort_unstable();
        SumGroup::of(STATISTIC, layer, cells)
    }

    /// Adds a cell of [`group`](Self::group), ranks by the names of the own domains; none where the statistic is another.
    pub(super) fn take(
        &mut self,
        statistic: &str,
        names: &[u32],
        row: i64,
        column: i64,
        sum: i64,
    ) -> Option<bool> {
        if statistic != STATISTIC {
            return None;
        }
        let (Ok(row), Ok(column)) = (usize::try_from(row), usize::try_from(column)) else {
            return Some(false);
        };
        let (rank, id) = (row / self.rows, row % self.rows);
        let Some(domain) = names.get(rank) else { return Some(false) };
        // What was counted while there were fewer domains may lie beyond the limit of today.
        Some(id >= self.limit || self.domains[*domain as usize].add_cell(id, column, sum))
    }

    /// Plug-in conditional information of domain and expert given the token, bits for each slot of the counted ids.
    ///
    /// The bias is that of each token by itself, `Σ (domains − 1)(experts − 1) / (2 N ln 2)` over the ids with what each has in use (Miller 1955), as if
    /// slots were independent. None where nothing was counted.
    pub fn told(&self) -> Option<ToldBeyondToken> {
        let (mut bits, mut entropy) = (ExactSum::default(), ExactSum::default());
        let (mut freedom, mut slots, mut labels) = (0u64, 0u64, 0usize);
        for id in 0..self.domains.iter().map(Contingency::labels).max().unwrap_or(0) {
            let table: Vec<Vec<u64>> = self.domains.iter().map(|domain| of_id(domain, id)).collect();
            let by_domain: Vec<u64> = table.iter().map(|row| row.iter().sum()).collect();
            let by_expert: Vec<u64> =
                (0..self.experts).map(|expert| table.iter().map(|row| row[expert]).sum()).collect();
            let all = by_domain.iter().sum::<u64>();
            if all == 0 {
                continue;
            }
            table.iter().flatten().for_each(|count| bits.add(count_log(*count)));
            by_expert.iter().for_each(|count| bits.add(-count_log(*count)));
            for count in &by_domain {
                bits.add(-count_log(*count));
                entropy.add(-count_log(*count));
            }
            [&mut bits, &mut entropy].into_iter().for_each(|sum| sum.add(count_log(all)));
            let used = |counts: &[u64]| counts.iter().filter(|count| **count > 0).count() as u64;
            freedom += (used(&by_domain) - 1) * (used(&by_expert) - 1);
            slots += all;
            labels += used(&by_domain) as usize;
        }
        let n = slots as f64;
        let information = LabelInformation {
            bits: (bits.value() / n).max(0.0),
            bias: freedom as f64 / (2.0 * n * std::f64::consts::LN_2),
            label_entropy: (entropy.value() / n).max(0.0),
            labels,
            slots,
        };
        (slots > 0).then_some(ToldBeyondToken { information, limit: self.limit })
    }
}

/// Slots of a token id by expert.
fn of_id(domain: &Contingency, id: usize) -> Vec<u64> {
    (0..domain.codes()).map(|expert| u64::from(domain.count(id, expert))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(rows: usize, domains: usize, tokens: &[(u32, u32, u32)]) -> GivenToken {
        let mut table = GivenToken::new(2, rows);
        table.make_room(domains);
        tokens.iter().for_each(|(domain, id, expert)| table.add(*domain, *id, &[*expert]));
        table
    }

    #[test]
    fn a_hand_worked_table() {
        // Token 0 goes by the domain, token 1 to expert 0 in both: one bit for half of the slots.
        let tokens = [(0, 0, 0), (1, 0, 1), (0, 1, 0), (1, 1, 0)];
        let told = counted(8, 2, &tokens).told().unwrap();
        assert!((told.information.bits - 0.5).abs() < 1e-12);
        assert!((told.information.label_entropy - 1.0).abs() < 1e-12);
        // One degree of freedom for token 0, none for token 1.
        assert!((told.information.bias - 1.0 / (8.0 * std::f64::consts::LN_2)).abs() < 1e-12);
        assert_eq!((told.limit, told.information.slots), (4, 4));
        // The token alone decides: domains have other tokens, and nothing is left.
        let tokens = [(0, 0, 0), (0, 0, 0), (1, 1, 1), (1, 2, 1)];
        assert_eq!(counted(8, 2, &tokens).told().unwrap().information.bits, 0.0);
        assert!(counted(8, 2, &[(0, 4, 0)]).told().is_none(), "ids beyond the limit are not counted");
    }

    #[test]
    fn more_domains_leave_room_for_fewer_ids_whatever_the_order() {
        let mut early = counted(8, 1, &[(0, 7, 1), (0, 1, 1)]);
        early.make_room(3);
        let late = counted(8, 3, &[(0, 1, 1), (0, 7, 1)]);
        assert_eq!(early, late);
        assert_eq!(late.told().unwrap().limit, 2);
        // A store of one domain keeps more ids than are wanted here.
        let one = counted(8, 1, &[(0, 7, 1), (0, 1, 1)]).group(0, &[0]);
        let mut merged = counted(8, 3, &[]);
        for (row, column, sum) in one.cells() {
            assert_eq!(merged.take(STATISTIC, &[0], row, column, sum), Some(true));
        }
        assert_eq!(merged, late);
        assert_eq!(merged.take("other", &[0], 0, 0, 1), None);
        assert_eq!(merged.take(STATISTIC, &[0], 99, 0, 1), Some(false));
    }

    #[test]
    fn with_nothing_to_find_the_bias_is_what_is_found() {
        use rand::RngExt;
        let mut rng = moescope_base::Seed(3).rng();
        let mut excess = 0.0;
        for _ in 0..200 {
            // The token decides with noise; the domain goes with the token.
            let mut table = GivenToken::new(8, 64);
            table.make_room(4);
            for _ in 0..16_000 {
                let id = rng.random_range(0..10u32);
                let domain = if rng.random::<f64>() < 0.5 { id % 4 } else { rng.random_range(0..4) };
                let expert = if rng.random::<f64>() < 0.3 { id % 8 } else { rng.random_range(0..8) };
                table.add(domain, id, &[expert]);
            }
            let told = table.told().unwrap().information;
            excess += (told.bits / told.bias - 1.0) / 200.0;
        }
        // 210 degrees of freedom: the mean of 200 has a deviation of 0.7 %; the formula is one to first order.
        assert!(excess.abs() < 0.03, "{excess}");
    }
}
