//! Work outside the kernels that an instruction of some machines makes faster: bits put where a word has bits.
#![allow(unsafe_code)]

/// Puts the low bits of the first word, the lowest first, where the second has bits: `deposit(0b01, 0b1010)` is `0b0010`.
pub trait Deposit: Fn(u64, u64) -> u64 + Copy {}

impl<F: Fn(u64, u64) -> u64 + Copy> Deposit for F {}

/// Work that deposits bits.
pub trait WithDeposit {
    /// What comes out.
    type Output;

    /// Does it. To be as fast as can be it must be `inline(always)`, and whatever it calls with `deposit`, too.
    fn run(self, deposit: impl Deposit) -> Self::Output;
}

/// Does it with the fastest way to deposit bits that this machine has, compiled for its other instructions on bits, too. The result does not
/// depend on the way.
pub fn with_deposit<W: WithDeposit>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("popcnt")
    {
        // SAFETY: the machine has all three.
        return unsafe { with_instructions(work) };
    }
    work.run(deposit_slowly)
}

/// On machines that have instructions for bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2,popcnt")]
fn with_instructions<W: WithDeposit>(work: W) -> W::Output {
    work.run(|low, places| std::arch::x86_64::_pdep_u64(low, places))
}

/// Bit by bit: the reference, and what machines do that have no instruction for it.
#[must_use]
pub fn deposit_slowly(mut low: u64, mut places: u64) -> u64 {
    let mut deposited = 0;
    while places != 0 {
        let place = places & places.wrapping_neg();
        deposited |= place & (low & 1).wrapping_neg();
        places ^= place;
        low >>= 1;
    }
    deposited
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct One(u64, u64);

    impl WithDeposit for One {
        type Output = u64;

        fn run(self, deposit: impl Deposit) -> u64 {
            deposit(self.0, self.1)
        }
    }

    #[test]
    fn bits_are_deposited_by_hand() {
        assert_eq!(deposit_slowly(0b01, 0b1010), 0b0010);
        assert_eq!(deposit_slowly(0b110, 0b1011_0000), 0b1010_0000);
        assert_eq!(deposit_slowly(u64::MAX, 0), 0);
        assert_eq!(deposit_slowly(5, u64::MAX), 5);
    }

    proptest! {
        #[test]
        fn the_machine_deposits_as_slow_steps_do(low: u64, places: u64) {
            prop_assert_eq!(with_deposit(One(low, places)), deposit_slowly(low, places));
        }
    }
}
