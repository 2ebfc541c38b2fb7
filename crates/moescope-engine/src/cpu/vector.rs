//! Loops over numbers that the compiler turns into vector instructions, chosen when the program runs.
//!
//! [`vectorised!`] compiles a function once for each instruction set and picks at run time, so no build flag is needed. What
//! is called inside must be inlined, hence the `inline(always)` and the absence of closures, which the compiler may put apart
//! without the vectors. Sums run over a fixed number of lanes and products are fused everywhere, so the order of every
//! operation is the same for each instruction set.

/// A function whose body is compiled for each instruction set. Its borrows share one lifetime, which it names.
macro_rules! vectorised {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident<$life:lifetime>($($argument:ident: $type:ty),+ $(,)?)
        $(-> $result:ty)? $body:block) => {
        $(#[$attribute])*
        #[allow(clippy::needless_lifetimes)]
        $visibility fn $name<$life>($($argument: $type),+) $(-> $result)? {
            struct Call<$life> {
                $($argument: $type),+
            }
            impl<$life> pulp::WithSimd for Call<$life> {
                type Output = $crate::cpu::vector::result_type!($($result)?);

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _simd: S) -> Self::Output {
                    let Self { $($argument),+ } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Call { $($argument),+ })
        }
    };
}

/// What a function without a written result gives.
macro_rules! result_type {
    () => {
        ()
    };
    ($result:ty) => {
        $result
    };
}

pub(super) use {result_type, vectorised};

/// Lanes of a sum: two vectors of the widest kind or four of the narrower, which hide the latency of an addition.
const LANES: usize = 32;
/// Lanes for what is left: one vector of the narrower kind, so that a head of 16 entries is not added up one by one.
const FEW: usize = 8;

/// `exp(x)`, to a relative error of about 1e-7; zero below -87, at most `exp(88.37)`.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, then a polynomial in `r`; coefficients of Moshier's Cephes library (`expf`).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest whole number, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const HIGH: f32 = 88.37;
    const LOW: f32 = -87.0;
    // Comparisons, not `min` and `max`, so that not-a-number stays what it is.
    let bounded = if x > HIGH { HIGH } else { x };
    let bounded = if bounded < LOW { LOW } else { bounded };
    let shifted = bounded.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = whole.mul_add(-0.693_359_4, bounded);
    let rest = whole.mul_add(2.121_944_4e-4, rest);
    let series = rest.mul_add(1.987_569_1e-4, 1.398_199_9e-3);
    let series = rest.mul_add(series, 8.333_452e-3);
    let series = rest.mul_add(series, 4.166_579_6e-2);
    let series = rest.mul_add(series, 1.666_666_5e-1);
    let series = rest.mul_add(series, 0.5);
    let fraction = (rest * rest).mul_add(series, rest) + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < LOW { 0.0 } else { fraction * power }
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Folds lanes with `$join`, halving them each time. Written out for each width: with a width that is a variable, the compiler takes
/// the lanes apart.
macro_rules! halve {
    ($lanes:ident, |$a:ident, $b:ident| $join:expr) => {{
        halve!(@step $lanes, |$a, $b| $join, sixteen, 16);
        halve!(@step sixteen, |$a, $b| $join, eight, 8);
        halve!(@step eight, |$a, $b| $join, four, 4);
        halve!(@step four, |$a, $b| $join, two, 2);
        let ($a, $b) = (two[0], two[1]);
        $join
    }};
    (@step $from:ident, |$a:ident, $b:ident| $join:expr, $to:ident, $width:literal) => {
        let mut $to = [0.0f32; $width];
        for i in 0..$width {
            let ($a, $b) = ($from[i], $from[i + $width]);
            $to[i] = $join;
        }
    };
}

/// Adds up lanes, halving them each time.
#[inline(always)]
fn total(sums: [f32; LANES]) -> f32 {
    halve!(sums, |a, b| a + b)
}

/// A sum over fixed lanes of a term in one entry of each slice. A macro, because a closure may be compiled on its own, without
/// the vectors.
macro_rules! fold {
    (|$sum:ident $(, $entry:ident in $slice:ident)+| $term:expr) => {{
        let length = [$($slice.len()),+].into_iter().fold(usize::MAX, usize::min);
        let mut sums = [0.0f32; LANES];
        let mut start = 0;
        while start + LANES <= length {
            $(let $entry = &$slice[start..start + LANES];)+
            for i in 0..LANES {
                $(let $entry = $entry[i];)+
                let $sum = sums[i];
                sums[i] = $term;
            }
            start += LANES;
        }
        while start + FEW <= length {
            $(let $entry = &$slice[start..start + FEW];)+
            for i in 0..FEW {
                $(let $entry = $entry[i];)+
                let $sum = sums[i];
                sums[i] = $term;
            }
            start += FEW;
        }
        let mut $sum = total(sums);
        for i in start..length {
            $(let $entry = $slice[i];)+
            $sum = $term;
        }
        $sum
    }};
}

/// `Σ a * b`.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    fold!(|sum, x in a, y in b| x.mul_add(y, sum))
}

/// `Σ a * b * c`.
#[inline(always)]
pub(super) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    fold!(|sum, x in a, y in b, z in c| (x * y).mul_add(z, sum))
}

/// `Σ a`.
#[inline(always)]
pub(super) fn sum(a: &[f32]) -> f32 {
    fold!(|sum, x in a| sum + x)
}

/// The largest entry; not-a-number is passed over.
#[inline(always)]
pub(super) fn largest(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (mut pieces, mut few) = (a.chunks_exact(LANES), a.chunks_exact(LANES).remainder().chunks_exact(FEW));
    for piece in &mut pieces {
        for i in 0..LANES {
            lanes[i] = if piece[i] > lanes[i] { piece[i] } else { lanes[i] };
        }
    }
    for piece in &mut few {
        for i in 0..FEW {
            lanes[i] = if piece[i] > lanes[i] { piece[i] } else { lanes[i] };
        }
    }
    let mut best = halve!(lanes, |a, b| if b > a { b } else { a });
    for &x in few.remainder() {
        best = if x > best { x } else { best };
    }
    best
}

/// `out = exp(x - shift)` and the sum of it.
#[inline(always)]
pub(super) fn exp_shifted(x: &[f32], shift: f32, out: &mut [f32]) -> f32 {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = exp(x - shift);
    }
    sum(out)
}

/// `x = exp(x - shift)` in place, and the sum of it, in one visit.
#[inline(always)]
pub(super) fn exp_in_place(x: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let mut pieces = x.chunks_exact_mut(LANES);
    for piece in &mut pieces {
        for i in 0..LANES {
            piece[i] = exp(piece[i] - shift);
            sums[i] += piece[i];
        }
    }
    let mut pieces = pieces.into_remainder().chunks_exact_mut(FEW);
    for piece in &mut pieces {
        for i in 0..FEW {
            piece[i] = exp(piece[i] - shift);
            sums[i] += piece[i];
        }
    }
    let mut sum = total(sums);
    for x in pieces.into_remainder() {
        *x = exp(*x - shift);
        sum += *x;
    }
    sum
}

/// `Σ exp(x - shift)`.
#[inline(always)]
pub(super) fn sum_exp(x: &[f32], shift: f32) -> f32 {
    fold!(|sum, x in x| sum + exp(x - shift))
}

/// `into += factor * from`.
#[inline(always)]
pub(super) fn add_scaled(into: &mut [f32], from: &[f32], factor: f32) {
    for (into, &from) in into.iter_mut().zip(from) {
        *into = factor.mul_add(from, *into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_right_to_one_part_in_ten_million() {
        let mut x = -86.9f32;
        while x < 88.0 {
            let wanted = f64::from(x).exp();
            let error = (f64::from(exp(x)) - wanted).abs() / wanted;
            assert!(error < 1.5e-7, "exp({x}) is off by {error}");
            x += 0.003_7;
        }
        assert_eq!((exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        let mut row: Vec<f32> = (0..77).map(|i| (i as f32 * 0.37).sin()).collect();
        let wanted: Vec<f32> = row.iter().map(|&x| exp(x - 0.5)).collect();
        let found = exp_in_place(&mut row, 0.5);
        assert_eq!(row, wanted);
        assert_eq!(found, sum(&wanted));
        assert!(exp(f32::NAN).is_nan() && exp(1e30) > 1e38 && exp(f32::INFINITY).is_finite());
    }

    #[test]
    fn sums_are_sums_at_every_length() {
        for length in [0, 1, 31, 32, 33, 97, 128] {
            let a: Vec<f32> = (0..length).map(|i| i as f32 * 0.5 - 7.0).collect();
            let exact: f64 = a.iter().map(|&x| f64::from(x)).sum();
            let squares: f64 = a.iter().map(|&x| f64::from(x).powi(2)).sum();
            let cubes: f64 = a.iter().map(|&x| f64::from(x).powi(3)).sum();
            assert!((f64::from(sum(&a)) - exact).abs() < 1e-2);
            assert!((f64::from(dot(&a, &a)) - squares).abs() < 1e-2);
            assert!((f64::from(dot3(&a, &a, &a)) - cubes).abs() < 1e-1);
            assert_eq!(largest(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
