//! Profile of every expert: how much it is used, which tokens and which domain tell that it is chosen, and what its answers promote.

mod gives;
mod instrument;
mod promoted;
mod telling;

pub use instrument::ExpertProfile;
pub use telling::{Telling, Tokens, telling_tokens};
