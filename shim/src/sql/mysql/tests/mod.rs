//! What needs a server.

mod connection;
mod defragment;
mod explained;
mod faults;
mod find;
mod graph;
mod model;
mod partition;
mod plans;
mod store;
