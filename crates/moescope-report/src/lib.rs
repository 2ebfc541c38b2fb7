//! moescope-report
