//! Garbage collection of the objects that the controller manager does not see.
//!
//! Pure rules; the engine carries them out and a database keeps what they need. [`signals`] says what a change of an
//! object means, [`Task`] is the work that follows, [`decide`] says what becomes of a dependent.

mod audit;
mod decide;
#[cfg(test)]
mod decide_tests;
mod encrypted;
mod node;
pub mod rewrite;
mod rules;
mod signal;
mod task;
mod uid;
mod view;
mod work;

pub use audit::{Audit, Entry};
pub use decide::{Action, Below, Coordinates, Known, Verdict, Why, decide, ends, held_by, verdict};
pub use encrypted::encrypted;
pub use node::{Deletion, Edge, FOREGROUND, HOLD, Node, ORPHAN, group};
pub use rules::{DEFINITIONS, IGNORED, Rules, TYPED_GROUPS};
pub use signal::{Seen, Signal, What, signals};
pub use task::{LONGEST_PAUSE, Place, Progress, Status, Task, TaskKind, TaskState, Tombstone};
pub use uid::Uid;
pub use view::{Overview, View};
pub use work::{Dependent, Quota, Step, TaskChange, Work};
