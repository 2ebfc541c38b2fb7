//! Where each token's slots go: the order in which experts see their tokens.

use std::ops::Range;

use crate::EngineError;

/// The tokens of a batch sorted by expert.
///
/// Each token fills `per_token` slots, and each slot names one expert. Sorted by expert, then by token, the slots become
/// *slot rows*: the rows that expert `e` works on lie side by side in `offsets[e]..offsets[e + 1]`, so one matrix product per
/// expert does its whole share. An expert without tokens has an empty range and costs nothing.
///
/// Does not hold the router's weights: those multiply at the end, in
/// [`Tape::expert_combine`](crate::Tape::expert_combine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePlan {
    experts: usize,
    per_token: usize,
    /// `[token, slot]`, as they were given.
    choices: Vec<u32>,
    /// `[expert]`, zero for an expert without tokens.
    counts: Vec<usize>,
    offsets: Vec<usize>,
    /// `[slot_row]`, ascending within an expert.
    row_tokens: Vec<u32>,
    /// `[token, slot]`, the way from a slot to its row.
    row_of_slot: Vec<u32>,
    /// `[slot_row]`, the way back.
    slot_of_row: Vec<u32>,
}

impl RoutePlan {
    /// Sorts the choices `[token, slot]` of every token by expert.
    ///
    /// # Errors
    /// - [`EngineError::Range`] for an expert that does not exist, or `per_token` outside `1..=experts`;
    /// - [`EngineError::Length`] when the choices are not a whole number of tokens;
    /// - [`EngineError::RepeatedExpert`] when a token names an expert twice.
    pub fn new(choices: &[u32], experts: usize, per_token: usize) -> Result<Self, EngineError> {
        check_sizes(choices, experts, per_token)?;
        check_choices(choices, experts, per_token)?;
        let mut counts = vec![0; experts];
        for &expert in choices {
            counts[expert as usize] += 1;
        }
        let mut offsets = vec![0; experts + 1];
        for expert in 0..experts {
            offsets[expert + 1] = offsets[expert] + counts[expert];
        }
        let mut next = offsets.clone();
        let mut row_tokens = vec![0; choices.len()];
        let mut row_of_slot = vec![0; choices.len()];
        let mut slot_of_row = vec![0; choices.len()];
        for (slot, &expert) in choices.iter().enumerate() {
            let row = next[expert as usize];
            next[expert as usize] += 1;
            row_tokens[row] = (slot / per_token) as u32;
            row_of_slot[slot] = row as u32;
            slot_of_row[row] = slot as u32;
        }
        let choices = choices.to_vec();
        Ok(Self { experts, per_token, choices, counts, offsets, row_tokens, row_of_slot, slot_of_row })
    }

    /// The slot rows of some experts alone: same tokens, same number of experts, and the others get no token.
    ///
    /// For products with experts and for finding their rows. Slots of other experts have no row, so a plan of some experts
    /// combines nothing: [`row_of_slot`](Self::row_of_slot) is empty.
    ///
    /// # Panics
    /// For experts that are not there.
    pub fn only(&self, experts: Range<usize>) -> RoutePlan {
        let (first, last) = (self.offsets[experts.start], self.offsets[experts.end]);
        let counts = |(expert, count): (usize, &usize)| if experts.contains(&expert) { *count } else { 0 };
        RoutePlan {
            experts: self.experts,
            per_token: self.per_token,
            choices: self.choices.clone(),
            counts: self.counts.iter().enumerate().map(counts).collect(),
            offsets: self.offsets.iter().map(|offset| (*offset).clamp(first, last) - first).collect(),
            row_tokens: self.row_tokens[first..last].to_vec(),
            row_of_slot: Vec::new(),
            slot_of_row: self.slot_of_row[first..last].to_vec(),
        }
    }

    /// As [`only`](Self::only), with these experts numbered from 0 and no others: the plan for weights of theirs alone.
    ///
    /// # Panics
    /// For experts that are not there.
    pub fn part(&self, experts: Range<usize>) -> RoutePlan {
        let only = self.only(experts.clone());
        RoutePlan {
            experts: experts.len(),
            counts: only.counts[experts.clone()].to_vec(),
            offsets: only.offsets[experts.start..=experts.end].to_vec(),
            ..only
        }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.choices.len() / self.per_token
    }

    /// Number of slot rows: tokens times slots of a token, or those of [some experts](Self::only).
    pub fn rows(&self) -> usize {
        self.row_tokens.len()
    }

    /// Number of experts.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Slots of each token.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// The experts that were chosen, `[token, slot]`.
    pub fn choices(&self) -> &[u32] {
        &self.choices
    }

    /// Slots that each expert received, `[expert]`.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Where each expert's slot rows begin, `[expert + 1]`; the last entry is the number of slot rows.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The token of each slot row, `[slot_row]`.
    pub fn row_tokens(&self) -> &[u32] {
        &self.row_tokens
    }

    /// The slot row of each slot, `[token, slot]`.
    pub fn row_of_slot(&self) -> &[u32] {
        &self.row_of_slot
    }

    /// The slot of each slot row, `[slot_row]`, as a place in `[token, slot]`.
    pub fn slot_of_row(&self) -> &[u32] {
        &self.slot_of_row
    }
}

/// Refuses sizes that make no plan. A batch without tokens makes one.
fn check_sizes(choices: &[u32], experts: usize, per_token: usize) -> Result<(), EngineError> {
    let operation = "route plan";
    if per_token == 0 || per_token > experts {
        return Err(EngineError::Range {
            operation,
            argument: "per_token",
            found: per_token,
            low: 1,
            high: experts,
        });
    }
    if !choices.len().is_multiple_of(per_token) {
        let wanted = choices.len().next_multiple_of(per_token);
        return Err(EngineError::Length { operation, argument: "choices", found: choices.len(), wanted });
    }
    Ok(())
}

/// Refuses experts that do not exist and repeats within a token, in one walk over the choices.
fn check_choices(choices: &[u32], experts: usize, per_token: usize) -> Result<(), EngineError> {
    // The token that named each expert last, counted from 1.
    let mut named_by = vec![0; experts];
    for (slot, &expert) in choices.iter().enumerate() {
        let (token, expert) = (slot / per_token, expert as usize);
        if expert >= experts {
            let high = experts - 1;
            return Err(EngineError::Range {
                operation: "route plan",
                argument: "choices",
                found: expert,
                low: 0,
                high,
            });
        }
        if named_by[expert] == token + 1 {
            return Err(EngineError::RepeatedExpert { token, expert });
        }
        named_by[expert] = token + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hand_worked_plan() {
        let plan = RoutePlan::new(&[2, 0, 0, 3, 2, 3], 4, 2).unwrap();
        assert_eq!(plan.counts(), [2, 0, 2, 2]);
        assert_eq!(plan.offsets(), [0, 2, 2, 4, 6]);
        assert_eq!(plan.row_tokens(), [0, 1, 0, 2, 1, 2]);
        assert_eq!(plan.row_of_slot(), [2, 0, 1, 4, 3, 5]);
        assert_eq!(plan.slot_of_row(), [1, 2, 0, 4, 3, 5]);
        assert_eq!((plan.tokens(), plan.rows(), plan.experts(), plan.per_token()), (3, 6, 4, 2));
    }

    #[test]
    fn a_part_has_the_rows_of_its_experts_under_numbers_of_its_own() {
        let plan = RoutePlan::new(&[2, 0, 0, 3, 2, 3], 4, 2).unwrap();
        let only = plan.only(1..3);
        assert_eq!((only.experts(), only.rows(), only.tokens()), (4, 2, 3));
        assert_eq!((only.counts(), only.offsets()), (&[0, 0, 2, 0][..], &[0, 0, 0, 2, 2][..]));
        assert_eq!((only.row_tokens(), only.slot_of_row()), (&[0, 2][..], &[0, 4][..]));
        let part = plan.part(1..3);
        assert_eq!((part.experts(), part.counts(), part.offsets()), (2, &[0, 2][..], &[0, 0, 2][..]));
        assert_eq!(part.row_tokens(), only.row_tokens());
    }

    #[test]
    fn wrong_choices_are_refused() {
        let repeated = RoutePlan::new(&[0, 1, 1, 1], 2, 2).unwrap_err();
        assert_eq!(repeated, EngineError::RepeatedExpert { token: 1, expert: 1 });
        assert!(matches!(RoutePlan::new(&[0, 7], 2, 2), Err(EngineError::Range { found: 7, .. })));
        assert!(matches!(RoutePlan::new(&[0, 1, 0], 2, 2), Err(EngineError::Length { .. })));
        assert!(matches!(RoutePlan::new(&[], 2, 0), Err(EngineError::Range { .. })));
        assert!(matches!(RoutePlan::new(&[0, 1, 2], 2, 3), Err(EngineError::Range { .. })));
    }

    proptest! {
        #[test]
        fn rows_are_sorted_and_every_slot_has_its_own(seed in proptest::collection::vec(0u32..5, 0..40)) {
            let plan = RoutePlan::new(&seed, 5, 1).unwrap();
            let mut seen: Vec<u32> = plan.row_of_slot().to_vec();
            seen.sort_unstable();
            prop_assert!(seen.iter().enumerate().all(|(row, &slot)| row as u32 == slot));
            for expert in 0..5 {
                let tokens = &plan.row_tokens()[plan.offsets()[expert]..plan.offsets()[expert + 1]];
                prop_assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(tokens.iter().all(|&token| seed[token as usize] == expert as u32));
            }
        }
    }
}
