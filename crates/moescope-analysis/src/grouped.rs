//! Items put together by number, without comparing them.

/// Items of the same number side by side, in the order in which they come, and where those of each number end.
///
/// - **Shape:** `pairs` are number and item, the same ones each time they are asked for, numbers below `count` → `(items, ends[number])`. Those
///   of a number begin where those of the one before it end.
pub(crate) fn grouped<T: Copy + Default, I: Iterator<Item = (usize, T)>>(
    count: usize,
    pairs: impl Fn() -> I,
) -> (Vec<T>, Vec<u32>) {
    let mut ends = vec![0u32; count];
    pairs().for_each(|(number, _)| ends[number] += 1);
    // Where the next item of each number is put, and after that where its items end.
    let mut end = 0;
    ends.iter_mut().for_each(|own| (end, *own) = (end + *own, end));
    let mut items = vec![T::default(); end as usize];
    for (number, item) in pairs() {
        let place = &mut ends[number];
        items[*place as usize] = item;
        *place += 1;
    }
    (items, ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_number_stay_in_their_order() {
        let pairs = [(2, 'a'), (0, 'b'), (2, 'c'), (3, 'd'), (0, 'e')];
        assert_eq!(grouped(5, || pairs.into_iter()), (vec!['b', 'e', 'a', 'c', 'd'], vec![2, 2, 4, 5, 5]));
        assert_eq!(grouped::<u32, _>(2, std::iter::empty), (vec![], vec![0, 0]));
    }
}
