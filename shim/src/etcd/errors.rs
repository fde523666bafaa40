//! The one table from what can go wrong to etcd's gRPC codes and texts.
//!
//! Clients compare both, so they are etcd's to the letter (etcd: api/v3rpc/rpctypes/error.go).

use tonic::{Code, Status};

use crate::engine;

/// An error that etcd has a name for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A request without a key.
    EmptyKey,
    /// A put with `ignore_value` or `ignore_lease` of a missing key; also an empty operation in a transaction.
    KeyNotFound,
    /// A value together with `ignore_value`.
    ValueProvided,
    /// A lease together with `ignore_lease`.
    LeaseProvided,
    /// More operations than `--max-txn-ops`.
    TooManyOps,
    /// A transaction that changes a key twice.
    DuplicateKey,
    /// A sort order or target that does not exist.
    InvalidSortOption,
    /// The revision was compacted away.
    Compacted,
    /// The revision does not exist yet.
    FutureRevision,
    /// The database is full.
    NoSpace,
    /// There is no such lease.
    LeaseNotFound,
    /// There is such a lease already.
    LeaseExists,
    /// A lease of more than [`super::lease::MAX_TTL`] seconds.
    LeaseTtlTooLarge,
    /// More bytes than `--max-request-bytes`.
    RequestTooLarge,
    /// The server does not do that.
    NotCapable,
    /// More requests wait than can be served soon.
    TooManyRequests,
    /// The server ends.
    Stopped,
    /// Whether a write happened is unknown.
    Timeout,
    /// A token is asked for, but nobody needs one.
    AuthNotEnabled,
    /// There is nobody to hand the leadership to.
    BadLeaderTransferee,
    /// Neither to validate, nor to enable, nor to cancel.
    UnknownAction,
    /// A downgrade to something that is not a version.
    WrongDowngradeVersionFormat,
    /// A downgrade to a version that can't be gone to.
    InvalidDowngradeTargetVersion,
}

impl Fault {
    /// The gRPC code and the text.
    pub const fn parts(self) -> (Code, &'static str) {
        match self {
            Self::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            Self::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            Self::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
            Self::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
            Self::TooManyOps => (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            Self::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
            Self::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
            Self::Compacted => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Self::FutureRevision => (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
            Self::NoSpace => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            Self::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            Self::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            Self::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            Self::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
            Self::NotCapable => (Code::FailedPrecondition, "etcdserver: not capable"),
            Self::TooManyRequests => (Code::ResourceExhausted, "etcdserver: too many requests"),
            Self::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
            Self::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
            Self::AuthNotEnabled => (Code::FailedPrecondition, "etcdserver: authentication is not enabled"),
            Self::BadLeaderTransferee => (Code::FailedPrecondition, "etcdserver: bad leader transferee"),
            Self::UnknownAction => (Code::Unknown, "etcdserver: unknown method"),
            Self::WrongDowngradeVersionFormat => {
                (Code::InvalidArgument, "etcdserver: wrong downgrade target version format")
            }
            Self::InvalidDowngradeTargetVersion => {
                (Code::InvalidArgument, "etcdserver: invalid downgrade target version")
            }
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let (code, text) = fault.parts();
        Self::new(code, text)
    }
}

/// What a client is told about an error of the engine. What etcd has no words for is logged here, since the client
/// gets etcd's text without the detail.
impl From<engine::Error> for Status {
    fn from(error: engine::Error) -> Self {
        use engine::Error;
        match error {
            Error::Compacted { .. } => Fault::Compacted.into(),
            Error::FutureRevision => Fault::FutureRevision.into(),
            Error::KeyNotFound => Fault::KeyNotFound.into(),
            Error::LeaseNotFound => Fault::LeaseNotFound.into(),
            Error::LeaseExists => Fault::LeaseExists.into(),
            Error::TooManyRequests => Fault::TooManyRequests.into(),
            Error::KeyTooLong { .. } => Self::invalid_argument(format!("etcdserver: {error}")),
            Error::RequestTooLarge { .. } => {
                tracing::warn!(%error, "a request is refused; --max-request-bytes is larger than what the database takes");
                Fault::RequestTooLarge.into()
            }
            Error::NoSpace(detail) => {
                tracing::error!(detail, "the database is full");
                Fault::NoSpace.into()
            }
            Error::Unknown(detail) => {
                tracing::error!(detail, "the outcome of a write is unknown");
                Fault::Timeout.into()
            }
            Error::Unavailable(detail) => {
                tracing::warn!(detail, "the database is not available");
                Self::unavailable(format!("etcdserver: database unavailable: {detail}"))
            }
            Error::Replaced(detail) | Error::Served(detail) => {
                Self::unavailable(format!("etcdserver: database unavailable: {detail}"))
            }
            Error::Damaged(detail) | Error::Broken(detail) => {
                tracing::error!(detail, "the database refuses");
                Self::internal(format!("etcdserver: database refuses: {detail}"))
            }
        }
    }
}

/// Why a watch could not be created, in etcd's words (etcd: server/storage/mvcc/watcher.go). They go into
/// `cancel_reason`, not into a status.
pub mod watch {
    /// The range holds no key.
    pub const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
    /// The stream has a watcher of that id.
    pub const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
    /// A negative start revision (etcd: rpctypes.ErrCompacted).
    pub const NEGATIVE_START: &str = "etcdserver: mvcc: required revision has been compacted";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Error;

    /// Number and text as a Go client of etcd 3.7.3 has them.
    #[test]
    fn engine_errors_become_etcds() {
        let table = [
            (Error::Compacted { compact_revision: 7 }, 11, "etcdserver: mvcc: required revision has been compacted"),
            (Error::FutureRevision, 11, "etcdserver: mvcc: required revision is a future revision"),
            (Error::KeyNotFound, 3, "etcdserver: key not found"),
            (Error::LeaseNotFound, 5, "etcdserver: requested lease not found"),
            (Error::LeaseExists, 9, "etcdserver: lease already exists"),
            (Error::TooManyRequests, 8, "etcdserver: too many requests"),
            (
                Error::KeyTooLong { length: 1537, limit: 1536 },
                3,
                "etcdserver: a key has 1537 bytes, and this database holds keys of at most 1536 bytes",
            ),
            (Error::RequestTooLarge { length: 9, limit: 8 }, 3, "etcdserver: request is too large"),
            (Error::NoSpace("disk".into()), 8, "etcdserver: mvcc: database space exceeded"),
            (Error::Unknown("lost".into()), 14, "etcdserver: request timed out"),
            (Error::Unavailable("busy".into()), 14, "etcdserver: database unavailable: busy"),
            (Error::Broken("read-only".into()), 13, "etcdserver: database refuses: read-only"),
        ];
        for (error, code, text) in table {
            let status = Status::from(error);
            assert_eq!((i32::from(status.code()), status.message()), (code, text));
        }
    }

    #[test]
    fn faults_have_etcds_codes() {
        let table = [
            (Fault::EmptyKey, 3),
            (Fault::ValueProvided, 3),
            (Fault::LeaseProvided, 3),
            (Fault::TooManyOps, 3),
            (Fault::DuplicateKey, 3),
            (Fault::InvalidSortOption, 3),
            (Fault::LeaseTtlTooLarge, 11),
            (Fault::RequestTooLarge, 3),
            (Fault::NotCapable, 9),
            (Fault::Stopped, 14),
            (Fault::AuthNotEnabled, 9),
            (Fault::BadLeaderTransferee, 9),
            (Fault::WrongDowngradeVersionFormat, 3),
            (Fault::InvalidDowngradeTargetVersion, 3),
        ];
        for (fault, code) in table {
            let status = Status::from(fault);
            assert_eq!(i32::from(status.code()), code, "{fault:?}");
            assert!(status.message().starts_with("etcdserver: "), "{fault:?}");
        }
    }
}
