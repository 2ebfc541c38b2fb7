//! Probe: whether a label can be read linearly from a representation.
