//! moescope-base
