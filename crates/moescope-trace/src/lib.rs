//! What was seen: routes, tokens and activations, in memory and on disk.

mod routing;

pub use routing::{LayerRouting, RoutingTrace, TokenTable, TraceError};
