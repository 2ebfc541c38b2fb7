//! Work cut into pieces that do not depend on the number of threads.

use rayon::prelude::*;

/// Numbers that one elementwise piece works on: large enough to pay for a task, small enough to stay in the L2 cache.
pub(super) const PIECE: usize = 16 * 1024;

/// Rows of a piece when a row has this many numbers.
pub(super) fn rows_per_piece(columns: usize) -> usize {
    (PIECE / columns.max(1)).max(1)
}

/// Runs all tasks: in order on a pool of one thread, else as threads come free.
pub(super) fn run<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    if tasks.len() <= 1 || rayon::current_num_threads() == 1 {
        tasks.into_iter().for_each(work);
    } else {
        tasks.into_par_iter().for_each(work);
    }
}

/// Runs `work(offset, piece)` on pieces of `out`.
pub(super) fn each(out: &mut [f32], length: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    let length = length.max(1);
    if out.len() <= length {
        if !out.is_empty() {
            work(0, out);
        }
        return;
    }
    let tasks: Vec<_> = out.chunks_mut(length).enumerate().collect();
    run(tasks, |(index, piece)| work(index * length, piece));
}

/// Runs `work(index, first_piece, second_piece)` on pieces of two slices that belong together.
pub(super) fn each_pair<A: Send, B: Send>(
    (first, first_length): (&mut [A], usize),
    (second, second_length): (&mut [B], usize),
    work: impl Fn(usize, &mut [A], &mut [B]) + Sync + Send,
) {
    let pieces = first.chunks_mut(first_length.max(1)).zip(second.chunks_mut(second_length.max(1)));
    let tasks: Vec<_> = pieces.enumerate().collect();
    run(tasks, |(index, (first, second))| work(index, first, second));
}

/// Sums `rows` partial results of `width` numbers each, in order.
pub(super) fn sum_partials(partials: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for partial in partials.chunks_exact(out.len().max(1)) {
        for (sum, part) in out.iter_mut().zip(partial) {
            *sum += part;
        }
    }
}
