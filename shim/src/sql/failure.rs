//! What went wrong with a database, and what may be done about it.

use crate::engine::Error;

/// A call that failed. Nothing of the transaction under way has happened, unless the kind says otherwise.
#[derive(Debug, Clone)]
pub(in crate::sql) enum Failure {
    /// The same transaction may succeed if it is begun anew: a deadlock, a conflict, a lock that was not got in time.
    Again(Error),
    /// The connection is of no use any more; the same transaction may succeed on another one.
    Lost(Error),
    /// The commit was under way: it may have happened or not. [`super::session::Commit::begin`] on another connection
    /// tells by [`super::session::Head::batch`].
    Unknown(Error),
    /// Trying again is of no use, or not the store's business.
    Final(Error),
}

/// The result of a call to a database.
pub(in crate::sql) type Result<T> = std::result::Result<T, Failure>;

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Again(error) | Failure::Lost(error) | Failure::Final(error) => error,
            Failure::Unknown(error) => Self::Unknown(error.to_string()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}
