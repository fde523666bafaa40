use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// The binary, without the variables of whoever runs the test.
fn shim() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-shim"));
    command.env_clear().stdin(Stdio::null());
    command
}

#[test]
fn errors_come_with_a_hint_and_a_code() {
    let table: [(&[&str], &str, i32); 4] = [
        (&[], "error: no database is given\nhint: use --endpoint sqlite:///", 1),
        (&["--endpoint", "mysql://me:secret@db"], "error: mysql is not in this build\nhint: it has sqlite;", 1),
        (&["--endpoint", "sqlite:///does/not/exist.db"], "error: open sqlite:///does/not/exist.db\nCaused by: ", 1),
        (&["--watch-progress-notify-interval", "5"], "error: invalid value '5' for '--watch-progress", 2),
    ];
    for (args, expected, code) in table {
        let output = shim().args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(expected), "{args:?}: {text}");
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(output.stdout.is_empty() && !text.contains("secret"), "{args:?}");
    }
}

#[test]
fn version() {
    let output = shim().arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with(concat!("sluice-shim ", env!("CARGO_PKG_VERSION"), " (commit ")), "{text}");
}

/// Configured by variables alone, as in a container; ends well on SIGTERM.
#[test]
fn variables_and_signals() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shim()
        .env("SLUICE_ENDPOINT", format!("sqlite://{}", dir.path().join("state.db").display()))
        .env("SLUICE_LISTEN_CLIENT_URLS", "http://127.0.0.1:0")
        .env("SLUICE_LOG_FORMAT", "json")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
    let serving = log.find(|line| line.contains("\"serving\"")).expect("it ended before it served");
    let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
    let address = serving["clients"].as_str().unwrap().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");

    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    assert!(log.any(|line| line.contains("\"stopped\"")));
    assert!(process.wait().unwrap().success());
}
