//! Routing: what the routers of a model chose.
