//! Random orders, of short lists and of lists that are longer than a cache.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Items that fit into a core's cache, about.
const SHORT: usize = 1 << 15;
/// Parts among which items of a longer list are dealt.
const PARTS: usize = 256;

/// Puts a list of fewer than 2^32 items into random order, each order with the same chance.
///
/// - **Source:** Fisher and Yates 1938, with the draws of a bounded number of Lemire 2019 (arXiv 1805.10941), which hardly ever divide.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for place in (1..items.len()).rev() {
        items.swap(place, below(place as u32 + 1, rng) as usize);
    }
}

/// A number below `count`, each with the same chance.
fn below(count: u32, rng: &mut ChaCha8Rng) -> u32 {
    let mut draw = || u64::from(rng.next_u32()) * u64::from(count);
    let mut product = draw();
    if (product as u32) < count {
        // As many low halves as do not go evenly into 2^32 are drawn again.
        let uneven = count.wrapping_neg() % count;
        while (product as u32) < uneven {
            product = draw();
        }
    }
    (product >> 32) as u32
}

/// A list in random order, with room that is used again.
///
/// Exchanging items one by one, as textbooks do, reaches for a place anywhere in memory for each. A long list is dealt among parts first, each item to any part with the
/// same chance; every part then fits into the cache and is put into random order by itself. All orders of the whole come out alike often.
///
/// - **Source:** Rao 1961 and Sandelius 1962.
#[derive(Clone)]
pub(crate) struct Shuffled<T> {
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
    pub(crate) fn items(&self) -> &[T] {
        &self.items
    }

    /// Takes these items, in random order.
    pub(crate) fn fill(&mut self, items: &[T], rng: &mut ChaCha8Rng) {
        self.items.clear();
        self.items.extend_from_slice(items);
        if items.len() <= SHORT {
            return shuffle(&mut self.items, rng);
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
            shuffle(&mut self.items[start..end], rng);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;

    #[test]
    fn all_orders_of_four_are_alike_often() {
        let mut rng = Seed(7).rng();
        let mut seen = std::collections::BTreeMap::<[u8; 4], f64>::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items, &mut rng);
            *seen.entry(items).or_default() += 1.0;
        }
        let chi: f64 = seen.values().map(|times| (times - 1000.0).powi(2) / 1000.0).sum();
        // 23 degrees of freedom: mean 23, standard deviation 7.
        assert!(seen.len() == 24 && chi < 55.0, "{chi}");
    }

    #[test]
    fn numbers_stay_below_their_bound_and_fill_it_evenly() {
        let mut rng = Seed(8).rng();
        assert!((0..50).all(|_| below(1, &mut rng) == 0));
        // Of a bound that leaves a quarter of all 32-bit numbers over, each third comes as often.
        let bound = 3u32 << 30;
        let mut thirds = [0; 3];
        (0..30_000).for_each(|_| thirds[(below(bound, &mut rng) >> 30) as usize] += 1);
        assert!(thirds.iter().all(|times| (9_600..10_400).contains(times)), "{thirds:?}");
    }

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
