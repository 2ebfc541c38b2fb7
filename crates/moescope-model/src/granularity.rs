//! From a dense layer to experts of equal cost.

use std::fmt;

use crate::ModelError;
use crate::description::{Routed, Router};

/// Sizes of a routed layer as fine as wanted, with the parameters that a token meets held constant.
///
/// `granularity = d_ff / expert_width`, the definition of Krajewski et al. 2024 (arXiv 2402.07871), not that of Ling
/// (`2 d_model / expert_width`) nor the split factor. Total and active feed-forward parameters do not depend on the granularity;
/// the router grows with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granularity {
    /// Number of experts: `expansion * granularity`.
    pub experts: usize,
    /// Neurons of one expert: `d_ff / granularity`.
    pub expert_width: usize,
    /// Experts of one token: `granularity`.
    pub per_token: usize,
}

impl Granularity {
    /// Splits `expansion` dense layers of `d_ff` neurons into experts, `granularity` of them as large as one layer.
    ///
    /// # Errors
    /// [`ModelError::Description`] when a size is zero or the granularity does not divide `d_ff`.
    pub fn warsaw(d_ff: usize, expansion: usize, granularity: usize) -> Result<Granularity, ModelError> {
        if d_ff == 0 || expansion == 0 {
            let found = format!("d_ff {d_ff}, expansion {expansion}");
            return Err(ModelError::description("granularity", found, "sizes of at least 1"));
        }
        if granularity == 0 || !d_ff.is_multiple_of(granularity) {
            let wanted = format!("a divisor of d_ff, {d_ff}");
            return Err(ModelError::description("granularity", granularity, wanted));
        }
        Ok(Granularity {
            experts: expansion * granularity,
            expert_width: d_ff / granularity,
            per_token: granularity,
        })
    }

    /// The sizes of a layer that there is: the granularity it would have as the split of a dense layer as wide as the experts
    /// of one token together. That is what authors of checkpoints mean where they do not say which dense layer they began with.
    pub fn of(routed: &Routed) -> Granularity {
        Granularity {
            experts: routed.experts,
            expert_width: routed.expert_width,
            per_token: routed.per_token,
        }
    }

    /// A layer of these sizes.
    pub fn routed(self, router: Router) -> Routed {
        Routed {
            experts: self.experts,
            expert_width: self.expert_width,
            per_token: self.per_token,
            router,
            shared: None,
        }
    }
}

/// The granularity with the name of its definition, of which there are several.
impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (granularity, width) = (self.per_token, self.expert_width);
        write!(f, "{granularity} (Warsaw: active width {} over expert width {width})", granularity * width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn eight_fold_expansion_at_granularity_four() {
        let sizes = Granularity::warsaw(1024, 8, 4).unwrap();
        assert_eq!(sizes, Granularity { experts: 32, expert_width: 256, per_token: 4 });
    }

    #[test]
    fn a_granularity_that_does_not_divide_is_refused() {
        assert!(Granularity::warsaw(1024, 8, 3).is_err());
        assert!(Granularity::warsaw(1024, 8, 0).is_err());
        assert!(Granularity::warsaw(1024, 0, 1).is_err());
    }

    proptest! {
        #[test]
        fn active_and_total_width_do_not_depend_on_it(width in 1usize..50, expansion in 1usize..20, g in 1usize..20) {
            let d_ff = width * g;
            let sizes = Granularity::warsaw(d_ff, expansion, g).unwrap();
            prop_assert_eq!(sizes.per_token * sizes.expert_width, d_ff);
            prop_assert_eq!(sizes.experts * sizes.expert_width, expansion * d_ff);
        }
    }
}
