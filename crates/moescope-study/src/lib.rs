//! moescope-study
