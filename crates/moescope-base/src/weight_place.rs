use std::fmt;

use crate::Projection;

/// Where a matrix of weights stands in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeightPlace {
    /// The router of a block, `[expert, d_model]`.
    Router {
        /// Block.
        layer: usize,
    },
    /// One matrix of one expert; see [`Parameters::expert`](crate::Parameters::expert).
    Expert {
        /// Block.
        layer: usize,
        /// Expert of its routed layer.
        expert: usize,
        /// Which matrix.
        projection: Projection,
    },
    /// What an expert adds to a product, one number for each output: `[output, 1]`.
    ExpertBias {
        /// Block.
        layer: usize,
        /// Expert of its routed layer.
        expert: usize,
        /// Of which matrix.
        projection: Projection,
    },
    /// A matrix of the attention of a block, `[output, input]`. They are numbered from 0 without a gap, in the order of the pass.
    Attention {
        /// Block.
        layer: usize,
        /// Which matrix.
        number: usize,
    },
    /// One matrix of a dense feed-forward layer, with axes as those of an expert.
    Dense {
        /// Block.
        layer: usize,
        /// Which matrix.
        projection: Projection,
    },
    /// One matrix of the expert that all tokens of a routed layer share.
    Shared {
        /// Block.
        layer: usize,
        /// Which matrix.
        projection: Projection,
    },
}

impl fmt::Display for WeightPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |projection: &Projection| format!("{projection:?}").to_lowercase();
        match self {
            WeightPlace::Router { layer } => write!(f, "the router of block {layer}"),
            WeightPlace::Expert { layer, expert, projection } => {
                write!(f, "{} of expert {expert} of block {layer}", word(projection))
            }
            WeightPlace::ExpertBias { layer, expert, projection } => {
                write!(f, "the bias of {} of expert {expert} of block {layer}", word(projection))
            }
            WeightPlace::Attention { layer, number } => {
                write!(f, "matrix {number} of the attention of block {layer}")
            }
            WeightPlace::Dense { layer, projection } => {
                write!(f, "{} of the dense layer of block {layer}", word(projection))
            }
            WeightPlace::Shared { layer, projection } => {
                write!(f, "{} of the shared expert of block {layer}", word(projection))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_for_people() {
        let place = WeightPlace::ExpertBias { layer: 1, expert: 7, projection: Projection::Down };
        assert_eq!(place.to_string(), "the bias of down of expert 7 of block 1");
        assert_eq!(WeightPlace::Router { layer: 3 }.to_string(), "the router of block 3");
    }
}
