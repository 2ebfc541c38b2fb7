//! Which entries of a variable a loss reached.
//!
//! Of a stack of experts, only those that were chosen have a gradient. With many experts and few tokens most are idle; to
//! write, sum and apply zeros for them would make a step as long as all experts together.

use std::ops::Range;

/// Entries of a gradient that may differ from zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// None so far.
    #[default]
    Nothing,
    /// Those of some experts: `[expert]`, the first axis of the variable.
    Experts(Vec<bool>),
    /// All.
    Everything,
}

impl Reach {
    /// Adds the experts that have slot rows, by `counts[expert]`.
    pub(crate) fn add_experts(&mut self, counts: &[usize]) {
        match self {
            Reach::Nothing => *self = Reach::Experts(counts.iter().map(|&count| count > 0).collect()),
            Reach::Experts(reached) => {
                reached.iter_mut().zip(counts).for_each(|(reached, &count)| *reached |= count > 0);
            }
            Reach::Everything => {}
        }
    }

    /// The entries among `length`, as few ranges as there can be, ascending.
    pub(crate) fn ranges(&self, length: usize) -> Vec<Range<usize>> {
        let experts = match self {
            Reach::Nothing => return Vec::new(),
            Reach::Everything => return std::iter::once(0..length).collect(),
            Reach::Experts(experts) => experts,
        };
        let size = length / experts.len().max(1);
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for expert in (0..experts.len()).filter(|&expert| experts[expert]) {
            let start = expert * size;
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end += size,
                _ => ranges.push(start..start + size),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_make_one_range() {
        let mut reach = Reach::default();
        assert_eq!(reach.ranges(12), []);
        reach.add_experts(&[0, 2, 0, 1]);
        assert_eq!(reach.ranges(12), [3..6, 9..12]);
        reach.add_experts(&[0, 0, 5, 0]);
        assert_eq!(reach.ranges(12), std::slice::from_ref(&(3..12)));
        reach = Reach::Everything;
        reach.add_experts(&[0, 0, 0, 1]);
        assert_eq!(reach.ranges(12), std::slice::from_ref(&(0..12)));
    }
}
