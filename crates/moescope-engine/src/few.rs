//! Products of many vectors with few others, in double precision: the two that a linear probe of few classes is made of.
//!
//! A product of matrices copies both sides into an order that suits its kernel, and pays for that with what it computes on them. With ten columns
//! there is little to pay with. Here every vector is read where it lies, by whole vector registers, and enough sums are kept in registers to
//! hide how long an addition takes: two or four vectors by five others, or five sums of two registers. The next vectors are called for meanwhile, since there is
//! too little to compute on each for the machine to fetch them unasked.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};

use pulp::{Arch, Simd, WithSimd};

/// Vectors that are read together where there are 32 registers, and where there are fewer.
const VECTORS: [usize; 2] = [4, 2];
/// Others, or sums, that are worked out together.
const OTHERS: usize = 5;
/// Registers of a sum.
const REGISTERS: usize = 2;
/// Numbers of a cache line.
const LINE: usize = 8;

/// Numbers that begin with a cache line: a register that is read across two lines takes twice as long.
#[derive(Debug)]
pub struct Lined {
    numbers: Vec<f64>,
    first: usize,
    count: usize,
}

impl Lined {
    /// So many zeros.
    pub fn zeros(count: usize) -> Lined {
        let numbers = vec![0.0; count + LINE - 1];
        // What cannot be aligned is slower and no less right.
        let first = match numbers.as_ptr().align_offset(LINE * size_of::<f64>()) {
            first if first < LINE => first,
            _ => 0,
        };
        Lined { numbers, first, count }
    }

    /// A width that fills whole lines, at least this one.
    pub fn width(least: usize) -> usize {
        least.next_multiple_of(LINE)
    }
}

impl Deref for Lined {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.numbers[self.first..][..self.count]
    }
}

impl DerefMut for Lined {
    fn deref_mut(&mut self) -> &mut [f64] {
        &mut self.numbers[self.first..][..self.count]
    }
}

/// The product of each vector with each of some others: `[vector, other]`.
///
/// A logit of a probe is such a product: tokens are the vectors, the weights of a class one of the others. Up to about two dozen of these it is faster than
/// [`double_product`](crate::double_product), which copies both sides first.
///
/// - **Order:** sums run over lanes of the machine's registers, so that the last bits differ between machines, and never between runs or
///   numbers of threads.
///
/// Both are vectors of `width` numbers, one after the other; read best where they are [`Lined`].
///
/// # Panics
/// If the numbers do not fill vectors of this width.
pub fn few_products(vectors: &[f64], others: &[f64], width: usize) -> Vec<f64> {
    let (count, others_count) = (vectors_of(vectors, width), vectors_of(others, width));
    let mut out = vec![0.0; count * others_count];
    let mut lined = Lined::zeros(others.len());
    lined.copy_from_slice(others);
    Arch::new().dispatch(Products { vectors, others: &lined, width, out: &mut out });
    out
}

/// The sum of all vectors with the factors that each has in each of some sums: `[sum, width]`.
///
/// The gradient of a probe is such a sum: the factors are the errors of a token by class. Vectors are taken in their order.
///
/// `factors` are `[vector, sum]`, `vectors` of `width` numbers, one after the other.
///
/// # Panics
/// If the numbers do not fill vectors of this width, or there are not as many factors for each.
pub fn few_sums(vectors: &[f64], factors: &[f64], width: usize) -> Vec<f64> {
    let count = vectors_of(vectors, width);
    if count == 0 {
        assert!(factors.is_empty(), "factors of no vector");
        return Vec::new();
    }
    assert!(factors.len().is_multiple_of(count), "as many factors for each vector");
    let sums = factors.len() / count;
    let mut out = vec![0.0; sums * width];
    Arch::new().dispatch(Sums { vectors, factors, width, sums, out: &mut out });
    out
}

fn vectors_of(numbers: &[f64], width: usize) -> usize {
    assert!(width > 0 && numbers.len().is_multiple_of(width), "numbers fill vectors");
    numbers.len() / width
}

struct Products<'a> {
    vectors: &'a [f64],
    others: &'a [f64],
    width: usize,
    out: &'a mut [f64],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::REGISTER_COUNT >= 32 {
            true => self.together::<S, { VECTORS[0] }>(simd),
            false => self.together::<S, { VECTORS[1] }>(simd),
        }
    }
}

impl Products<'_> {
    /// Reads `V` vectors at a time.
    #[inline(always)]
    fn together<S: Simd, const V: usize>(self, simd: S) {
        let others_count = self.others.len() / self.width;
        let count = self.vectors.len() / self.width;
        for first in (0..count).step_by(V) {
            let some = V.min(count - first);
            // The last is read more often where there are fewer.
            let mut vectors = [&self.vectors[..self.width]; V];
            for (at, vector) in vectors.iter_mut().enumerate() {
                *vector = &self.vectors[(first + at.min(some - 1)) * self.width..][..self.width];
            }
            for other in (0..others_count).step_by(OTHERS) {
                let others = &self.others[other * self.width..];
                let ahead = other == 0;
                let found: [[f64; OTHERS]; V] = match others_count - other {
                    1 => products::<S, V, 1>(simd, vectors, others, ahead),
                    2 => products::<S, V, 2>(simd, vectors, others, ahead),
                    3 => products::<S, V, 3>(simd, vectors, others, ahead),
                    4 => products::<S, V, 4>(simd, vectors, others, ahead),
                    _ => products::<S, V, 5>(simd, vectors, others, ahead),
                };
                let kept = OTHERS.min(others_count - other);
                for (at, found) in found.iter().enumerate().take(some) {
                    self.out[(first + at) * others_count + other..][..kept].copy_from_slice(&found[..kept]);
                }
            }
        }
    }
}

/// Products of `V` vectors with the first `N` of some others; if asked, the vectors after these are called for.
#[inline(always)]
fn products<S: Simd, const V: usize, const N: usize>(
    simd: S,
    vectors: [&[f64]; V],
    others: &[f64],
    ahead: bool,
) -> [[f64; OTHERS]; V] {
    let width = vectors[0].len();
    let steps = width / S::F64_LANES;
    let mut wholes: [&[S::f64s]; V] = [&[]; V];
    for (whole, vector) in wholes.iter_mut().zip(vectors) {
        *whole = &S::as_simd_f64s(vector).0[..steps];
    }
    let mut weights: [&[S::f64s]; N] = [&[]; N];
    for (weight, other) in weights.iter_mut().zip(others.chunks_exact(width)) {
        *weight = &S::as_simd_f64s(other).0[..steps];
    }
    let mut sums = [[simd.splat_f64s(0.0); N]; V];
    for at in 0..steps {
        if ahead {
            for vector in vectors {
                call(vector.as_ptr().wrapping_add(V * width + at * S::F64_LANES));
            }
        }
        let mut read = [simd.splat_f64s(0.0); V];
        for (read, whole) in read.iter_mut().zip(&wholes) {
            *read = whole[at];
        }
        for (other, weight) in weights.iter().enumerate() {
            for (sums, read) in sums.iter_mut().zip(read) {
                sums[other] = simd.mul_add_f64s(read, weight[at], sums[other]);
            }
        }
    }
    let mut found = [[0.0; OTHERS]; V];
    for ((found, sums), vector) in found.iter_mut().zip(sums).zip(vectors) {
        for ((found, sum), other) in found.iter_mut().zip(sums).zip(others.chunks_exact(width)) {
            *found = simd.reduce_sum_f64s(sum);
            let rest = steps * S::F64_LANES..width;
            for (a, b) in vector[rest.clone()].iter().zip(&other[rest]) {
                *found += a * b;
            }
        }
    }
    found
}

/// Calls for the line of this number, into the second cache: the first has no room for what is read now and next.
#[inline(always)]
fn call(place: *const f64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, which no address harms.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

struct Sums<'a> {
    vectors: &'a [f64],
    factors: &'a [f64],
    width: usize,
    sums: usize,
    out: &'a mut [f64],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let step = REGISTERS * S::F64_LANES;
        let whole = self.width - self.width % step;
        for sum in (0..self.sums).step_by(OTHERS) {
            for first in (0..whole).step_by(step) {
                match self.sums - sum {
                    1 => self.sum::<S, 1>(simd, sum, first),
                    2 => self.sum::<S, 2>(simd, sum, first),
                    3 => self.sum::<S, 3>(simd, sum, first),
                    4 => self.sum::<S, 4>(simd, sum, first),
                    _ => self.sum::<S, 5>(simd, sum, first),
                }
            }
        }
        for (vector, factors) in
            self.vectors.chunks_exact(self.width).zip(self.factors.chunks_exact(self.sums.max(1)))
        {
            for (out, factor) in self.out.chunks_exact_mut(self.width).zip(factors) {
                let rest = out[whole..].iter_mut().zip(&vector[whole..]);
                rest.for_each(|(sum, number)| *sum += number * factor);
            }
        }
    }
}

impl Sums<'_> {
    /// Some numbers of the `N` sums from one on.
    #[inline(always)]
    fn sum<S: Simd, const N: usize>(&mut self, simd: S, sum: usize, first: usize) {
        let step = REGISTERS * S::F64_LANES;
        let mut found = [[simd.splat_f64s(0.0); REGISTERS]; N];
        let pairs = self.vectors.chunks_exact(self.width).zip(self.factors.chunks_exact(self.sums));
        for (vector, factors) in pairs {
            let (numbers, _) = S::as_simd_f64s(&vector[first..first + step]);
            let factors = &factors[sum..sum + N];
            for (found, factor) in found.iter_mut().zip(factors) {
                let factor = simd.splat_f64s(*factor);
                for (found, number) in found.iter_mut().zip(numbers) {
                    *found = simd.mul_add_f64s(*number, factor, *found);
                }
            }
        }
        for (at, found) in found.iter().enumerate() {
            let (out, _) = S::as_mut_simd_f64s(&mut self.out[(sum + at) * self.width + first..][..step]);
            out.copy_from_slice(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(count: usize, seed: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f64 / 50.0 - 1.0).collect()
    }

    fn near(found: &[f64], wanted: &[f64]) -> bool {
        found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9)
    }

    proptest! {
        #[test]
        fn products_and_sums_follow_the_definition(
            count in 0usize..9, few in 0usize..13, width in 1usize..70,
        ) {
            let (vectors, others) = (numbers(count * width, 1), numbers(few * width, 2));
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let products: Vec<f64> = vectors
                .chunks(width)
                .flat_map(|vector| others.chunks(width).map(move |other| product(vector, other)))
                .collect();
            prop_assert!(near(&few_products(&vectors, &others, width), &products));
            let factors = numbers(count * few, 3);
            let mut sums = vec![0.0; if count == 0 { 0 } else { few * width }];
            for (vector, factors) in vectors.chunks(width).zip(factors.chunks(few.max(1))) {
                for (sum, factor) in sums.chunks_mut(width).zip(factors) {
                    sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += factor * x);
                }
            }
            prop_assert!(near(&few_sums(&vectors, &factors, width), &sums));
        }
    }

    #[test]
    fn lined_numbers_begin_with_a_line_and_are_as_many_as_asked_for() {
        for count in [0, 1, 7, 8, 1000] {
            let mut found = Lined::zeros(count);
            assert_eq!(found.len(), count);
            assert_eq!(found.as_ptr() as usize % 64, 0);
            found.iter_mut().for_each(|number| *number += 1.0);
            assert_eq!(found.iter().sum::<f64>(), count as f64);
        }
        assert_eq!([1, 8, 9].map(Lined::width), [8, 8, 16]);
    }

    #[test]
    #[should_panic(expected = "numbers fill vectors")]
    fn half_a_vector_is_a_mistake() {
        few_products(&[1.0, 2.0, 3.0], &[1.0, 2.0], 2);
    }
}
