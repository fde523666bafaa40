//! What needs a server.

mod connection;
mod find;
mod graph;
mod model;
mod store;
