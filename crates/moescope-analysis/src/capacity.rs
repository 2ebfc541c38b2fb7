//! Capacity: bits of facts recalled per parameter.
