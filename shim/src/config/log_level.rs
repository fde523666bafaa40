//! What is logged. `tracing-subscriber` takes any word for a module; a misspelt level would then log nothing.

use crate::spelling::meant;

/// From nothing to all.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Our own modules of the first level; a test compares them with the files.
const MODULES: [&str; 20] = [
    "cli",
    "clock",
    "config",
    "definitions",
    "endpoint",
    "engine",
    "etcd",
    "gc",
    "inspect",
    "metrics",
    "migrate",
    "object",
    "remote",
    "selector",
    "snapshot",
    "spelling",
    "sql",
    "standby",
    "telemetry",
    "variables",
];

/// Crates that log.
const CRATES: [&str; 10] =
    ["axum", "h2", "hyper", "hyper_util", "mio", "rustls", "tokio", "tokio_util", "tonic", "tower"];

/// Checks the levels, and the levels of modules. Modules that are not named log at the level that stands alone; without
/// one at `info`.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    let mut alone = false;
    for part in text.split(',').map(str::trim) {
        match part.split_once('=') {
            None => {
                level(part)?;
                alone = true;
            }
            Some((path, of_module)) => {
                module(path)?;
                level(of_module)?;
            }
        }
    }
    let compact: String = text.split_whitespace().collect();
    Ok(if alone { compact } else { format!("info,{compact}") })
}

fn level(word: &str) -> Result<(), String> {
    if LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    Err(format!("{word:?} is no level{}; the levels are {}", meant(word, &LEVELS), LEVELS.join(", ")))
}

fn module(path: &str) -> Result<(), String> {
    let mut names = path.split("::");
    let known = match (names.next(), names.next()) {
        (Some("sluice_shim"), None) => true,
        (Some("sluice_shim"), Some(name)) => MODULES.contains(&name),
        (Some(name), _) => CRATES.contains(&name),
        (None, _) => false,
    };
    if known && path.split("::").all(|name| !name.is_empty() && name.bytes().all(is_of_name)) {
        return Ok(());
    }
    let ours: Vec<String> = MODULES.iter().map(|module| format!("sluice_shim::{module}")).collect();
    let all: Vec<&str> = ours.iter().map(String::as_str).chain(["sluice_shim"]).chain(CRATES).collect();
    let meant = meant(path, &all);
    Err(format!(
        "{path:?} is no module that logs{meant}; there are sluice_shim, its modules, and {}",
        CRATES.join(", ")
    ))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn levels_and_modules() {
        let table = [
            ("info", "info"),
            ("WARN", "WARN"),
            ("off", "off"),
            ("warn,sluice_shim::sql=debug", "warn,sluice_shim::sql=debug"),
            ("warn, h2=trace", "warn,h2=trace"),
            ("sluice_shim::etcd::watch=debug", "info,sluice_shim::etcd::watch=debug"),
        ];
        for (given, expected) in table {
            assert_eq!(log_level(given), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn a_misspelt_one_is_refused() {
        let table = [
            ("warning", "\"warning\" is no level, did you mean warn?"),
            ("information", "\"information\" is no level, did you mean info?"),
            ("err", "\"err\" is no level, did you mean error?"),
            ("nonsense", "\"nonsense\" is no level; the levels are off, error, warn, info, debug, trace"),
            ("", "\"\" is no level; the levels"),
            ("info,", "\"\" is no level; the levels"),
            ("4", "\"4\" is no level; the levels"),
            ("sluice_shim", "\"sluice_shim\" is no level"),
            ("sluice_shim::sql=loud", "\"loud\" is no level"),
            ("sluice_shim::slq=debug", "\"sluice_shim::slq\" is no module that logs, did you mean sluice_shim::sql?"),
            ("sqlite=debug", "\"sqlite\" is no module that logs"),
            ("sluice_shim::=debug", "\"sluice_shim::\" is no module that logs"),
            ("=debug", "\"\" is no module that logs"),
            ("h2[span{a=b}]=debug", "\"h2[span{a\" is no module that logs"),
        ];
        for (given, expected) in table {
            let error = log_level(given).unwrap_err();
            assert!(error.starts_with(expected), "{given}: {error}");
        }
    }

    #[test]
    fn the_modules_are_those_of_the_crate() {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let names = std::fs::read_dir(source).unwrap().map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".rs").unwrap_or(&name).to_owned()
        });
        let names: BTreeSet<String> = names.filter(|name| !["main", "lib", "snapshots"].contains(&&name[..])).collect();
        assert_eq!(names, MODULES.iter().map(ToString::to_string).collect());
    }
}
