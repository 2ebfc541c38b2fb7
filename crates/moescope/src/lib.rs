//! moescope
