//! moescope-train
