//! Logit lens: what the final norm and unembedding read from the residual stream after each block.
