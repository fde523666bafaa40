//! A store that went back: to what a standby had, or a backup.

use super::load::unfinished;
use super::store::{Changes, Footprint, Store};
use super::types::{Error, Result, Revision};

/// What was done to the revision of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// What it was.
    pub from: Revision,
    /// What it is, which is also the revision of the last compaction.
    pub to: Revision,
}

/// Raises the revision of a store that nobody serves, and compacts all that was. So no revision that a client saw
/// before the store went back means something else now: a client that knows one is told that it is compacted, and lists
/// anew (etcdutl: `snapshot restore --bump-revision --mark-compacted`). The server that serves the store next removes
/// the history.
///
/// # Errors
/// When the store is not whole, or can't be changed. After [`Error::Unknown`] it may be raised or not; to raise it
/// twice does no harm.
pub fn raise_revision(store: &dyn Store, by: Revision) -> Result<Raised> {
    let mut raised = None;
    store.writer()?.commit(&Footprint::default(), &mut |before| {
        if before.revision == 0 {
            return Err(unfinished());
        }
        let to = before.revision.checked_add(by);
        let to = to.ok_or_else(|| Error::Broken("the revision would be greater than any number".into()))?;
        raised = Some(Raised { from: before.revision, to });
        Ok(Changes { revision: to, compact_revision: Some(to), ..Changes::default() })
    })?;
    raised.ok_or_else(|| Error::Broken("the revision was not raised".into()))
}
