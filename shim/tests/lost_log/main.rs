//! The real server is killed, and then something happens to its files.
//!
//! No other test is in this program: what it starts has the open files of the whole program for a moment, and so the
//! locks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sluice_shim::endpoint::Endpoint;
use sluice_shim::pb::etcdserverpb as pb;
use tonic::transport::Channel;

const SHIM: &str = env!("CARGO_BIN_EXE_sluice-shim");
const PATIENCE: Duration = Duration::from_secs(60);

fn endpoint(folder: &Path) -> String {
    Endpoint::Sqlite(folder.join("state.db")).to_string()
}

/// A server; dropping it kills it.
struct Server {
    child: Child,
    channel: Channel,
}

impl Server {
    fn spawn(folder: &Path) -> Child {
        let mut command = Command::new(SHIM);
        command.env_clear().args(["--endpoint", &endpoint(folder), "--listen-client-urls", "http://127.0.0.1:0"]);
        command.args(["--log-format", "json"]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts it and waits until it serves.
    async fn start(folder: &Path) -> Self {
        let mut child = Self::spawn(folder);
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut said = Vec::new();
        let serving = log.by_ref().inspect(|line| said.push(line.clone())).find(|line| line.contains("\"serving\""));
        let serving = serving.unwrap_or_else(|| panic!("it does not serve: {said:?}"));
        let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
        let address = serving["clients"].as_str().unwrap().to_owned();
        // It says more, and must not wait for a reader.
        std::thread::spawn(move || log.for_each(drop));
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        Self { child, channel }
    }

    async fn put(&self, key: &str, value: Vec<u8>) -> Result<i64, tonic::Status> {
        let request = pb::PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() };
        let answer = pb::kv_client::KvClient::new(self.channel.clone()).put(request).await?;
        Ok(answer.into_inner().header.unwrap().revision)
    }

    async fn revision(&self) -> i64 {
        let request = pb::RangeRequest { key: "a".into(), ..Default::default() };
        let answer = pb::kv_client::KvClient::new(self.channel.clone()).range(request).await.unwrap();
        answer.into_inner().header.unwrap().revision
    }

    async fn defragment(&self) {
        let mut client = pb::maintenance_client::MaintenanceClient::new(self.channel.clone());
        client.defragment(pb::DefragmentRequest {}).await.unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A clean stop. The client must go on meanwhile: the server waits until the connection is closed.
    async fn stop(mut self) {
        let id = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        let ended = async {
            loop {
                match self.child.try_wait().unwrap() {
                    Some(status) => return status,
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, ended).await.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(SHIM).env_clear().args(args).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a server says that must not serve.
fn refused(folder: &Path) -> String {
    let mut child = Server::spawn(folder);
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it serves");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    said(&output)
}

fn log(folder: &Path) -> std::path::PathBuf {
    folder.join("state.db-wal")
}

fn copy(from: &Path, names: &[&str]) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in names {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.path().join(name)).unwrap();
        }
    }
    to
}

const BOTH: &[&str] = &["state.db", "state.db-wal"];

#[tokio::test]
async fn a_log_that_is_gone_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    for number in 0..20 {
        server.put("a", vec![number; 1000]).await.unwrap();
    }
    let older = std::fs::read(log(folder.path())).unwrap();
    // All is in the database, and a new log begins.
    server.defragment().await;
    let whole = server.revision().await;
    for number in 0..20 {
        server.put("b", vec![number; 1000]).await.unwrap();
    }
    let alone = copy(folder.path(), &["state.db"]);
    server.kill();
    let foreign = tempfile::tempdir().unwrap();
    let other = Server::start(foreign.path()).await;
    other.put("c", vec![1]).await.unwrap();
    other.kill();
    let foreign = std::fs::read(log(foreign.path())).unwrap();

    let bytes = std::fs::read(log(folder.path())).unwrap();
    let length = bytes.len();
    let without_the_first_frame = [&bytes[..32], &vec![0; 4120], &bytes[32 + 4120..]].concat();
    let table: [(&str, Option<Vec<u8>>, &str); 10] = [
        ("removed", None, "is missing"),
        ("zeros", Some(vec![0; length]), "begins with what is no log"),
        ("nothing", Some(Vec::new()), "is empty"),
        ("the header alone", Some(bytes[..32].to_vec()), "of the first 1 frames 0 are left"),
        ("half of a header", Some(bytes[..16].to_vec()), "is empty"),
        ("half of a frame", Some(bytes[..2000].to_vec()), "of the first 1 frames 0 are left"),
        ("without its beginning", Some(bytes[4096..].to_vec()), "begins with what is no log"),
        ("a first frame of zeros", Some(without_the_first_frame), "of the first 1 frames 0 are left"),
        ("of an older time", Some(older), "is of another database, or of this one at another time"),
        ("of another database", Some(foreign), "is of another database"),
    ];
    let damaged = table.map(|(name, log_bytes, expected)| {
        let damaged = copy(folder.path(), BOTH);
        match log_bytes {
            Some(bytes) => std::fs::write(log(damaged.path()), bytes).unwrap(),
            None => std::fs::remove_file(log(damaged.path())).unwrap(),
        }
        (name, damaged, expected)
    });
    for (name, damaged, expected) in damaged.into_iter().chain([("copied alone", alone, "is missing")]) {
        let (at, endpoint) = (damaged.path(), endpoint(damaged.path()));
        let to = at.join("out.db").display().to_string();
        let back = format!("revisions go back to {whole}");
        let commands: [&[&str]; 4] = [
            &["fsck", "--endpoint", &endpoint],
            &["export", "--endpoint", &endpoint, "--to", &to],
            &["gc", "status", "--endpoint", &endpoint],
            &["explain", "--endpoint", &endpoint, "--prefix", "/x/", "-l", "a=b"],
        ];
        let mut all = vec![("the server".to_owned(), refused(at))];
        all.extend(commands.map(|args| {
            let output = run(args);
            assert!(!output.status.success(), "{name}: {args:?}");
            (format!("{args:?}"), said(&output))
        }));
        for (who, said) in all {
            let has = |text: &str| said.contains(text);
            assert!(has("needs its log") && has(expected) && has("fsck --accept-lost-log"), "{name}, {who}: {said}");
            assert!(has(&back) && has("Bring the log back") && has("since 20"), "{name}, {who}: {said}");
        }
        let accepted = run(&["fsck", "--accept-lost-log", "--endpoint", &endpoint]);
        let text = said(&accepted);
        assert!(accepted.status.success() && text.contains(&format!("goes back to {whole}")), "{name}: {text}");
        assert!(run(&["fsck", "--endpoint", &endpoint]).status.success(), "{name}");
        let server = Server::start(at).await;
        assert_eq!(server.revision().await, whole, "{name}");
        server.stop().await;
    }
    let again = run(&["fsck", "--accept-lost-log", "--endpoint", &endpoint(folder.path())]);
    assert!(said(&again).contains("nothing was accepted") && again.status.success(), "{}", said(&again));
    let server = Server::start(folder.path()).await;
    assert_eq!(server.revision().await, whole + 20, "with its own log nothing is lost");
}

/// The usual mistake: a copy comes back, and the log stays where it was.
#[tokio::test]
async fn a_backup_beside_the_log_of_later_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    server.put("a", vec![1]).await.unwrap();
    server.stop().await;
    let left = std::fs::metadata(log(folder.path())).map_or(0, |log| log.len());
    assert_eq!(left, 0, "after a clean stop the file is whole, and any other log is a stray");
    let backup = copy(folder.path(), BOTH);
    let server = Server::start(folder.path()).await;
    server.put("a", vec![2]).await.unwrap();
    server.kill();
    std::fs::copy(backup.path().join("state.db"), folder.path().join("state.db")).unwrap();
    assert!(refused(folder.path()).contains("is not the log of the database beside it"));
    let accepted = run(&["fsck", "--accept-lost-log", "--endpoint", &endpoint(folder.path())]);
    let text = said(&accepted);
    assert!(accepted.status.success() && text.contains("state.db-wal.lost-1"), "{text}");
    let server = Server::start(folder.path()).await;
    assert_eq!(server.revision().await, 2);
}

/// Killed at any moment, with whatever else may happen then, the server starts and has all that it acknowledged.
/// `SLUICE_KILLS` says how often; the seed is printed.
#[tokio::test]
async fn a_kill_at_any_moment_is_no_loss() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SLUICE_KILLS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SLUICE_KILLS_SEED={seed}");
    let mut random = seed;
    let mut choose = move |among: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % among
    };
    let mut folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 1;
    for round in 0..number("SLUICE_KILLS").unwrap_or(10) {
        if choose(4) == 0 {
            // Before it serves, maybe before it has opened anything.
            let mut child = Server::spawn(folder.path());
            std::thread::sleep(Duration::from_micros(choose(60_000)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let server = Server::start(folder.path()).await;
        let found = server.revision().await;
        assert!(found >= acknowledged, "round {round}: {found} of {acknowledged}");
        let (puts, size, defragments) = (choose(60), choose(40_000), choose(3) == 0);
        for put in 0..puts {
            if defragments && put % 20 == 7 {
                server.defragment().await;
            }
            acknowledged = server.put(&format!("k{}", put % 9), vec![1; size as usize]).await.unwrap();
        }
        match choose(3) {
            0 => server.stop().await,
            1 => server.kill(),
            // In the middle of something.
            _ => {
                let writing = async {
                    while let Ok(revision) = server.put("k", vec![2; size as usize]).await {
                        acknowledged = revision;
                    }
                };
                let _ = tokio::time::timeout(Duration::from_micros(choose(40_000)), writing).await;
                server.kill();
            }
        }
        match choose(4) {
            0 => folder = copy(folder.path(), BOTH),
            1 => {
                let shell = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
                shell.query_row("SELECT count(*) FROM current", [], |row| row.get::<_, i64>(0)).unwrap();
            }
            2 => {
                let fsck = run(&["fsck", "--endpoint", &endpoint(folder.path())]);
                assert!(fsck.status.success(), "round {round}: {}", said(&fsck));
            }
            _ => {}
        }
    }
}
