//! Matrices: the few operations on row-major `f64` matrices that the instruments share.
