//! How often what tokens chose meets what they are.

use super::Choices;
use super::grouping::Cells;
use crate::grouped::grouped;

/// Counts of the choices that are counted together, at most: two megabytes, which a core's cache holds.
const MOST_COUNTS: usize = 1 << 19;

/// Several choices of the same tokens, laid out for counting them in any cells.
///
/// Tokens of a cell lie anywhere in a text, and fetching what they chose would be all that counting costs. Choices of few values are counted in all cells at
/// once, in one walk through the text. Of the others the tokens of each value are listed, and one value after the other is counted:
/// what is fetched then is a number for each token, whatever it chose.
///
/// - **Memory:** two bytes for each slot of a choice that is walked, four for each slot of one that is listed; for each draw at work two megabytes
///   and four bytes for each cell.
/// - **Exact:** sums are of whole numbers, so that both ways, and any order of tokens, give the same to the bit.
pub(super) struct JointCounts {
    walked: Walked,
    listed: Vec<Listed>,
    /// Slots of a token in each choice.
    per_token: Vec<usize>,
}

/// Choices of few values.
struct Walked {
    /// Codes, numbered on from choice to choice: `[token, slot]`.
    codes: Vec<u16>,
    /// Slots of a token in all these choices together.
    slots: usize,
    /// Place of each among the choices, with its values.
    choices: Vec<(usize, usize)>,
    /// Values of all these choices together.
    values: usize,
}

/// A choice of many values.
struct Listed {
    /// Place among the choices.
    choice: usize,
    /// Tokens of each value, one for each slot. What is chosen once tells nothing that counts: `1 log 1` is 0.
    tokens: Vec<u32>,
    /// End of each value in `tokens`.
    ends: Vec<u32>,
}

/// What is counted into, made once for many draws.
///
/// Draws that run side by side have one each.
#[derive(Default)]
pub(super) struct Room {
    walked: Vec<u32>,
    cells: Vec<u32>,
}

impl JointCounts {
    /// Choices whose tokens will lie in so many cells at most, and are numbered in this order where one is given.
    pub(super) fn new(choices: &[Choices<'_>], most_cells: usize, order: Option<&[u32]>) -> JointCounts {
        let mut few: Vec<usize> = (0..choices.len()).collect();
        few.sort_by_key(|choice| choices[*choice].values());
        let mut values = 0;
        few.retain(|choice| {
            let more = values + choices[*choice].values();
            let fits = more <= usize::from(u16::MAX) + 1 && more.saturating_mul(most_cells) <= MOST_COUNTS;
            values = if fits { more } else { values };
            fits
        });
        few.sort_unstable();
        let listed = (0..choices.len()).filter(|choice| few.binary_search(choice).is_err());
        JointCounts {
            listed: listed.map(|choice| Listed::new(choice, choices[choice], order)).collect(),
            walked: Walked::new(&few, choices, order),
            per_token: choices.iter().map(Choices::per_token).collect(),
        }
    }

    /// Room for counting.
    pub(super) fn room(&self) -> Room {
        Room::default()
    }

    /// For each choice, slots times the entropy of its codes within each cell, summed over cells, in units of the logarithms.
    pub(super) fn uncertainties(&self, cells: &Cells, room: &mut Room, logs: &CountLogs) -> Vec<i64> {
        let sizes = cells.sizes();
        let of_slots = |slots: &usize| sizes.iter().map(|size| logs.of(*size as usize * slots)).sum::<i64>();
        let mut sums: Vec<i64> = self.per_token.iter().map(of_slots).collect();
        self.walked.subtract(cells, &mut room.walked, logs, &mut sums);
        room.cells.clear();
        room.cells.resize(cells.count, 0);
        for listed in &self.listed {
            sums[listed.choice] -= listed.within(&cells.of, &mut room.cells, logs);
        }
        sums
    }
}

impl Walked {
    fn new(few: &[usize], choices: &[Choices<'_>], order: Option<&[u32]>) -> Walked {
        let mut values = 0;
        let mut firsts = Vec::new();
        for choice in few {
            firsts.push(values as u32);
            values += choices[*choice].values();
        }
        let tokens = few.first().map_or(0, |choice| choices[*choice].tokens());
        let codes = (0..tokens).flat_map(|token| {
            let of_choice = move |(choice, first): (&usize, &u32)| {
                let first = *first;
                choices[*choice].of(token_at(order, token)).iter().map(move |code| (code + first) as u16)
            };
            few.iter().zip(&firsts).flat_map(of_choice)
        });
        Walked {
            codes: codes.collect(),
            slots: few.iter().map(|choice| choices[*choice].per_token()).sum(),
            choices: few.iter().map(|choice| (*choice, choices[*choice].values())).collect(),
            values,
        }
    }

    /// Takes the logarithms of all counts off the sums of their choices.
    fn subtract(&self, cells: &Cells, counts: &mut Vec<u32>, logs: &CountLogs, sums: &mut [i64]) {
        if self.slots == 0 {
            return;
        }
        counts.clear();
        counts.resize(cells.count * self.values, 0);
        for (cell, codes) in cells.of.iter().zip(self.codes.chunks_exact(self.slots)) {
            let own = &mut counts[*cell as usize * self.values..][..self.values];
            codes.iter().for_each(|code| own[usize::from(*code)] += 1);
        }
        for cell in counts.chunks_exact(self.values) {
            let mut rest = cell;
            for (choice, values) in &self.choices {
                let own;
                (own, rest) = rest.split_at(*values);
                sums[*choice] -= own.iter().map(|count| logs.of(*count as usize)).sum::<i64>();
            }
        }
    }
}

impl Listed {
    fn new(choice: usize, choices: Choices<'_>, order: Option<&[u32]>) -> Listed {
        let mut counts = vec![0u32; choices.values()];
        let of = |token| choices.of(token_at(order, token)).iter().map(move |code| (token, *code));
        let all = || (0..choices.tokens()).flat_map(of);
        all().for_each(|(_, code)| counts[code as usize] += 1);
        let several = || all().filter(|(_, code)| counts[*code as usize] > 1);
        let (tokens, ends) =
            grouped(counts.len(), || several().map(|(token, code)| (code as usize, token as u32)));
        Listed { choice, tokens, ends }
    }

    /// Sum over values and cells of the logarithms of how often they meet; `counts` are zero before and after.
    fn within(&self, cell_of: &[u32], counts: &mut [u32], logs: &CountLogs) -> i64 {
        let (mut sum, mut start) = (0, 0);
        for end in &self.ends {
            let tokens = &self.tokens[start..*end as usize];
            start = *end as usize;
            match tokens {
                [one, other] if cell_of[*one as usize] == cell_of[*other as usize] => sum += logs.of(2),
                [_, _] => {}
                _ => {
                    tokens.iter().for_each(|token| counts[cell_of[*token as usize] as usize] += 1);
                    // The first token of a cell takes the count, and the others find 0, whose logarithm counts as 0.
                    let take = |token: &u32| std::mem::take(&mut counts[cell_of[*token as usize] as usize]);
                    sum += tokens.iter().map(take).map(|count| logs.of(count as usize)).sum::<i64>();
                }
            }
        }
        sum
    }
}

/// The token at a place of an order; the places are those of the text where there is none.
fn token_at(order: Option<&[u32]>, place: usize) -> usize {
    order.map_or(place, |order| order[place] as usize)
}

/// `count * log2(count)` as whole numbers of a small unit, tabulated for the counts that are frequent.
///
/// Sums of whole numbers do not depend on their order. What is equal in theory is then equal to the bit, whatever the names and places of
/// codes and groups, which ranks among draws need.
pub(super) struct CountLogs {
    table: Vec<i64>,
    /// Units of a bit.
    scale: f64,
}

/// Counts that are looked up.
const TABULATED: usize = 1 << 13;

impl CountLogs {
    /// Logarithms whose sums over any parts of so many slots fit: the sum is at most that of the whole.
    pub(super) fn up_to(largest: usize) -> CountLogs {
        let scale = 2f64.powi(61 - count_log(largest).max(1.0).log2().ceil() as i32);
        let of = |count: usize| (count_log(count) * scale).round() as i64;
        CountLogs { table: (0..=largest.min(TABULATED)).map(of).collect(), scale }
    }

    /// Units for a count.
    pub(super) fn of(&self, count: usize) -> i64 {
        let beyond = || (count_log(count) * self.scale).round() as i64;
        self.table.get(count).copied().unwrap_or_else(beyond)
    }

    /// Bits for so many units.
    pub(super) fn bits(&self, units: i64) -> f64 {
        units as f64 / self.scale
    }
}

fn count_log(count: usize) -> f64 {
    if count < 2 { 0.0 } else { count as f64 * (count as f64).log2() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    use super::*;

    /// One cell after the other.
    fn slow(choice: Choices<'_>, cells: &Cells, logs: &CountLogs) -> i64 {
        let (mut met, mut slots) = (BTreeMap::new(), BTreeMap::new());
        for (token, cell) in cells.of.iter().enumerate() {
            for code in choice.of(token) {
                *met.entry((*cell, *code)).or_insert(0) += 1;
                *slots.entry(*cell).or_insert(0) += 1;
            }
        }
        let sum = |counts: Vec<usize>| counts.into_iter().map(|count| logs.of(count)).sum::<i64>();
        sum(slots.into_values().collect()) - sum(met.into_values().collect())
    }

    proptest! {
        /// With a limit on cells that leaves all choices to the walk, some, or none.
        #[test]
        fn every_layout_counts_the_same(seed in 0u64..200, most_cells in prop::sample::select(vec![5, 100_000, 1 << 20])) {
            let mut rng = Seed(seed).rng();
            let tokens = 90;
            let mut draw = |count: usize, limit: u32| -> Vec<u32> {
                (0..count).map(|_| rng.random_range(0..limit)).collect()
            };
            let (one, two, three) = (draw(2 * tokens, 3), draw(tokens, 40), draw(tokens, 200));
            let choices = [
                Choices::new(&three, 1, 200).unwrap(),
                Choices::new(&one, 2, 3).unwrap(),
                Choices::new(&two, 1, 40).unwrap(),
            ];
            let counts = JointCounts::new(&choices, most_cells, None);
            let backwards: Vec<u32> = (0..tokens as u32).rev().collect();
            let turned = JointCounts::new(&choices, most_cells, Some(&backwards));
            prop_assert_eq!(counts.listed.len(), match most_cells { 5 => 0, 100_000 => 2, _ => 3 });
            let (logs, mut room) = (CountLogs::up_to(200), counts.room());
            for count in [5, 1, 3] {
                let cells = Cells { of: draw(tokens, count), count: count as usize };
                let wanted: Vec<i64> = choices.iter().map(|choice| slow(*choice, &cells, &logs)).collect();
                prop_assert_eq!(&counts.uncertainties(&cells, &mut room, &logs), &wanted);
                let cells = Cells { of: cells.of.iter().rev().copied().collect(), ..cells };
                prop_assert_eq!(turned.uncertainties(&cells, &mut room, &logs), wanted);
            }
        }
    }

    #[test]
    fn logarithms_beyond_the_table_are_worked_out() {
        let logs = CountLogs::up_to(1 << 20);
        assert_eq!((logs.of(0), logs.of(1)), (0, 0));
        for count in [2, TABULATED, TABULATED + 1, 1 << 20] {
            let wanted = count as f64 * (count as f64).log2();
            assert!((logs.bits(logs.of(count)) - wanted).abs() < 1e-9 * wanted);
        }
    }
}
