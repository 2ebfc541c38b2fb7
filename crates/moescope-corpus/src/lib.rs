//! moescope-corpus
