//! Which module may not name what.

use std::path::{Path, PathBuf};

use crate::names::{Module, Sources, files, module};

/// What some modules must not name.
struct Rule {
    /// A module, with all below it; empty for all of the crate.
    within: &'static str,
    /// But for these, with all below them.
    but: &'static [&'static str],
    /// But for this one alone.
    but_only: &'static [&'static str],
    /// Modules, or other crates.
    never: &'static [&'static str],
    why: &'static str,
}

/// A rule for a module and all below it.
const fn layer(within: &'static str, never: &'static [&'static str], why: &'static str) -> Rule {
    Rule { within, but: &[], but_only: &[], never, why }
}

/// A rule for all but some.
const fn only(but: &'static [&'static str], never: &'static [&'static str], why: &'static str) -> Rule {
    Rule { within: "", but, but_only: &[], never, why }
}

/// A database, which only the choice by the endpoint names.
const fn database(but: &'static [&'static str], never: &'static [&'static str]) -> Rule {
    let why = "databases are chosen in one place, and know nothing of each other";
    Rule { within: "", but, but_only: &["sql"], never, why }
}

const RULES: &[Rule] = &[
    layer(
        "engine",
        &["crate::sql", "crate::etcd", "crate::pb", "sluice_wire", "prost", "tonic", "tonic_prost", "tonic_health"],
        "the engine knows no SQL and no protobuf",
    ),
    layer("etcd", &["crate::sql"], "the gRPC layer knows no SQL"),
    layer("gc", &["crate::sql", "crate::engine", "crate::etcd", "tonic"], "the collector's rules are pure"),
    layer("object", &["crate::sql", "crate::engine", "crate::etcd", "tonic"], "objects are bytes with metadata"),
    layer("selector", &["crate::sql", "crate::engine", "crate::etcd", "tonic"], "selectors know objects only"),
    layer(
        "sql",
        &["crate::etcd", "crate::pb", "sluice_wire", "prost", "tonic", "tonic_prost", "tonic_health"],
        "databases know no protobuf",
    ),
    only(&["sql::sqlite"], &["rusqlite", "libsqlite3_sys", "sluice_wal"], "only SQLite's tables know SQLite"),
    only(
        &["sql::postgres"],
        &["tokio_postgres", "postgres", "postgres_types", "postgres_protocol"],
        "only PostgreSQL's tables know PostgreSQL",
    ),
    only(&["sql::mysql"], &["mysql", "mysql_common", "mysql_async"], "only MySQL's tables know MySQL"),
    database(&["sql::sqlite"], &["crate::sql::sqlite"]),
    database(&["sql::postgres"], &["crate::sql::postgres"]),
    database(&["sql::mysql"], &["crate::sql::mysql"]),
];

/// What breaks the rules.
fn broken(sources: &Sources) -> Vec<String> {
    let mut broken = Vec::new();
    for module in sources.modules() {
        let names = sources.names(module);
        for rule in RULES.iter().filter(|rule| rule.binds(module)) {
            for name in names.iter().filter(|name| rule.never.iter().any(|never| is_below(name, never))) {
                broken.push(format!("{}: {} ({})", module.join("::"), name.join("::"), rule.why));
            }
        }
    }
    broken
}

impl Rule {
    fn binds(&self, module: &Module) -> bool {
        let is_alone = self.but_only.iter().any(|only| module.join("::") == **only);
        is_below(module, self.within) && !is_alone && !self.but.iter().any(|but| is_below(module, but))
    }
}

fn is_below(path: &[String], outer: &str) -> bool {
    path.starts_with(&module(outer))
}

#[test]
fn layers_do_not_reach_past_each_other() {
    let sources = Sources::of_the_shim();
    for Rule { within, .. } in RULES {
        assert!(sources.has(&module(within)), "there is no module {within}");
    }
    let broken = broken(&sources);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn whatever_reaches_past_a_layer_is_found() {
    let table = [
        // However it is written.
        ("engine::writer", "use crate::{migrate, sql};", "crate::sql"),
        ("engine::writer", "use crate::{migrate::{a, b}, sql::{self as tables}};", "crate::sql"),
        ("engine::writer", "use super::super::sql::directory;", "crate::sql::directory"),
        ("engine::writer", "fn f() { super::super::sql::directory(b\"\"); }", "crate::sql::directory"),
        ("engine::writer", "fn f() -> Box<dyn crate::sql::Read> { g() }", "crate::sql::Read"),
        ("engine::writer", "use super::super as root; fn f() { root::sql::g(); }", "crate::sql::g"),
        ("engine::writer", "use crate::*; fn f() { sql::g(); }", "crate::sql::g"),
        ("engine::writer", "fn f() { use prost::Message as _; }", "prost::Message"),
        ("engine::writer", "fn f() { ::tonic::g(); }", "tonic::g"),
        ("engine::writer", "fn f() { assert!(x.is(&[crate::etcd::Y])); }", "crate::etcd::Y"),
        ("engine::writer", "#[cfg(test)] mod tests { use super::super::super::sql; }", "crate::sql"),
        ("engine::writer", "#[cfg(test)] mod tests { fn f() { super::super::super::sql::g() } }", "crate::sql::g"),
        // Each rule.
        ("etcd::kv", "use crate::sql;", "crate::sql"),
        ("gc", "use crate::engine::Row;", "crate::engine::Row"),
        ("object", "use tonic::Status;", "tonic::Status"),
        ("selector", "use crate::etcd;", "crate::etcd"),
        ("sql::writer", "use crate::pb::X;", "crate::pb::X"),
        ("migrate", "use rusqlite as database;", "rusqlite"),
        ("sql::session", "use rusqlite::{self, params};", "rusqlite"),
        ("sql", "extern crate sluice_wal as wal;", "sluice_wal"),
        ("sql::mysql", "use tokio_postgres::Row;", "tokio_postgres::Row"),
        ("sql::sqlite", "use ::mysql::Conn;", "mysql::Conn"),
        ("sql::sqlite", "use super::postgres;", "crate::sql::postgres"),
        ("sql::postgres", "use super::mysql::text;", "crate::sql::mysql::text"),
        ("sql::mysql", "use super::super::sql::{sqlite as s};", "crate::sql::sqlite"),
        ("sql::writer", "use super::sqlite::clock;", "crate::sql::sqlite::clock"),
        ("sql::writer", "use crate::sql; fn f() { sql::sqlite::open(); }", "crate::sql::sqlite::open"),
        ("sql::writer", "use super::*; fn f() { postgres::open(); }", "crate::sql::postgres::open"),
        ("config", "use crate::sql::sqlite::Sqlite;", "crate::sql::sqlite::Sqlite"),
    ];
    for (module, text, expected) in table {
        let broken = broken(&with(module, text));
        let found = broken.iter().any(|broken| broken.starts_with(&format!("{module}: {expected} (")));
        assert!(found, "{module}: {text}: {broken:?}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    let table = [
        ("sql", "mod mysql; mod postgres; fn f() { mysql::open(); postgres::open(); sqlite::open() }"),
        ("sql::sqlite", "use rusqlite::Connection; use self::tables::Tables; use super::session;"),
        ("sql::mysql", "use ::mysql::Conn; use mysql::prelude::Queryable; use super::mysql::text;"),
        ("sql::writer", "fn f(mysql: u8) -> u8 { mysql } // rusqlite::Connection"),
        ("engine::writer", "/// As in [`crate::sql`].\nfn f() -> &'static str { \"crate::sql::x\" }"),
        ("migrate", "use crate::sql::{self, open}; fn f() { sql::check(); }"),
    ];
    for (module, text) in table {
        assert_eq!(broken(&with(module, text)), [""; 0], "{module}: {text}");
    }
}

/// The modules that there are, one of them with a text.
fn with(changed: &str, text: &str) -> Sources {
    let all = [
        "",
        "config",
        "engine",
        "engine::writer",
        "etcd",
        "etcd::kv",
        "gc",
        "migrate",
        "object",
        "pb",
        "selector",
        "sql",
        "sql::mysql",
        "sql::postgres",
        "sql::session",
        "sql::sqlite",
        "sql::writer",
    ];
    assert!(all.contains(&changed), "{changed}");
    Sources::of(all.map(|module| (module, if module == changed { text } else { "" })))
}

/// What lasts is never measured with the calendar, so whoever needs that asks for it by its type.
#[test]
fn the_calendar_is_asked_in_one_place() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let asks = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).expect("a source file");
        ["SystemTime::now", "UNIX_EPOCH"].iter().any(|name| text.contains(name))
    };
    let found: Vec<_> = files(&source).into_iter().filter(asks).collect();
    assert_eq!(found, [source.join("clock.rs")]);
}
