//! Whose kernels a product takes: ours for the vectors of this machine, or those of the `gemm` crate.
#![allow(unsafe_code)]

use super::{LeftSide, Operands, Out, RightSide, Sizes, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Machines that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// With AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// With AVX2 and fused products.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Any other.
    Other,
}

impl Machine {
    /// The one that this is.
    #[inline]
    pub(super) fn here() -> Machine {
        #[cfg(test)]
        if let Some(told) = TOLD.get() {
            return told;
        }
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            return Machine::Avx512;
        } else if avx2::available() {
            return Machine::Avx2;
        }
        Machine::Other
    }
}

#[cfg(test)]
thread_local! {
    /// The machine that a test asks for.
    pub(super) static TOLD: std::cell::Cell<Option<Machine>> = const { std::cell::Cell::new(None) };
}

/// `out = left · right`, or added. Meanwhile the sides of the product that comes next are called for.
///
/// # Safety
/// The sides and the target have the sizes that `sizes` says, and names name rows that there are.
pub(super) unsafe fn multiply(
    out: &Out<'_>,
    left: LeftSide<'_>,
    right: RightSide<'_>,
    sizes: Sizes,
    next: Option<&Operands<'_>>,
) {
    match Machine::here() {
        // SAFETY: the machine can, and the caller promises the rest.
        #[cfg(target_arch = "x86_64")]
        Machine::Avx512 => unsafe { avx512::multiply(out, left, (right, None), sizes, next) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Machine::Avx2 => unsafe { avx2::multiply(out, left, (right, None), sizes, next) },
        Machine::Other => {
            // Nothing calls for anything there.
            let _ = next;
            portable::multiply(out, left, right, sizes);
        }
    }
}

/// A right side, laid out for the kernels of this machine.
pub(super) enum Panels {
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Panels),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Panels),
}

impl Panels {
    /// Lays out a right side of `inner` steps and `columns` columns; none where `gemm` does so for every product.
    ///
    /// # Safety
    /// The side has these sizes, and names name rows that there are.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    pub(super) unsafe fn new(right: RightSide<'_>, inner: usize, columns: usize) -> Option<Panels> {
        match Machine::here() {
            // SAFETY: the machine can, and the caller promises the rest.
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512 => Some(Panels::Avx512(unsafe { avx512::Panels::new(right, inner, columns) })),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Machine::Avx2 => Some(Panels::Avx2(unsafe { avx2::Panels::new(right, inner, columns) })),
            Machine::Other => None,
        }
    }

    /// As [`multiply`], by this right side.
    ///
    /// # Safety
    /// As for [`multiply`]; the panels are those of `right`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    pub(super) unsafe fn multiply(
        &self,
        out: &Out<'_>,
        left: LeftSide<'_>,
        right: RightSide<'_>,
        sizes: Sizes,
        next: Option<&Operands<'_>>,
    ) {
        match *self {
            // SAFETY: what was laid out for a machine is on it; the caller promises the rest.
            #[cfg(target_arch = "x86_64")]
            Panels::Avx512(ref panels) => unsafe {
                avx512::multiply(out, left, (right, Some(panels)), sizes, next);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Panels::Avx2(ref panels) => unsafe {
                avx2::multiply(out, left, (right, Some(panels)), sizes, next);
            },
        }
    }
}
