//! Connection strings of databases.

use std::path::Path;

/// kine's own options for SQLite (kine: pkg/drivers/sqlite/sqlite.go, `DefaultParams`), but `FULL` instead of `NORMAL`,
/// which does not sync a commit before it is acknowledged.
const KINE_SQLITE: &str =
    "_journal_mode=WAL&_busy_timeout=30000&_synchronous=FULL&_txlock=immediate&_stmt_cache_size=20&cache=shared";

/// A SQLite file, for the shim.
pub fn sqlite(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

/// A SQLite file, for kine.
pub(super) fn sqlite_of_kine(file: &Path) -> String {
    format!("{}?{KINE_SQLITE}", sqlite(file))
}
