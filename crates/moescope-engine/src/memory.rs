//! Buffers that live on from one step to the next.
//!
//! A training step asks for the same sizes over and over. The system allocator hands large blocks back to the kernel at
//! once, and every fresh page then costs a fault; keeping the blocks is worth a tenth of a step. Each thread has its own
//! pool, so no lock is taken and what one thread does never changes another's speed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks below this many numbers go to the allocator, which is good at them.
const SMALLEST: usize = 1024;
/// A pool keeps at most this many numbers, so that a thread cannot hoard memory; 512 MiB unless
/// [`limit_spare_buffers`] says otherwise.
static LARGEST_TOTAL: AtomicUsize = AtomicUsize::new(128 << 20);

/// Spare blocks of one thread.
#[derive(Default)]
struct Pool {
    /// By size.
    spare: BTreeMap<usize, Shelf>,
    /// Sum of the sizes.
    held: usize,
    /// Blocks that were taken so far.
    taken: u64,
}

/// Spare blocks of one size.
#[derive(Default)]
struct Shelf {
    blocks: Vec<Vec<f32>>,
    /// When one of them was taken last, or when the first came.
    used: u64,
}

/// Size of the block for so many numbers: eight sizes from one power of two to the next, so that lengths which vary a little, as rows of a routed
/// batch do, find each other's blocks again.
fn size_for(length: usize) -> usize {
    length.next_multiple_of(step_at(length))
}

/// Distance of sizes about this length.
fn step_at(length: usize) -> usize {
    (length.max(SMALLEST).next_power_of_two() / 16).max(1)
}

thread_local! {
    /// Freed when its thread ends.
    static POOL: RefCell<Pool> = RefCell::default();
}

/// A block of exactly `length` numbers with unspecified values: the caller writes each of them.
pub(crate) fn take(length: usize) -> Vec<f32> {
    let recycled = if length < SMALLEST {
        None
    } else {
        POOL.try_with(|pool| pool.borrow_mut().take(length)).ok().flatten()
    };
    let block = recycled.unwrap_or_else(|| {
        let mut block = vec![0.0; if length < SMALLEST { length } else { size_for(length) }];
        block.truncate(length);
        block
    });
    // Under test, an entry that a kernel forgets to write must show.
    #[cfg(test)]
    let block = {
        let mut block = block;
        block.fill(f32::NAN);
        block
    };
    block
}

/// Takes a block back for later use.
pub(crate) fn give_back(block: Vec<f32>) {
    if block.len() >= SMALLEST {
        // During the end of a thread the pool may be gone already: then the block is simply freed.
        let _ = POOL.try_with(|pool| pool.borrow_mut().give_back(block));
    }
}

/// Frees every spare buffer of this thread.
///
/// Of use between a large model and a small one; the next step then pays for fresh pages once.
pub fn release_spare_buffers() {
    POOL.with(|pool| *pool.borrow_mut() = Pool::default());
}

/// Lets every thread of this process keep at most so many bytes of spare buffers from now on; 512 MiB before the first call.
///
/// Of use where memory is short. Decides speed alone, never a number.
pub fn limit_spare_buffers(bytes: usize) {
    LARGEST_TOTAL.store(bytes / size_of::<f32>(), Ordering::Relaxed);
}

impl Pool {
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        // An eighth of slack: the next size does where the own one has no block.
        let (&size, shelf) = self.spare.range_mut(length..=length + length / 8).next()?;
        let mut block = shelf.blocks.pop()?;
        self.taken += 1;
        shelf.used = self.taken;
        if shelf.blocks.is_empty() {
            self.spare.remove(&size);
        }
        self.held -= size;
        // There is room for as many; what it held last time was as long, or nearly so.
        block.resize(length, 0.0);
        Some(block)
    }

    fn give_back(&mut self, block: Vec<f32>) {
        // A block that was made elsewhere may have room for little more than it holds.
        let room = block.capacity();
        let size = (room - room % step_at(room)).max(block.len());
        if self.make_room(size) {
            self.held += size;
            let new = Shelf { used: self.taken, ..Shelf::default() };
            self.spare.entry(size).or_insert(new).blocks.push(block);
        }
    }

    /// Frees blocks of sizes that were not asked for the longest, until there is room for so many numbers; false if there never is.
    ///
    /// Without it a pool would fill up with blocks that are given back and never asked for, and have no room for those that are.
    fn make_room(&mut self, size: usize) -> bool {
        let largest = LARGEST_TOTAL.load(Ordering::Relaxed);
        while size <= largest && self.held + size > largest {
            let longest = self.spare.iter_mut().min_by_key(|(_, shelf)| shelf.used);
            let Some((&size, shelf)) = longest else { break };
            // One block at a time: a size that is asked for again and again may be the only one.
            shelf.blocks.pop();
            if shelf.blocks.is_empty() {
                self.spare.remove(&size);
            }
            self.held -= size;
        }
        self.held + size <= largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_at_the_same_address() {
        release_spare_buffers();
        let block = take(5000);
        let address = block.as_ptr();
        give_back(block);
        let other = take(2000);
        let again = take(4900);
        assert_eq!(again.as_ptr(), address);
        assert_ne!(other.as_ptr(), address);
    }

    #[test]
    fn the_pool_counts_what_it_holds() {
        let mut pool = Pool::default();
        pool.give_back(vec![0.0; 3000]);
        pool.give_back(vec![0.0; 3000]);
        assert_eq!(pool.held, 6000);
        assert_eq!(pool.take(3000).map(|block| block.len()), Some(3000));
        assert_eq!((pool.held, pool.take(1500)), (3000, None));
    }

    #[test]
    fn lengths_that_vary_a_little_find_each_others_blocks() {
        let mut pool = Pool::default();
        for length in [4097, 4500, 4608, 5000, 5120, 8191, 8192] {
            let size = size_for(length);
            assert!(size >= length && size - length <= length / 8, "{size} for {length}");
            let mut block = vec![0.0; size];
            block.truncate(length);
            pool.give_back(block);
            assert_eq!(pool.take(size).map(|block| block.len()), Some(size));
        }
        assert_eq!([4097, 4500, 4608].map(size_for), [4608; 3]);
        assert_eq!(pool.held, 0);
    }

    #[test]
    fn a_full_pool_lets_go_of_what_nobody_asks_for() {
        let mut pool = Pool::default();
        let largest = LARGEST_TOTAL.load(Ordering::Relaxed);
        let half = vec![0.0; largest / 2];
        pool.give_back(vec![0.0; 3000]);
        let wanted = pool.take(3000).unwrap();
        pool.give_back(half);
        pool.give_back(wanted);
        // Never taken, though it came later; a second block of this length has no room beside it.
        pool.take(3000).map(|block| pool.give_back(block)).unwrap();
        pool.give_back(vec![0.0; largest / 2 + 1]);
        assert_eq!(pool.held, 3000 + largest / 2 + 1);
        assert!(pool.take(largest / 2).is_some_and(|block| block.len() == largest / 2));
        assert!(pool.take(3000).is_some());
        pool.give_back(vec![0.0; largest + 1]);
        assert_eq!(pool.held, 0, "more than a pool may hold");
        // Of a size that fills the pool, as many stay as there is room for.
        (0..5).for_each(|_| pool.give_back(vec![0.0; largest / 4]));
        assert_eq!(pool.held, largest / 4 * 4);
    }
}
