//! PostgreSQL's errors as failures of the store.

use tokio_postgres::error::{DbError, Severity};

use crate::engine::Error;
use crate::sql::failure::Failure;

/// The name of the statement that ends a transaction.
pub(super) const COMMIT: &str = "commit";
/// The name of the statement that stores new keys.
pub(super) const CREATE: &str = "create";

/// What may be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The same transaction again.
    Again,
    /// Plans that the server does not know any more: the same again, without them.
    Plans,
    /// Another connection.
    Lost,
    /// Another connection, which tells whether the commit happened.
    Unknown,
    /// There is no room on the disk.
    NoSpace,
    /// More than the server can take now.
    Unavailable,
    /// More than a row or an index can take.
    TooLarge,
    Damaged,
    Broken,
}

/// What an error of a statement means. `statement`: its name. `ends`: whether the connection ended with it. `commits`:
/// whether the end of the transaction was sent behind it.
fn kind(code: &str, statement: &str, ends: bool, commits: bool) -> Kind {
    // A pooler that lost the server says so to the first statement whose answer it has not seen, whatever became of
    // those behind it.
    let lost = if commits { Kind::Unknown } else { Kind::Lost };
    match code {
        // Whoever created the key meanwhile was not seen by the read before.
        "23505" if statement == CREATE => Kind::Again,
        "40001" | "40P01" | "55P03" | "57014" => Kind::Again,
        "26000" | "42P05" | "0A000" => Kind::Plans,
        "08007" | "40003" => Kind::Unknown,
        "25006" | "25P03" | "57P01" | "57P02" | "57P03" | "57P05" => lost,
        _ if code.starts_with("08") => lost,
        "53100" => Kind::NoSpace,
        _ if code.starts_with("53") => Kind::Unavailable,
        _ if code.starts_with("54") => Kind::TooLarge,
        "XX001" | "XX002" => Kind::Damaged,
        _ if ends => lost,
        _ => Kind::Broken,
    }
}

/// Whether the server answered that it does not know a prepared statement, or knows another one by that name.
pub(super) fn is_of_plans(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| kind(error.code().code(), "", false, false) == Kind::Plans)
}

/// Whether it is the answer to a statement behind one that failed.
pub(super) fn is_follow_up(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| error.code().code() == "25P02")
}

/// What went wrong with a statement. `commits`: whether the end of the transaction was sent with it.
pub(super) fn failed(error: &tokio_postgres::Error, statement: &str, commits: bool) -> Failure {
    let Some(answer) = error.as_db_error() else {
        // A value that can't be sent or read: nothing was lost with the connection.
        if !error.is_closed() && !is_of_connection(error) {
            return Failure::Final(Error::Broken(format!("the statement {statement:?} failed: {error}")));
        }
        let text = format!("the connection to the database was lost: {}", explained(error));
        let error = Error::Unavailable(text);
        return if commits { Failure::Unknown(error) } else { Failure::Lost(error) };
    };
    let code = answer.code().code();
    let text = format!("the database answered the statement {statement:?} with error {code}{}", shown(answer));
    let ends = matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    match kind(code, statement, ends, commits) {
        Kind::Again | Kind::Plans => Failure::Again(Error::Unavailable(text)),
        Kind::Lost => Failure::Lost(Error::Unavailable(text)),
        Kind::Unknown => Failure::Unknown(Error::Unavailable(text)),
        Kind::NoSpace => Failure::Final(Error::NoSpace(format!("{text}; free some space there, and writes go on"))),
        Kind::Unavailable => Failure::Final(Error::Unavailable(text)),
        Kind::Damaged => Failure::Final(Error::Damaged(text)),
        Kind::TooLarge | Kind::Broken => Failure::Final(Error::Broken(text)),
    }
}

/// The server's words, where they can't hold what a client stored (SQLSTATE's classes 22 and 23 quote values).
fn shown(answer: &DbError) -> String {
    let code = answer.code().code();
    match answer.constraint() {
        Some(constraint) => format!(", constraint {constraint}"),
        None if code.starts_with("22") || code.starts_with("23") => String::new(),
        None => format!(": {}", answer.message()),
    }
}

/// Whether it is the network's, not that of a value.
fn is_of_connection(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// An error with its cause.
pub(super) fn explained(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(answer), _) => format!("{} (error {})", answer.message(), answer.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_kind() {
        let table = [
            ("40001", "update", Kind::Again),
            ("40P01", "update", Kind::Again),
            ("55P03", "lock", Kind::Again),
            ("57014", "update", Kind::Again),
            ("23505", CREATE, Kind::Again),
            ("23505", "change", Kind::Broken),
            ("40001", COMMIT, Kind::Again),
            ("26000", "lock", Kind::Plans),
            ("42P05", "lock", Kind::Plans),
            ("0A000", "lock", Kind::Plans),
            ("25006", "lock", Kind::Lost),
            ("25P03", "update", Kind::Lost),
            ("57P01", "lock", Kind::Lost),
            ("57P02", "lock", Kind::Lost),
            ("57P03", "lock", Kind::Lost),
            ("57P05", "lock", Kind::Lost),
            ("08006", "lock", Kind::Lost),
            ("08P01", "lock", Kind::Lost),
            ("08007", "update", Kind::Unknown),
            ("40003", COMMIT, Kind::Unknown),
            ("53100", "update", Kind::NoSpace),
            ("53200", "update", Kind::Unavailable),
            ("53300", "connect", Kind::Unavailable),
            ("54000", "update", Kind::TooLarge),
            ("XX001", "update", Kind::Damaged),
            ("42P01", "update", Kind::Broken),
            ("22021", "update", Kind::Broken),
        ];
        for (code, statement, expected) in table {
            assert_eq!(kind(code, statement, false, false), expected, "{code} of {statement}");
            // What ended the connection tells nothing of a commit that was sent behind that statement.
            let behind = if expected == Kind::Lost { Kind::Unknown } else { expected };
            assert_eq!(kind(code, statement, false, true), behind, "{code} of {statement} before a commit");
        }
        assert_eq!(kind("XX000", "update", true, false), Kind::Lost);
        assert_eq!(kind("XX000", "update", true, true), Kind::Unknown);
        assert_eq!(kind("XX000", "update", false, true), Kind::Broken);
    }
}
