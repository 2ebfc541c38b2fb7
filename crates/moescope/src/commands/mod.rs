//! One command per file.
//!
//! Each has its arguments as a type, whose documentation is the help of the command, and a `run` that reads, calls
//! one or two rooms, and writes. A command that does more than that has found something which belongs in a room.

pub mod analyze;
pub mod bench;
mod count_routes;
pub mod dictionary;
pub mod export;
mod hook_list;
pub mod inspect;
pub mod knockout;
pub mod record;
pub mod record_corpus;
pub mod routing;
pub mod study;
pub mod train;
pub mod validate;
