//! moescope-model
