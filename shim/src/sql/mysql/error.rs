//! What the database's errors mean.

use std::io::ErrorKind;

use mysql_common::proto::codec::error::PacketCodecError;

use crate::engine::Error;
use crate::sql::failure::Failure;

/// What was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doing {
    /// What the statement is called.
    pub(super) statement: &'static str,
    /// Whether the statement is the COMMIT.
    pub(super) committing: bool,
    /// Whether a COMMIT was sent, together with the statement or behind it.
    pub(super) sent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing happened, and the same may succeed.
    Again,
    /// Nothing happened, and the same may succeed on another connection.
    Lost,
    /// It may have happened.
    Unknown,
    Full,
    /// There is no room for another connection.
    Busy,
    /// A value or a packet is longer than the database allows.
    Large,
    Damaged,
    /// The user may not do it.
    Forbidden,
    Broken,
}

/// An error of the database's, by its number. TiDB's begin at 8000.
fn kind(code: u16, doing: Doing) -> Kind {
    match code {
        // Deadlock, lock not got in time, read view is too old.
        1213 | 1205 | 1020 | 1412 => Kind::Again,
        // The statement was interrupted or took too long.
        1317 | 1969 | 3024 if !doing.committing => Kind::Again,
        8002 | 8005 | 8022 | 8028 | 9007 => Kind::Again,
        // A key that is there though it was not: what was read was old.
        1062 if doing.statement == CREATE => Kind::Again,
        // Read-only: certainly not committed, even if COMMIT is refused.
        1290 | 1792 | 1836 => Kind::Lost,
        // A proxy that has lost the server says so to the first statement whose answer it has not seen, whatever became
        // of those behind it.
        1158..=1161 | 1927 | 2006 | 2013 | 4031 if doing.sent => Kind::Unknown,
        1158..=1161 | 1927 | 2006 | 2013 | 4031 => Kind::Lost,
        // It shuts down, or is not in its cluster.
        NO_MAJORITY | 1053 | 1077 | 1079 | 1080 | 9001..=9005 => {
            if doing.committing {
                Kind::Unknown
            } else {
                Kind::Lost
            }
        }
        // An error in COMMIT, and any other of it that is not known to undo it.
        1180 => Kind::Unknown,
        _ if doing.committing => Kind::Unknown,
        1040 | 1203 | 1226 => Kind::Busy,
        1021 | 1114 => Kind::Full,
        1153 | 1301 | 1406 | 8004 | 8025 => Kind::Large,
        1034 | 1712 | 1877 => Kind::Damaged,
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 => Kind::Forbidden,
        _ => Kind::Broken,
    }
}

/// A node of a Galera cluster that may neither read nor write.
const NO_MAJORITY: u16 = 1047;

/// The statement that creates keys, which are not there.
pub(super) const CREATE: &str = "create keys";

/// What a call to the driver became of. No text says more of a statement than its name: values may be secret.
pub(super) fn failed(server: &str, error: &mysql::Error, doing: Doing) -> Failure {
    let statement = doing.statement;
    let mysql::Error::MySqlError(answer) = error else {
        let text =
            format!("the database at {server} can't be used: {}; the statement was \"{statement}\"", lost(error));
        if matches!(error, mysql::Error::CodecError(PacketCodecError::PacketTooLarge)) {
            // Of what was to be sent nothing was.
            return Failure::Final(Error::Broken(format!("{text}; a larger max_allowed_packet helps")));
        }
        return if doing.sent {
            Failure::Unknown(Error::Unavailable(text))
        } else {
            Failure::Lost(Error::Unavailable(text))
        };
    };
    let code = answer.code;
    let text =
        format!("the database at {server} refused the statement \"{statement}\": error {code} ({})", answer.state);
    let text = if code == NO_MAJORITY {
        format!("{text}: it is no part of the majority of its Galera cluster, or not yet (wsrep_ready=OFF)")
    } else {
        text
    };
    match kind(code, doing) {
        Kind::Again => Failure::Again(Error::Unavailable(text)),
        Kind::Lost => Failure::Lost(Error::Unavailable(text)),
        Kind::Unknown => Failure::Unknown(Error::Unavailable(text)),
        Kind::Busy => Failure::Lost(Error::Unavailable(format!(
            "the database at {server} has no room for another connection: error {code}; raise max_connections or the \
             user's limit"
        ))),
        Kind::Full => {
            Failure::Final(Error::NoSpace(format!("{text}; the database's disk is full: free some space there")))
        }
        Kind::Large => Failure::Final(Error::Broken(format!("{text}; something is larger than the database allows"))),
        Kind::Damaged => Failure::Final(Error::Damaged(format!("{text}; restore the database from a backup"))),
        Kind::Forbidden => Failure::Final(Error::Broken(format!(
            "{text}; the user needs GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP on this database"
        ))),
        Kind::Broken => Failure::Final(Error::Broken(text)),
    }
}

/// Why a connection is of no use. The driver's texts name servers and files, no values.
fn lost(error: &mysql::Error) -> String {
    match (of_network(error), error) {
        (Some(error), _) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            "it does not answer in time".to_owned()
        }
        (Some(error), _) => error.to_string(),
        (None, mysql::Error::DriverError(error)) => error.to_string(),
        (None, mysql::Error::TlsError(error)) => error.to_string(),
        (None, mysql::Error::CodecError(error)) => error.to_string(),
        _ => "its answer can't be read".to_owned(),
    }
}

fn of_network(error: &mysql::Error) -> Option<&std::io::Error> {
    match error {
        mysql::Error::IoError(error) => Some(error),
        mysql::Error::CodecError(error) => std::error::Error::source(error)?.downcast_ref(),
        _ => None,
    }
}

/// Why the other side can't be trusted, if that is it.
pub(super) fn of_encryption(error: &mysql::Error) -> Option<String> {
    if let mysql::Error::TlsError(error) = error {
        return Some(error.to_string());
    }
    of_network(error)?.get_ref()?.downcast_ref().map(rustls::Error::to_string)
}

/// An answer of the right statement that can't be: another program wrote the table, or its pages are damaged.
pub(super) fn unreadable() -> Failure {
    Failure::Final(Error::Damaged("a row of the database can't be read; restore the database from a backup".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(failure: &Failure) -> String {
        let (kind, error) = match failure {
            Failure::Again(error) => ("again", error),
            Failure::Lost(error) => ("lost", error),
            Failure::Unknown(error) => ("unknown", error),
            Failure::Final(error) => ("final", error),
        };
        let error = match error {
            Error::Unavailable(_) => "unavailable",
            Error::NoSpace(_) => "no space",
            Error::Damaged(_) => "damaged",
            Error::Broken(_) => "broken",
            _ => "?",
        };
        format!("{kind} {error}")
    }

    #[test]
    fn numbers() {
        let before = Doing { statement: "x", committing: false, sent: false };
        let with = Doing { sent: true, ..before };
        let commit = Doing { committing: true, sent: true, ..before };
        let create = Doing { statement: CREATE, ..with };
        let table: [(u16, Doing, &str); 38] = [
            (1317, with, "again unavailable"),
            (1317, commit, "unknown unavailable"),
            (1026, commit, "unknown unavailable"),
            (1114, commit, "unknown unavailable"),
            (1213, with, "again unavailable"),
            (1213, commit, "again unavailable"),
            (1205, before, "again unavailable"),
            (1020, before, "again unavailable"),
            (1062, create, "again unavailable"),
            (1062, with, "final broken"),
            (9007, commit, "again unavailable"),
            (8002, with, "again unavailable"),
            (8005, with, "again unavailable"),
            (8022, commit, "again unavailable"),
            (8028, with, "again unavailable"),
            (1290, with, "lost unavailable"),
            (1290, commit, "lost unavailable"),
            (1792, before, "lost unavailable"),
            (1836, before, "lost unavailable"),
            (1047, before, "lost unavailable"),
            (1047, commit, "unknown unavailable"),
            // An earlier statement was refused, so the COMMIT behind it was not carried out.
            (1053, with, "lost unavailable"),
            // But a proxy may have lost the answers.
            (1927, before, "lost unavailable"),
            (1927, with, "unknown unavailable"),
            (2013, with, "unknown unavailable"),
            (1927, commit, "unknown unavailable"),
            (1053, before, "lost unavailable"),
            (9001, commit, "unknown unavailable"),
            (2013, commit, "unknown unavailable"),
            (1180, commit, "unknown unavailable"),
            (1040, before, "lost unavailable"),
            (1226, before, "lost unavailable"),
            (1021, with, "final no space"),
            (1114, with, "final no space"),
            (1153, with, "final broken"),
            (8025, with, "final broken"),
            (1712, before, "final damaged"),
            (1146, before, "final broken"),
        ];
        for (code, doing, expected) in table {
            let answer = mysql::MySqlError { state: "HY000".into(), message: "secret".into(), code };
            let failure = failed("db:3306", &mysql::Error::MySqlError(answer), doing);
            assert_eq!(name(&failure), expected, "{code} {doing:?}");
            assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
            assert!(format!("{failure:?}").contains(&code.to_string()), "{failure:?}");
        }
    }

    #[test]
    fn a_lost_connection_matters_from_the_moment_that_the_commit_is_sent() {
        let cut = || mysql::Error::IoError(std::io::ErrorKind::ConnectionReset.into());
        let doing = Doing { statement: "x", committing: false, sent: false };
        assert_eq!(name(&failed("db", &cut(), doing)), "lost unavailable");
        assert_eq!(name(&failed("db", &cut(), Doing { sent: true, ..doing })), "unknown unavailable");
        let large = mysql::Error::CodecError(PacketCodecError::PacketTooLarge);
        assert_eq!(name(&failed("db", &large, Doing { sent: true, ..doing })), "final broken");
    }
}
