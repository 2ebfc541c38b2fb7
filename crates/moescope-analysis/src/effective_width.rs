//! Effective width: the dense width that reaches the loss of an MoE model.
