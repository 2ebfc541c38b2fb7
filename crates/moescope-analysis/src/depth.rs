//! Which blocks of a deep model are looked at.

/// At most so many of the blocks of a model, evenly spaced, each in the middle of its part of the depth: of 24 blocks four are 3, 9, 15 and 21.
pub(crate) fn spread_over(blocks: usize, most: usize) -> impl Iterator<Item = usize> {
    let some = most.min(blocks);
    (0..some).map(move |turn| (2 * turn + 1) * blocks / (2 * some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_in_the_middle_of_their_parts() {
        assert_eq!(spread_over(24, 4).collect::<Vec<_>>(), [3, 9, 15, 21]);
        assert_eq!(spread_over(3, 8).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread_over(0, 4).count(), 0);
    }
}
