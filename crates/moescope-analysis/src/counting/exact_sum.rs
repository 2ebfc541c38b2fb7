//! Sums of real numbers that do not depend on their order.

/// Bits of one limb that carry digits; the rest of its 64 take up carries.
const STRIDE: u32 = 32;

/// From the smallest subnormal, 2⁻¹⁰⁷⁴, to the largest double, and 46 bits for the number of terms.
const LIMBS: usize = 67;

/// Numbers of which [`ExactSum::add_all`] takes whole multiples of 2⁻⁵² together: the powers of two of a double that is 1 or more are.
const UNIT_BITS: u32 = 52;
const UNIT: f64 = (1u64 << UNIT_BITS) as f64;
/// Terms of fewer than 62 bits whose sum stays below 92 bits.
const TOGETHER: u32 = 1 << 30;

/// Terms between two settlings: each adds less than 2³² to a limb.
const UNSETTLED: u32 = 1 << 30;

/// The exact sum of any number of doubles, rounded once when it is asked for.
///
/// Adding and merging in any order gives the same bits, which a sum in floating point does not.
///
/// - **Source:** the superaccumulator of Neal 2015, "Fast exact summation using small and large superaccumulators".
#[derive(Clone, Debug)]
pub struct ExactSum {
    /// Digits of 32 bits in units of 2⁻¹⁰⁷⁴, the lowest first; carries are not always settled.
    limbs: [i64; LIMBS],
    unsettled: u32,
    /// Terms of +∞ and of −∞.
    infinite: [u64; 2],
}

impl Default for ExactSum {
    fn default() -> ExactSum {
        ExactSum { limbs: [0; LIMBS], unsettled: 0, infinite: [0; 2] }
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &ExactSum) -> bool {
        self.infinite == other.infinite && self.settled() == other.settled()
    }
}

impl ExactSum {
    /// Adds a number; NaN is a mistake of the caller and counts as both infinities, so that the sum is NaN.
    #[inline]
    pub fn add(&mut self, number: f64) {
        let bits = number.to_bits();
        let (exponent, mantissa) = ((bits >> 52) as u32 & 0x7ff, bits & ((1 << 52) - 1));
        if exponent == 0x7ff {
            self.add_infinite(number);
            return;
        }
        let (place, mantissa) =
            if exponent == 0 { (0, mantissa) } else { (exponent - 1, mantissa | 1 << 52) };
        let limb = (place / STRIDE) as usize;
        let digits = u128::from(mantissa) << (place % STRIDE);
        let sign = 1 - 2 * (bits >> 63) as i64;
        let limbs = &mut self.limbs[limb..limb + 3];
        limbs[0] += sign * i64::from(digits as u32);
        limbs[1] += sign * i64::from((digits >> 32) as u32);
        limbs[2] += sign * i64::from((digits >> 64) as u32);
        self.unsettled += 1;
        if self.unsettled == UNSETTLED {
            self.settle();
        }
    }

    /// Adds numbers, most of which are neither tiny nor huge: as whole numbers of units that are flushed now and then, since each single
    /// addition waits for the one before.
    pub fn add_all(&mut self, numbers: impl Iterator<Item = f64>) {
        let (mut whole, mut terms) = (0i128, 0u32);
        for number in numbers {
            let scaled = number * UNIT;
            let integer = scaled as i64;
            // What has digits below the unit, or does not fit, is added by itself.
            if integer as f64 != scaled || integer.unsigned_abs() >= 1 << 62 {
                self.add(number);
                continue;
            }
            whole += i128::from(integer);
            terms += 1;
            if terms == TOGETHER {
                self.add_units(std::mem::take(&mut whole));
                terms = 0;
            }
        }
        self.add_units(whole);
    }

    /// Adds a number of units of [`UNIT`], of at most 92 bits.
    fn add_units(&mut self, units: i128) {
        const PLACE: u32 = 1074 - UNIT_BITS;
        let digits = units.unsigned_abs() << (PLACE % STRIDE);
        let sign = if units < 0 { -1 } else { 1 };
        let limbs = &mut self.limbs[(PLACE / STRIDE) as usize..][..4];
        for (limb, shift) in limbs.iter_mut().zip([0, 32, 64, 96]) {
            *limb += sign * i64::from((digits >> shift) as u32);
        }
        self.unsettled += 1;
        if self.unsettled == UNSETTLED {
            self.settle();
        }
    }

    #[cold]
    fn add_infinite(&mut self, number: f64) {
        self.infinite[0] += u64::from(number > 0.0 || number.is_nan());
        self.infinite[1] += u64::from(number < 0.0 || number.is_nan());
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &ExactSum) {
        self.settle();
        self.limbs.iter_mut().zip(other.settled()).for_each(|(own, more)| *own += more);
        self.settle();
        self.infinite.iter_mut().zip(other.infinite).for_each(|(own, more)| *own += more);
    }

    /// The sum, rounded once to the nearest double; ±∞ with an infinite term, NaN with both.
    pub fn value(&self) -> f64 {
        match self.infinite {
            [0, 0] => self.finite_value(),
            [_, 0] => f64::INFINITY,
            [0, _] => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    fn finite_value(&self) -> f64 {
        let mut limbs = self.settled();
        let negative = limbs[LIMBS - 1] < 0;
        if negative {
            limbs.iter_mut().for_each(|limb| *limb = -*limb);
            carry(&mut limbs);
        }
        let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else { return 0.0 };
        let base = top.saturating_sub(2);
        let digits = limbs[base..=top].iter().rev().fold(0u128, |all, limb| all << STRIDE | *limb as u128);
        // What lies below only decides ties, for which one bit suffices.
        let sticky = u128::from(limbs[..base].iter().any(|limb| *limb != 0));
        let exponent = base as i32 * STRIDE as i32 - 1074;
        // In two steps, since 2^−1074 times a large number is not small.
        let value = (digits | sticky) as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
        if negative { -value } else { value }
    }

    /// The state as integers that add up: limb by limb, then the counts of +∞ and −∞.
    pub(crate) fn cells(&self) -> Vec<i64> {
        self.settled().into_iter().chain(self.infinite.map(|count| count as i64)).collect()
    }

    /// Adds a cell of [`cells`](Self::cells); whether there is one of this number.
    pub(crate) fn add_cell(&mut self, cell: usize, sum: i64) -> bool {
        match cell {
            0..LIMBS => {
                self.settle();
                let Some(limb) = self.limbs[cell].checked_add(sum) else { return false };
                self.limbs[cell] = limb;
                self.settle();
            }
            _ => match self.infinite.get_mut(cell - LIMBS) {
                Some(count) => *count = count.wrapping_add_signed(sum),
                None => return false,
            },
        }
        true
    }

    fn settle(&mut self) {
        carry(&mut self.limbs);
        self.unsettled = 0;
    }

    fn settled(&self) -> [i64; LIMBS] {
        let mut limbs = self.limbs;
        carry(&mut limbs);
        limbs
    }
}

/// Leaves 32 bits in each limb but the last, which holds the sign: there is one such form of each number.
fn carry(limbs: &mut [i64; LIMBS]) {
    for limb in 0..LIMBS - 1 {
        limbs[limb + 1] += limbs[limb] >> STRIDE;
        limbs[limb] &= (1 << STRIDE) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(numbers: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        numbers.iter().for_each(|x| sum.add(*x));
        sum
    }

    #[test]
    fn hand_worked_sums_are_exact() {
        assert_eq!(sum(&[1e300, 1.0, -1e300]).value(), 1.0);
        assert_eq!(sum(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum(&[]).value(), 0.0);
        assert_eq!(sum(&[f64::MAX, f64::MIN_POSITIVE, -f64::MAX]).value(), f64::MIN_POSITIVE);
        // Half a unit in the last place rounds to even, a little more rounds up.
        assert_eq!(sum(&[1.0, f64::EPSILON / 2.0]).value(), 1.0);
        assert_eq!(sum(&[1.0, f64::EPSILON / 2.0, 1e-300]).value(), 1.0 + f64::EPSILON);
        assert_eq!(sum(&[-1.0, -f64::EPSILON / 2.0, -1e-300]).value(), -1.0 - f64::EPSILON);
        assert_eq!(sum(&[f64::INFINITY, 1.0]).value(), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
        assert!(sum(&[f64::NAN]).value().is_nan());
    }

    proptest! {
        #[test]
        fn neither_order_nor_parts_nor_storage_matter(
            mut numbers in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL, 1..40),
            cut in 0usize..40,
        ) {
            let whole = sum(&numbers);
            let (a, b) = numbers.split_at(cut.min(numbers.len()));
            let mut merged = sum(b);
            merged.merge(&sum(a));
            prop_assert_eq!(&merged, &whole);
            let mut read = ExactSum::default();
            for (cell, value) in whole.cells().into_iter().enumerate() {
                prop_assert!(read.add_cell(cell, value));
            }
            prop_assert_eq!(&read, &whole);
            numbers.reverse();
            prop_assert_eq!(sum(&numbers).value().to_bits(), whole.value().to_bits());
        }

        #[test]
        fn many_at_once_are_the_same_to_the_bit(
            numbers in prop::collection::vec(prop_oneof![prop::num::f64::ANY, -4096.0..4096.0, 1e-6..1.0], 0..60),
        ) {
            let mut together = ExactSum::default();
            together.add_all(numbers.iter().copied());
            prop_assert_eq!(together, sum(&numbers));
        }

        #[test]
        fn small_integers_sum_as_integers(numbers in prop::collection::vec(-1_000_000i64..1_000_000, 0..200)) {
            let reals: Vec<f64> = numbers.iter().map(|n| *n as f64).collect();
            prop_assert_eq!(sum(&reals).value(), numbers.iter().sum::<i64>() as f64);
        }
    }
}
