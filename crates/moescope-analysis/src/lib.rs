//! moescope-analysis
