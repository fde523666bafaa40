//! A password of a database that is there: a server that runs, the commands beside it, and what it refuses.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sluice_shim::cli::Cli;

use super::super::program::{self, Serving};
use super::COMMANDS;

#[path = "../../servers/mariadb.rs"]
mod mariadb;
#[expect(dead_code, reason = "other tests make databases by number")]
#[path = "../../servers/postgres.rs"]
mod postgres;

/// It has what must be encoded in a URL.
const PASSWORD: &str = "hunter2/50%sure";
const ENCODED: &str = "hunter2%2F50%25sure";
/// Its middle is in every form of it.
const TELLTALE: &str = "hunter2";

/// Commands that read beside a server, or change nothing when it has stopped.
const BESIDE: [&str; 4] =
    ["explain --prefix /registry/a/ --selector color=green", "gc status", "gc explain /a/b", "fsck"];
const BEHIND: [&str; 2] = ["fsck", "export --to new.snapshot"];

/// A way to give the password.
struct Way {
    name: &'static str,
    args: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

/// All ways, with files in the folder. `url` has PASSWORD where the password may stand.
fn ways(folder: &Path, url: &str, password: &str, encoded: &str) -> Vec<Way> {
    std::fs::write(folder.join("password"), password).unwrap();
    std::fs::write(folder.join("pgpass"), format!("*:*:*:*:{password}\n")).unwrap();
    std::fs::set_permissions(folder.join("pgpass"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let (with, without) = (url.replace(":PASSWORD", &format!(":{encoded}")), url.replace(":PASSWORD", ""));
    let flag = |url: &str| vec!["--endpoint".to_owned(), url.to_owned()];
    let file = ["--endpoint-password-file".to_owned(), "password".to_owned()];
    let mut ways = vec![
        Way { name: "the URL", args: flag(&with), variables: vec![] },
        Way { name: "the URL's variable", args: vec![], variables: vec![("SLUICE_ENDPOINT", with)] },
        Way { name: "a file", args: [flag(&without), file.to_vec()].concat(), variables: vec![] },
        Way {
            name: "a variable",
            args: flag(&without),
            variables: vec![("SLUICE_ENDPOINT_PASSWORD", password.to_owned())],
        },
    ];
    if url.starts_with("postgres") {
        let variables = vec![("PGPASSFILE", "pgpass".to_owned())];
        ways.push(Way { name: "PostgreSQL's file", args: flag(&without), variables });
    }
    ways
}

impl Way {
    fn command(&self, folder: &Path, words: &str) -> std::process::Command {
        let mut command = program::shim();
        command.current_dir(folder).env("RUST_BACKTRACE", "1").env("SLUICE_LOG_LEVEL", "trace");
        command.args(words.split(' ').filter(|word| !word.is_empty())).args(&self.args);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What a command says, whether it succeeds or not.
    fn said(&self, folder: &Path, words: &str) -> String {
        let output = program::ended(&mut self.command(folder, words));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn assert_silent(&self, said: &str, who: &str) {
        assert!(!said.contains(TELLTALE), "{who}, password in {}: {said}", self.name);
    }
}

fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Looks everywhere, for each way.
fn look(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for way in ways(folder, url, PASSWORD, ENCODED) {
        let port = crate::port::free();
        let mut command = way.command(folder, "");
        command.env("SLUICE_LISTEN_CLIENT_URLS", "unix://client.sock");
        let serving = Serving::start(command.env("SLUICE_LISTEN_METRICS_URLS", format!("http://127.0.0.1:{port}")));
        serving.answers();
        let proc = format!("/proc/{}", serving.pid());
        let seen = std::fs::read(format!("{proc}/cmdline")).unwrap();
        // What ps shows.
        assert_eq!(String::from_utf8_lossy(&seen).contains(TELLTALE), way.name == "the URL", "{}", way.name);
        let environ = std::fs::metadata(format!("{proc}/environ")).unwrap().permissions().mode();
        assert_eq!(environ & 0o077, 0, "others may read the variables");
        way.assert_silent(&metrics(port), "the metrics");
        for words in BESIDE {
            way.assert_silent(&way.said(folder, words), words);
        }
        let log = serving.stop();
        assert!(log.lines().count() > 10, "{log}");
        way.assert_silent(&log, "the log");
        for words in BEHIND {
            way.assert_silent(&way.said(folder, words), words);
        }
        std::fs::remove_file(folder.join("new.snapshot")).unwrap();
    }
    let wrong = (format!("{TELLTALE} wrong"), format!("{TELLTALE}%20wrong"));
    let question = if url.contains('?') { '&' } else { '?' };
    let table = [
        ("a wrong password", url.to_owned(), &wrong),
        ("a server that does not encrypt", format!("{url}{question}sslmode=require"), &wrong),
        ("a database that there is not", url.replace("/x", "/y"), &(PASSWORD.to_owned(), ENCODED.to_owned())),
    ];
    for (what, url, (password, encoded)) in table {
        for way in ways(folder, &url, password, encoded) {
            let said = program::refused(&mut way.command(folder, ""), 1);
            way.assert_silent(&said, what);
            assert!(said.contains("error: "), "{what}: {said}");
        }
    }
}

#[test]
fn no_password_of_postgresql_is_shown() {
    let server = postgres::Server::get();
    let hba = server.folder.join("data/pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("host all me 127.0.0.1/32 scram-sha-256\n{rules}")).unwrap();
    let sql = format!("CREATE ROLE me LOGIN PASSWORD '{PASSWORD}'; SELECT pg_reload_conf();");
    server.psql("postgres", &sql).unwrap();
    server.psql("postgres", "CREATE DATABASE x OWNER me").unwrap();
    look(&format!("postgres://me:PASSWORD@127.0.0.1:{}/x", server.port));
}

#[test]
fn no_password_of_mariadb_is_shown() {
    let server = mariadb::start("");
    server.set("CREATE DATABASE x");
    server.set(&format!("CREATE USER me IDENTIFIED BY '{PASSWORD}'"));
    server.set("GRANT ALL ON *.* TO me");
    look(&format!("mysql://me:PASSWORD@127.0.0.1:{}/x", server.port));
}

/// A panic shows what it is told to show: no form of the flags has the password in it.
#[test]
fn the_flags_do_not_show_a_password() {
    for words in COMMANDS {
        let url = format!("postgres://me:{ENCODED}@127.0.0.1:1/x");
        let line = format!("sluice-shim {words} --endpoint {url}");
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let cli = Cli::read(&words).unwrap();
        assert!(cli.shows_password.is_some(), "{line}");
        let shown = format!("{cli:?} {cli:#?}");
        assert!(shown.contains("127.0.0.1") && !shown.contains(TELLTALE), "{shown}");
    }
}
