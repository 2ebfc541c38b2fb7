//! One command per file.

pub mod bench;
pub mod export;
pub mod inspect;
pub mod record;
pub mod routing;
pub mod study;
pub mod train;
