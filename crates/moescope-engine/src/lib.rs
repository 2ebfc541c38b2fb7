//! moescope-engine
