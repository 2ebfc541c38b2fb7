//! Counts of codes in all groups of tokens at once.
//!
//! Tokens of a group lie anywhere in a text. Where the counts of all groups fit into a core's cache it is several times as fast to go through the text once
//! and to count each token in its group than to collect one group after the other.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Labels;
use super::grouping::{How, Regrouping, for_each_part};
use super::information::{Codes, CountLogs, Packed};

/// Counts that are kept, at most: two megabytes.
const MOST_COUNTS: usize = 1 << 19;

/// A cell for each condition and label, and which token lies where.
///
/// What is drawn and what comes out is the same as with a [`Regrouping`], to the bit.
pub(super) struct Cells<'a> {
    /// What is exchanged, and how.
    regrouping: &'a Regrouping,
    /// Cells.
    count: usize,
    /// Labels of a condition.
    labels: usize,
    /// Before any exchange.
    start: Lying,
    /// Condition of each token, where there are several.
    given: Option<&'a [u32]>,
}

/// Places, each with its cell and the token that lies there.
#[derive(Clone)]
pub(super) struct Lying {
    /// Cell of each place.
    cells: Vec<u32>,
    /// Token at each place.
    tokens: Vec<u32>,
}

impl<'a> Cells<'a> {
    /// Cells for so many codes; none where their counts take more room than they save time.
    pub(super) fn new(
        regrouping: &'a Regrouping,
        labels: &Labels,
        given: Option<&'a Labels>,
        packed: &Packed,
    ) -> Option<Cells<'a>> {
        let count = labels.values().checked_mul(given.map_or(1, Labels::values))?;
        let counts = count.checked_mul(packed.values())?;
        let slots = packed.slots() * labels.codes().len();
        if counts > MOST_COUNTS.min(4 * slots) {
            return None;
        }
        let cell = |token: u32| {
            let condition = given.map_or(0, |given| given.codes()[token as usize]);
            condition * labels.values() as u32 + labels.codes()[token as usize]
        };
        let tokens: Vec<u32> = match &regrouping.how {
            How::Shuffle => regrouping.start.order.clone(),
            How::Relabel(_) | How::Move(_) => (0..labels.codes().len() as u32).collect(),
        };
        let cells = tokens.iter().map(|token| cell(*token)).collect();
        let given = given.map(Labels::codes);
        Some(Cells { regrouping, count, labels: labels.values(), start: Lying { cells, tokens }, given })
    }

    /// Where tokens lie before any exchange.
    pub(super) fn start(&self) -> Lying {
        self.start.clone()
    }

    /// Turns `lying` into one draw of the null, the same as that of [`Regrouping::draw`].
    pub(super) fn draw(&self, lying: &mut Lying, rng: &mut ChaCha8Rng) {
        match &self.regrouping.how {
            How::Shuffle => {
                lying.tokens.copy_from_slice(&self.start.tokens);
                for_each_part(&self.regrouping.start.segments, |part| lying.tokens[part].shuffle(rng));
            }
            How::Relabel(documents) => {
                let label = documents.draw(rng);
                let of_token = documents.document.iter().map(|document| label[*document as usize]);
                match self.given {
                    None => lying.cells.iter_mut().zip(of_token).for_each(|(cell, label)| *cell = label),
                    Some(given) => {
                        let cells = lying.cells.iter_mut().zip(of_token).zip(given);
                        cells.for_each(|((cell, label), given)| *cell = given * self.labels as u32 + label);
                    }
                }
            }
            How::Move(along) => along.draw_into(rng, &mut lying.tokens),
        }
    }

    /// As [`Packed::uncertainties`] within the groups of a draw.
    pub(super) fn uncertainties(
        &self,
        packed: &Packed,
        lying: &Lying,
        counts: &mut Vec<u32>,
        logs: &CountLogs,
    ) -> Vec<i64> {
        counts.clear();
        counts.resize(self.count * packed.values(), 0);
        match packed.codes() {
            Codes::Narrow(codes) => count(codes, packed, lying, counts),
            Codes::Wide(codes) => count(codes, packed, lying, counts),
        }
        let mut sums = vec![0; packed.choices()];
        for cell in counts.chunks_exact(packed.values()) {
            let mut rest = cell;
            for (sum, values) in sums.iter_mut().zip(packed.values_of()) {
                let own;
                (own, rest) = rest.split_at(*values);
                let slots: u32 = own.iter().sum();
                *sum += logs.of(slots as usize);
                own.iter().filter(|count| **count > 1).for_each(|count| *sum -= logs.of(*count as usize));
            }
        }
        sums
    }
}

/// Counts the codes of every token in its cell.
fn count<Code: Copy + Into<u32>>(codes: &[Code], packed: &Packed, lying: &Lying, counts: &mut [u32]) {
    let (slots, values) = (packed.slots(), packed.values());
    for (cell, token) in lying.cells.iter().zip(&lying.tokens) {
        let own = &mut counts[*cell as usize * values..][..values];
        for code in &codes[*token as usize * slots..][..slots] {
            let code: u32 = (*code).into();
            own[code as usize] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    use super::super::information::Counter;
    use super::super::{Choices, Exchange};
    use super::*;

    proptest! {
        #[test]
        fn groups_counted_together_are_those_counted_one_by_one(seed in 0u64..300, way in 0usize..4) {
            let mut rng = Seed(seed).rng();
            let tokens = 90;
            let documents: Vec<u32> = (0..tokens).map(|token| token / 9).collect();
            let of_document: Vec<u32> = (0..10).map(|_| rng.random_range(0..3)).collect();
            let given: Vec<u32> = (0..tokens).map(|_| rng.random_range(0..4)).collect();
            let own: Vec<u32> = (0..tokens).map(|_| rng.random_range(0..5)).collect();
            let shared: Vec<u32> = documents.iter().map(|document| of_document[*document as usize]).collect();
            let (labels, exchange) = match way {
                0 | 1 => (Labels::new("x", &own), Exchange::Tokens),
                2 => (Labels::new("x", &shared), Exchange::Documents(&documents)),
                _ => (Labels::new("x", &own), Exchange::Along(&documents)),
            };
            let given = Labels::new("given", &given);
            let given = [None, Some(&given), Some(&given), None][way];
            let one: Vec<u32> = (0..2 * tokens).map(|slot| 2 * rng.random_range(0..3) + slot % 2).collect();
            let two: Vec<u32> = (0..tokens).map(|_| rng.random_range(0..4)).collect();
            let choices = [Choices::new(&one, 2, 6).unwrap(), Choices::new(&two, 1, 4).unwrap()];
            let (packed, logs) = (Packed::new(&choices), CountLogs::up_to(200));
            let regrouping = Regrouping::new(&labels, given, exchange).unwrap();
            let cells = Cells::new(&regrouping, &labels, given, &packed).unwrap();
            let (mut lying, mut grouping) = (cells.start(), regrouping.start.clone());
            let (mut counts, mut counter) = (Vec::new(), Counter::of(&packed));
            for draw in 0..3 {
                if draw > 0 {
                    let seed = Seed(seed).index(draw);
                    cells.draw(&mut lying, &mut seed.rng());
                    regrouping.draw(&mut grouping, &mut seed.rng());
                }
                let wanted = packed.uncertainties(&grouping, &grouping.groups, &mut counter, &logs);
                prop_assert_eq!(cells.uncertainties(&packed, &lying, &mut counts, &logs), wanted);
            }
        }
    }

    #[test]
    fn many_groups_of_many_values_are_left_to_the_other_way() {
        let labels: Vec<u32> = (0..2000).collect();
        let choices = [Choices::new(&labels, 1, 2000).unwrap()];
        let (packed, labels) = (Packed::new(&choices), Labels::new("x", &labels));
        let regrouping = Regrouping::new(&labels, None, Exchange::Tokens).unwrap();
        assert!(Cells::new(&regrouping, &labels, None, &packed).is_none());
    }
}
