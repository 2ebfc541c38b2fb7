//! moescope-trace
