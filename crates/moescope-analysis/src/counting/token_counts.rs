//! Choices by token id, for frequent ids by domain and half of the documents as well.

use moescope_trace::SumGroup;

use super::contingency::count_log;
use super::layer::renamed;
use super::{Contingency, ExactSum, LabelInformation};

/// Slots of one layer by token id and expert.
///
/// Low ids, which tokenizers give to frequent pieces, are kept apart by domain and half, all others by half alone. How many are low follows from
/// the number of domains: the largest power of two for which all domains together have room. So every slot is counted once.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenCounts {
    /// Rows of low ids, over all domains and halves.
    low_rows: usize,
    /// Rows of other ids: those beyond share the row of their remainder.
    rows: usize,
    /// Ids below this are low.
    limit: usize,
    /// Low ids: `[2 · domain + half]`, rows by id.
    low: Vec<Contingency>,
    /// Other ids: `[half]`.
    others: [Contingency; 2],
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

const STATISTICS: [&str; 2] = ["domain_and_token", "token"];

impl TokenCounts {
    pub(super) fn new(experts: usize, low_rows: usize, rows: usize) -> TokenCounts {
        let others = [Contingency::new(experts), Contingency::new(experts)];
        TokenCounts { low_rows, rows, limit: rows.min(low_rows), low: Vec::new(), others, experts }
    }

    /// Makes room for so many domains, which may leave room for fewer low ids.
    pub(super) fn make_room(&mut self, domains: usize) {
        self.low.resize_with(2 * domains, || Contingency::new(self.experts));
        let most = (self.low_rows / (2 * domains).max(1)).clamp(1, self.rows);
        let limit = 1 << most.ilog2();
        for (place, table) in self.low.iter_mut().enumerate() {
            for (id, expert, count) in table.cells().filter(|cell| cell.0 >= limit) {
                self.others[place % 2].add_cell(id, expert, i64::from(count));
            }
            table.truncate(limit);
        }
        self.limit = limit;
    }

    /// Counts what a token chose; `mark` is `2 · domain + half`, `row` that of its id.
    #[inline]
    pub(super) fn add(&mut self, mark: u32, row: u32, id: u32, set: &[u32]) {
        let table = match (id as usize) < self.limit {
            true => &mut self.low[mark as usize],
            false => &mut self.others[(mark & 1) as usize],
        };
        table.add_one(row, set);
    }

    /// Slots by row of the id and expert, in each half of the documents.
    pub fn by_half(&self) -> [Contingency; 2] {
        [0, 1].map(|half| {
            let mut sum = self.others[half].clone();
            self.low.iter().skip(half).step_by(2).for_each(|table| sum.merge(table));
            sum
        })
    }

    /// Slots by row of the id and expert.
    pub fn all(&self) -> Contingency {
        let [mut first, second] = self.by_half();
        first.merge(&second);
        first
    }

    /// Cells by rank of the domain: the row of low ids is `(2 · rank + half) · low rows + id`, that of others `2 · row + half`.
    pub(super) fn groups(&self, layer: i64, ranks: &[usize]) -> [SumGroup; 2] {
        let mut cells = Vec::new();
        for (place, table) in self.low.iter().enumerate() {
            let first = (2 * ranks[place / 2] + place % 2) * self.low_rows;
            cells.extend(renamed(table, |id| first + id));
        }
        cells.sort_unstable();
        let mut others = renamed(&self.others[0], |row| 2 * row);
        others.extend(renamed(&self.others[1], |row| 2 * row + 1));
        others.sort_unstable();
        [SumGroup::of(STATISTICS[0], layer, cells), SumGroup::of(STATISTICS[1], layer, others)]
    }

    /// Adds a cell of [`groups`](Self::groups), ranks by the names of the own domains; none where the statistic is another.
    pub(super) fn take(
        &mut self,
        statistic: &str,
        names: &[u32],
        row: i64,
        column: i64,
        sum: i64,
    ) -> Option<bool> {
        let place = STATISTICS.iter().position(|own| *own == statistic)?;
        let (Ok(row), Ok(column)) = (usize::try_from(row), usize::try_from(column)) else {
            return Some(false);
        };
        let (half, row, domain) = match place {
            0 => ((row / self.low_rows) % 2, row % self.low_rows, names.get(row / self.low_rows / 2)),
            _ => (row % 2, row / 2, Some(&0)),
        };
        let Some(domain) = domain.filter(|_| row < self.rows) else { return Some(false) };
        // What was low while there were fewer domains may be so no more.
        let low = place == 0 && row < self.limit;
        let table = if low { &mut self.low[2 * *domain as usize + half] } else { &mut self.others[half] };
        Some(table.add_cell(row, column, sum))
    }

    /// Plug-in conditional information of domain and expert given the token, bits for each slot of the low ids.
    ///
    /// The bias is that of each token by itself, `Σ (domains − 1)(experts − 1) / (2 N ln 2)` over the ids with what each has in use (Miller 1955), as if
    /// slots were independent. None where nothing was counted.
    pub fn told(&self) -> Option<ToldBeyondToken> {
        let (mut bits, mut entropy) = (ExactSum::default(), ExactSum::default());
        let (mut freedom, mut slots, mut labels) = (0u64, 0u64, 0usize);
        for id in 0..self.low.iter().map(Contingency::labels).max().unwrap_or(0) {
            let table: Vec<Vec<u64>> =
                self.low.chunks_exact(2).map(|halves| self.of_id(halves, id)).collect();
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

    /// Slots of a low id in a domain by expert.
    fn of_id(&self, halves: &[Contingency], id: usize) -> Vec<u64> {
        let count = |expert| halves.iter().map(|half| u64::from(half.count(id, expert))).sum();
        (0..self.experts).map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens as domain, id and expert; all in the first half.
    fn counted(low_rows: usize, domains: usize, tokens: &[(u32, u32, u32)]) -> TokenCounts {
        let mut table = TokenCounts::new(2, low_rows, 16);
        table.make_room(domains);
        tokens.iter().for_each(|(domain, id, expert)| table.add(2 * domain, *id, *id, &[*expert]));
        table
    }

    #[test]
    fn a_hand_worked_table() {
        // Token 0 goes by the domain, token 1 to expert 0 in both: one bit for half of the slots.
        let tokens = [(0, 0, 0), (1, 0, 1), (0, 1, 0), (1, 1, 0)];
        let told = counted(16, 2, &tokens).told().unwrap();
        assert!((told.information.bits - 0.5).abs() < 1e-12);
        assert!((told.information.label_entropy - 1.0).abs() < 1e-12);
        // One degree of freedom for token 0, none for token 1.
        assert!((told.information.bias - 1.0 / (8.0 * std::f64::consts::LN_2)).abs() < 1e-12);
        assert_eq!((told.limit, told.information.slots), (4, 4));
        // The token alone decides: domains have other tokens, and nothing is left.
        let tokens = [(0, 0, 0), (0, 0, 0), (1, 1, 1), (1, 2, 1)];
        assert_eq!(counted(16, 2, &tokens).told().unwrap().information.bits, 0.0);
        let beyond = counted(16, 2, &[(0, 4, 0)]);
        assert!(beyond.told().is_none() && beyond.all().count(4, 0) == 1, "other ids count by themselves");
    }

    #[test]
    fn more_domains_leave_room_for_fewer_ids_whatever_the_order() {
        let mut early = counted(16, 1, &[(0, 7, 1), (0, 1, 1)]);
        early.make_room(3);
        let late = counted(16, 3, &[(0, 1, 1), (0, 7, 1)]);
        assert_eq!(early, late);
        assert_eq!(late.told().unwrap().limit, 2);
        // A store of one domain has more low ids than are wanted here.
        let mut merged = counted(16, 3, &[]);
        for group in counted(16, 1, &[(0, 7, 1), (0, 1, 1)]).groups(0, &[0]) {
            for (row, column, sum) in group.cells() {
                assert_eq!(merged.take(&group.statistic, &[0], row, column, sum), Some(true));
            }
        }
        assert_eq!(merged, late);
        assert_eq!(merged.take("other", &[0], 0, 0, 1), None);
        for (statistic, row) in [(STATISTICS[0], 99), (STATISTICS[0], -1), (STATISTICS[1], 32)] {
            assert_eq!(merged.take(statistic, &[0], row, 0, 1), Some(false), "{statistic} {row}");
        }
    }

    #[test]
    fn with_nothing_to_find_the_bias_is_what_is_found() {
        use rand::RngExt;
        let mut rng = moescope_base::Seed(3).rng();
        let mut excess = 0.0;
        for _ in 0..200 {
            // The token decides with noise; the domain goes with the token.
            let mut table = TokenCounts::new(8, 128, 16);
            table.make_room(4);
            for token in 0..16_000 {
                let id = rng.random_range(0..10u32);
                let domain = if rng.random::<f64>() < 0.5 { id % 4 } else { rng.random_range(0..4) };
                let expert = if rng.random::<f64>() < 0.3 { id % 8 } else { rng.random_range(0..8) };
                table.add(2 * domain + token % 2, id, id, &[expert]);
            }
            let told = table.told().unwrap().information;
            excess += (told.bits / told.bias - 1.0) / 200.0;
        }
        // 210 degrees of freedom: the mean of 200 has a deviation of 0.7 %; the formula is one to first order.
        assert!(excess.abs() < 0.03, "{excess}");
    }
}
