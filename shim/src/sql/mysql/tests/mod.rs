//! What needs a server.

mod connection;
mod defragment;
mod faults;
mod find;
mod graph;
mod model;
mod plans;
mod store;
