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
    /// Spare blocks by length.
    spare: BTreeMap<usize, Vec<Vec<f32>>>,
    /// Sum of the lengths.
    held: usize,
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
    let block = recycled.unwrap_or_else(|| vec![0.0; length]);
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
        // An eighth of slack lets sizes that vary a little (rows of a routed batch) share blocks.
        let (&found, blocks) = self.spare.range_mut(length..=length + length / 8).next()?;
        let mut block = blocks.pop()?;
        if blocks.is_empty() {
            self.spare.remove(&found);
        }
        self.held -= found;
        block.truncate(length);
        Some(block)
    }

    fn give_back(&mut self, block: Vec<f32>) {
        if self.held + block.len() <= LARGEST_TOTAL.load(Ordering::Relaxed) {
            self.held += block.len();
            self.spare.entry(block.len()).or_default().push(block);
        }
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
}
