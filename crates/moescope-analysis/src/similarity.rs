//! Similarity of representations: unbiased linear centred kernel alignment.
