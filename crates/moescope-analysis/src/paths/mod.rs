//! Paths: the sequence of expert sets that a token takes through the layers.
