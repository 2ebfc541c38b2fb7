//! Spectrum: how many directions a set of vectors fills.
