//! Our kernels on machines with AVX-512: vectors of sixteen numbers.
#![allow(unsafe_code)]
// The files of `wide` are compiled once for each kind of vector.
#![allow(clippy::duplicate_mod)]

use std::arch::x86_64::{
    __m512 as Vector, __mmask16 as Mask, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps as fused,
    _mm512_loadu_ps as load, _mm512_mask_storeu_ps as store_masked, _mm512_maskz_loadu_ps as load_masked,
    _mm512_mul_ps as mul, _mm512_set1_ps as splat, _mm512_setzero_ps as zero, _mm512_shuffle_f32x4,
    _mm512_storeu_ps as store, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};

use super::portable;
use super::{LeftSide, Operands, Out, RightSide, Sizes, Steps};

/// Compiles functions for these machines.
macro_rules! on_machine {
    ($($item:tt)*) => {
        #[target_feature(enable = "avx512f")]
        $($item)*
    };
}

/// Computes with the height of the lowest tile that holds so many rows, or of the tallest.
macro_rules! by_height {
    ($rows:expr, $height:ident => $work:expr) => {
        match $rows {
            9.. => {
                const $height: usize = ROWS;
                $work
            }
            5..=8 => {
                const $height: usize = 8;
                $work
            }
            2..=4 => {
                const $height: usize = 4;
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
const LANES: usize = 16;
/// Rows of the tallest tile: with two vectors a row its sums fill 24 of 32 registers.
const ROWS: usize = 12;
/// Steps whose columns are in registers at a time.
const TOGETHER: usize = 2;

/// Whether this machine can.
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

/// A lane for each of `count` numbers, as far as there are lanes.
#[inline(always)]
fn lanes(count: usize) -> Mask {
    ((1u32 << count.min(LANES)) - 1) as Mask
}

/// Rows become columns: pairs of numbers, then of pairs, then of quarters of a vector change places.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn_square(square: &mut [Vector; LANES]) {
    let mut pairs = [zero(); LANES];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_ps(square[2 * i], square[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(square[2 * i], square[2 * i + 1]);
    }
    // `fours[4 * i + j]`: rows `4 i..4 i + 4` of columns `j`, `j + 4`, `j + 8`, `j + 12`.
    let mut fours = [zero(); LANES];
    for i in 0..4 {
        for j in 0..2 {
            let low = _mm512_castps_pd(pairs[4 * i + j]);
            let high = _mm512_castps_pd(pairs[4 * i + j + 2]);
            fours[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            fours[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    }
    for j in 0..4 {
        let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[j], fours[4 + j]);
        let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[j], fours[4 + j]);
        let low_after = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[8 + j], fours[12 + j]);
        let high_after = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[8 + j], fours[12 + j]);
        square[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low, low_after);
        square[j + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low, low_after);
        square[j + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(high, high_after);
        square[j + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(high, high_after);
    }
}
