//! How far the database is, as the process that serves tells those that stand by.

use serde::{Deserialize, Serialize};

use crate::engine::Stand;

/// Where the process tells that, on the ports for clients, as JSON.
pub(super) const PATH: &str = "/sluice/place";

/// What the process that serves says of itself and of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) cluster_id: u64,
    /// By which the database knows the process.
    pub(super) owner: i64,
    #[serde(flatten)]
    pub(super) stand: Stand,
}
