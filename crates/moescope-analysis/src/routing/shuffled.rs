//! Random orders of lists that are longer than a cache.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Items that fit into a core's cache, about.
const SHORT: usize = 1 << 15;
/// Parts among which items of a longer list are dealt.
const PARTS: usize = 256;

/// A list in random order, with room that is used again.
///
/// Exchanging items one by one, as textbooks do, reaches for a place anywhere in memory for each. A long list is dealt among parts first, each item to any part with the
/// same chance; every part then fits into the cache and is put into random order by itself. All orders of the whole come out alike often.
///
/// - **Source:** Rao 1961 and Sandelius 1962.
pub(super) struct Shuffled<T> {
    /// In their order.
    items: Vec<T>,
    /// The part to which each item goes.
    part_of: Vec<u8>,
}

impl<T> Default for Shuffled<T> {
    fn default() -> Shuffled<T> {
        Shuffled { items: Vec::new(), part_of: Vec::new() }
    }
}

impl<T: Copy> Shuffled<T> {
    /// The items in their order.
    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    /// Takes these items, in random order.
    pub(super) fn fill(&mut self, items: &[T], rng: &mut ChaCha8Rng) {
        self.items.clear();
        self.items.extend_from_slice(items);
        if items.len() <= SHORT {
            return self.items.shuffle(rng);
        }
        self.part_of.resize(items.len(), 0);
        rng.fill_bytes(&mut self.part_of);
        let mut ends = [0; PARTS];
        self.part_of.iter().for_each(|part| ends[usize::from(*part)] += 1);
        let mut end = 0;
        ends.iter_mut().for_each(|own| (end, *own) = (end + *own, end));
        for (item, part) in items.iter().zip(&self.part_of) {
            let place = &mut ends[usize::from(*part)];
            self.items[*place] = *item;
            *place += 1;
        }
        let mut start = 0;
        for end in ends {
            self.items[start..end].shuffle(rng);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;

    #[test]
    fn every_item_stays_and_goes_anywhere() {
        for length in [0, 1, 5, SHORT, SHORT + 1, 3 * SHORT] {
            let items: Vec<u32> = (0..length as u32).collect();
            let mut shuffled = Shuffled::default();
            shuffled.fill(&items, &mut Seed(1).rng());
            let first = shuffled.items().to_vec();
            shuffled.fill(&items, &mut Seed(2).rng());
            assert_eq!(first == shuffled.items(), length < 2);
            let mut sorted = first.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, items);
        }
    }

    #[test]
    fn a_long_list_forgets_its_order() {
        let items: Vec<u32> = (0..4 * SHORT as u32).collect();
        let mut shuffled = Shuffled::default();
        shuffled.fill(&items, &mut Seed(3).rng());
        let found = shuffled.items();
        let length = items.len() as f64;
        // Of a random order, items stand a third of its length from where they stood, follow their neighbour once, and half of the neighbours ascend.
        let moved = |(place, item): (usize, &u32)| (place as f64 - f64::from(*item)).abs() / length;
        let mean = found.iter().enumerate().map(moved).sum::<f64>() / length;
        assert!((mean - 1.0 / 3.0).abs() < 0.005, "{mean}");
        assert!(found.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() < 8);
        let ascending = found.windows(2).filter(|pair| pair[1] > pair[0]).count() as f64 / length;
        assert!((ascending - 0.5).abs() < 0.005, "{ascending}");
        // Of the items that stood in each eighth, an eighth stands in each: 2,048 with a standard deviation of 42.
        let eighth = items.len() / 8;
        for (place, part) in found.chunks(eighth).enumerate() {
            for from in 0..8 {
                let count = part.iter().filter(|item| **item as usize / eighth == from).count();
                assert!((1_840..2_256).contains(&count), "{place} {from}: {count}");
            }
        }
    }
}
