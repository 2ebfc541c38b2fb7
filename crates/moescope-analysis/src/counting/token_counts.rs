//! Choices by token id, for frequent ids by domain and half of the documents as well.

use moescope_trace::SumGroup;

use super::contingency::count_log;
use super::{Contingency, ExactSum, LabelInformation};

/// Rows of token ids: those of low ids, which tokenizers give to frequent pieces, by domain and half of the documents, all others by half alone.
///
/// How many are low follows from the number of domains: the largest power of two for which all domains together have room. So every slot is counted
/// once, and a row is worked out once for all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenRows {
    /// Rows of low ids, over all domains and halves.
    low_rows: usize,
    /// Rows of other ids: those beyond share the row of their remainder.
    rows: usize,
    /// Ids below this are low.
    limit: usize,
    domains: usize,
}

impl TokenRows {
    fn of(low_rows: usize, rows: usize, domains: usize) -> TokenRows {
        let most = (low_rows / (2 * domains).max(1)).clamp(1, rows);
        TokenRows { low_rows, rows, limit: 1 << most.ilog2(), domains }
    }

    /// Row of an id; `mark` is `2 · domain + half`.
    #[inline]
    pub(super) fn row(&self, mark: u32, id: u32) -> u32 {
        match (id as usize) < self.limit {
            true => mark * self.limit as u32 + id,
            false => self.other(mark % 2, id),
        }
    }

    /// Row of an id that is not low. Where all domains have too little room, low ones lie before all others still.
    fn other(&self, half: u32, id: u32) -> u32 {
        self.first_other() as u32 + 2 * (id % self.rows as u32) + half
    }

    fn first_other(&self) -> usize {
        self.low_rows.max(2 * self.domains)
    }

    /// Mark and id of a low row, or half and row of the id of another.
    fn named(&self, row: usize) -> Result<(usize, usize), (usize, usize)> {
        match row.checked_sub(self.first_other()) {
            None => Ok((row / self.limit, row % self.limit)),
            Some(other) => Err((other % 2, other / 2)),
        }
    }
}

/// Slots of one layer by token id and expert: of low ids by domain and half of the documents, of all others by half alone.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenCounts {
    at: TokenRows,
    pub(super) table: Contingency,
}

/// What the choice of an expert tells about the domain beyond the token.
///
/// - **Unit and range:** bits for each routed slot, from 0 to the entropy of the domain given the token. It may
///   be more than what the choice tells without the token: a token that goes one way in novels and another in
///   code tells nothing by itself.
/// - **Null:** `bias`, which takes slots for independent. Those of a document are not, so that a part of the
///   excess is found in nothing; a single trace exchanges whole documents instead.
/// - **Does not show:** what in the context decides, nor rare tokens.
/// - **Source:** conditional mutual information by counting, with the bias of Miller 1955 for each token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToldBeyondToken {
    /// Information, its bias and the entropy of the domain given the token: bits for each slot that was counted.
    pub information: LabelInformation,
    /// Token ids below this were counted.
    pub limit: usize,
}

const STATISTICS: [&str; 2] = ["domain_and_token", "token"];

/// Slots that an id must have for each domain and expert so that its bias is what the formula says.
pub(super) const SLOTS_PER_CELL: usize = 4;

impl TokenCounts {
    pub(super) fn new(experts: usize, low_rows: usize, rows: usize) -> TokenCounts {
        TokenCounts { at: TokenRows::of(low_rows, rows, 0), table: Contingency::new(experts) }
    }

    /// Where ids have their rows.
    pub(super) fn rows(&self) -> TokenRows {
        self.at
    }

    /// Makes room for so many domains, which may leave room for fewer low ids.
    pub(super) fn make_room(&mut self, domains: usize) {
        let before = self.at;
        self.at = TokenRows::of(before.low_rows, before.rows, domains);
        if (before.limit, before.first_other()) == (self.at.limit, self.at.first_other()) {
            return;
        }
        let fresh = Contingency::new(self.table.codes());
        let old = std::mem::replace(&mut self.table, fresh);
        for (row, expert, count) in old.cells() {
            let row = match before.named(row) {
                Ok((mark, id)) => self.at.row(mark as u32, id as u32),
                Err((half, id)) => self.at.other(half as u32, id as u32),
            };
            self.table.add_cell(row as usize, expert, i64::from(count));
        }
    }

    /// Slots by row of the id and expert, in each half of the documents.
    pub fn by_half(&self) -> [Contingency; 2] {
        let mut halves = [Contingency::new(self.table.codes()), Contingency::new(self.table.codes())];
        for (row, expert, count) in self.table.cells() {
            let (half, id) = match self.at.named(row) {
                Ok((mark, id)) => (mark % 2, id),
                Err(other) => other,
            };
            halves[half].add_cell(id, expert, i64::from(count));
        }
        halves
    }

    /// Slots by row of the id and expert, domains and halves together; ids beyond the rows share those of their
    /// remainders.
    pub fn all(&self) -> Contingency {
        let [mut first, second] = self.by_half();
        first.merge(&second);
        first
    }

    /// Cells by rank of the domain: the row of low ids is `(2 · rank + half) · low rows + id`, that of others `2 · row + half`.
    pub(super) fn groups(&self, layer: i64, ranks: &[usize]) -> [SumGroup; 2] {
        let (mut low, mut others) = (Vec::new(), Vec::new());
        for (row, expert, count) in self.table.cells() {
            let cell = |row: usize| (row as i64, expert as i64, i64::from(count));
            match self.at.named(row) {
                Ok((mark, id)) => {
                    low.push(cell((2 * ranks[mark / 2] + mark % 2) * self.at.low_rows + id));
                }
                Err((half, id)) => others.push(cell(2 * id + half)),
            }
        }
        low.sort_unstable();
        [SumGroup::of(STATISTICS[0], layer, low), SumGroup::of(STATISTICS[1], layer, others)]
    }

    /// Adds a cell of [`groups`](Self::groups), ranks by the names of the own domains; none where the statistic is another.
    pub(super) fn take(
        &mut self,
        statistic: &str,
        names: &[u32],
        (row, column): (usize, usize),
        sum: i64,
    ) -> Option<bool> {
        let place = STATISTICS.iter().position(|own| *own == statistic)?;
        let low = self.at.low_rows;
        let (half, id, domain) = match place {
            0 => ((row / low) % 2, row % low, names.get(row / low / 2)),
            _ => (row % 2, row / 2, Some(&0)),
        };
        let Some(domain) = domain.filter(|_| id < self.at.rows) else { return Some(false) };
        // What was low while there were fewer domains may be so no more.
        let (half, id) = (half as u32, id as u32);
        let row = if place == 0 { self.at.row(2 * domain + half, id) } else { self.at.other(half, id) };
        Some(self.table.add_cell(row as usize, column, sum))
    }

    /// Plug-in conditional information of domain and expert given the token, bits for each slot of the low ids.
    ///
    /// The bias is that of each token by itself, `Σ (domains − 1)(experts − 1) / (2 N ln 2)` over the ids with what each has in use (Miller 1955), as if
    /// slots were independent. Ids with fewer than four slots for each domain and expert are left out, since the formula does not hold
    /// for them. None where no id is left.
    pub fn told(&self) -> Option<ToldBeyondToken> {
        let (mut bits, mut entropy) = (ExactSum::default(), ExactSum::default());
        let (mut freedom, mut slots, mut labels) = (0u64, 0u64, 0usize);
        let experts = self.table.codes();
        for id in 0..self.at.limit {
            let table: Vec<Vec<u64>> = (0..self.at.domains).map(|domain| self.of_low(domain, id)).collect();
            let by_domain: Vec<u64> = table.iter().map(|row| row.iter().sum()).collect();
            let by_expert: Vec<u64> =
                (0..experts).map(|expert| table.iter().map(|row| row[expert]).sum()).collect();
            let all = by_domain.iter().sum::<u64>();
            if all < (SLOTS_PER_CELL * by_domain.len() * experts) as u64 {
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
            code_entropy: f64::NAN,
            labels,
            slots,
        };
        (slots > 0).then_some(ToldBeyondToken { information, limit: self.at.limit })
    }

    /// Slots of a low id in a domain by expert.
    fn of_low(&self, domain: usize, id: usize) -> Vec<u64> {
        let rows = [0, 1].map(|half| self.at.row((2 * domain + half) as u32, id as u32) as usize);
        let count = |expert| rows.iter().map(|row| u64::from(self.table.count(*row, expert))).sum();
        (0..self.table.codes()).map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens as domain, id and expert; all in the first half.
    fn counted(low_rows: usize, domains: usize, tokens: &[(u32, u32, u32)]) -> TokenCounts {
        let mut table = TokenCounts::new(2, low_rows, 16);
        table.make_room(domains);
        for (domain, id, expert) in tokens {
            let row = table.rows().row(2 * domain, *id);
            table.table.add([row], &[*expert], 1);
        }
        table
    }

    #[test]
    fn a_hand_worked_table() {
        // Token 0 goes by the domain, token 1 to expert 0 in both: one bit for half of the slots.
        let often = |tokens: &[(u32, u32, u32)]| tokens.repeat(16);
        let tokens = often(&[(0, 0, 0), (1, 0, 1), (0, 1, 0), (1, 1, 0)]);
        let told = counted(16, 2, &tokens).told().unwrap();
        assert!((told.information.bits - 0.5).abs() < 1e-12);
        assert!((told.information.label_entropy - 1.0).abs() < 1e-12);
        // One degree of freedom for token 0, none for token 1.
        assert!((told.information.bias - 1.0 / (128.0 * std::f64::consts::LN_2)).abs() < 1e-12);
        assert_eq!((told.limit, told.information.slots), (4, 64));
        // The token alone decides: domains have other tokens, and nothing is left.
        let tokens = often(&[(0, 0, 0), (0, 0, 0), (1, 1, 1), (1, 2, 1)]);
        assert_eq!(counted(16, 2, &tokens).told().unwrap().information.bits, 0.0);
        let beyond = counted(16, 2, &often(&[(0, 4, 0)]));
        assert!(beyond.told().is_none() && beyond.all().count(4, 0) == 16, "other ids count by themselves");
        assert!(counted(16, 2, &[(0, 0, 0), (1, 0, 1)]).told().is_none(), "too few slots for the bias");
    }

    #[test]
    fn more_domains_leave_room_for_fewer_ids_whatever_the_order() {
        let tokens = [(0, 7, 1), (0, 1, 1)].repeat(30);
        let mut early = counted(16, 1, &tokens);
        early.make_room(3);
        let late = counted(16, 3, &[(0, 1, 1), (0, 7, 1)].repeat(30));
        assert_eq!(early, late);
        assert_eq!(late.told().unwrap().limit, 2);
        // A store of one domain has more low ids than are wanted here.
        let mut merged = counted(16, 3, &[]);
        for group in counted(16, 1, &tokens).groups(0, &[0]) {
            for (row, column, sum) in group.cells() {
                let at = (row as usize, column as usize);
                assert_eq!(merged.take(&group.statistic, &[0], at, sum), Some(true));
            }
        }
        assert_eq!(merged, late);
        assert_eq!(merged.take("other", &[0], (0, 0), 1), None);
        for (statistic, row) in [(STATISTICS[0], 99), (STATISTICS[1], 32)] {
            assert_eq!(merged.take(statistic, &[0], (row, 0), 1), Some(false), "{statistic} {row}");
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
                let row = table.rows().row(2 * domain + token % 2, id);
                table.table.add([row], &[expert], 1);
            }
            let told = table.told().unwrap().information;
            excess += (told.bits / told.bias - 1.0) / 200.0;
        }
        // 210 degrees of freedom: the mean of 200 has a deviation of 0.7 %; the formula is one to first order.
        assert!(excess.abs() < 0.03, "{excess}");
    }
}
