//! Our kernels on machines with AVX2 and fused products: vectors of eight numbers.
//!
//! Every number of a result is made of the same fused products in the same order as with AVX-512, to the bit.
#![allow(unsafe_code)]
// The files of `wide` are compiled once for each kind of vector.
#![allow(clippy::duplicate_mod)]

use std::arch::x86_64::{
    __m256 as Vector, __m256i as Mask, _mm256_fmadd_ps as fused, _mm256_loadu_ps as load, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_mul_ps as mul, _mm256_permute2f128_ps,
    _mm256_set1_ps as splat, _mm256_setzero_ps as zero, _mm256_shuffle_ps, _mm256_storeu_ps as store,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::portable;
use super::{LeftSide, Operands, Out, RightSide, Sizes, Steps};

/// Compiles functions for these machines.
macro_rules! on_machine {
    ($($item:tt)*) => {
        #[target_feature(enable = "avx2,fma")]
        $($item)*
    };
}

/// Computes with the height of the lowest tile that holds so many rows, or of the tallest.
macro_rules! by_height {
    ($rows:expr, $height:ident => $work:expr) => {
        match $rows {
            5.. => {
                const $height: usize = ROWS;
                $work
            }
            3..=4 => {
                const $height: usize = 4;
                $work
            }
            2 => {
                const $height: usize = 2;
                $work
            }
            _ => {
                const $height: usize = 1;
                $work
            }
        }
    };
}

#[path = "wide/ahead.rs"]
mod ahead;
#[path = "wide/kernel.rs"]
mod kernel;
#[path = "wide/multiply.rs"]
mod multiply;
#[path = "wide/pack.rs"]
mod pack;
#[path = "wide/panels.rs"]
mod panels;
#[path = "wide/visits.rs"]
mod visits;

pub(super) use multiply::multiply;
pub(super) use panels::Panels;

/// Numbers of a vector.
const LANES: usize = 8;
/// Rows of the tallest tile: with two vectors a row its sums fill 12 of 16 registers.
const ROWS: usize = 6;
/// Steps whose columns are in registers at a time: there is no room for more.
const TOGETHER: usize = 1;

/// Whether this machine can.
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Lanes that are used, and after them as many that are not.
static USED: [i32; 2 * LANES] = {
    let mut used = [0; 2 * LANES];
    let mut lane = 0;
    while lane < LANES {
        used[lane] = -1;
        lane += 1;
    }
    used
};

/// A lane for each of `count` numbers, as far as there are lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lanes(count: usize) -> Mask {
    // SAFETY: as many numbers as there are lanes follow from here on.
    unsafe { _mm256_loadu_si256(USED.as_ptr().add(LANES - count.min(LANES)).cast()) }
}

/// The numbers of the lanes that are used, and zeros.
///
/// # Safety
/// The numbers lie where one may read.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_masked(mask: Mask, from: *const f32) -> Vector {
    // SAFETY: as the caller promises.
    unsafe { _mm256_maskload_ps(from, mask) }
}

/// Writes the lanes that are used.
///
/// # Safety
/// They go where one may write.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_masked(to: *mut f32, mask: Mask, vector: Vector) {
    // SAFETY: as the caller promises.
    unsafe { _mm256_maskstore_ps(to, mask, vector) }
}

/// Rows become columns: pairs of numbers, then of pairs, then of halves of a vector change places.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn turn_square(square: &mut [Vector; LANES]) {
    let mut pairs = [zero(); LANES];
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_ps(square[2 * i], square[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(square[2 * i], square[2 * i + 1]);
    }
    // `fours[4 * i + j]`: rows `4 i..4 i + 4` of columns `j` and `j + 4`.
    let mut fours = [zero(); LANES];
    for i in 0..2 {
        for j in 0..2 {
            let (low, high) = (pairs[4 * i + j], pairs[4 * i + j + 2]);
            fours[4 * i + 2 * j] = _mm256_shuffle_ps::<0b01_00_01_00>(low, high);
            fours[4 * i + 2 * j + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(low, high);
        }
    }
    for j in 0..4 {
        square[j] = _mm256_permute2f128_ps::<0x20>(fours[j], fours[4 + j]);
        square[j + 4] = _mm256_permute2f128_ps::<0x31>(fours[j], fours[4 + j]);
    }
}
