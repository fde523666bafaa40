//! The server when the calendar of its machine is set, and when it was stopped. The calendar is faked (libfaketime),
//! the monotonic clock is the machine's.

use std::path::Path;
use std::process::Command;

use super::database::Database;
use super::process::Process;
use super::server::{Client, DEADLINE, put, range_of};
use sluice_shim::pb::etcdserverpb as pb;

/// A machine whose calendar can be set.
struct Machine {
    database: Database,
    library: String,
    setting: String,
}

impl Machine {
    fn new() -> Self {
        let database = Database::sqlite();
        let setting = database.folder().join("calendar").display().to_string();
        let machine = Self { database, library: library(), setting };
        machine.set("+0");
        machine
    }

    /// Moves the calendar so far from the true one, such as `+2h`.
    fn set(&self, offset: &str) {
        std::fs::write(Path::new(&self.setting), offset).unwrap();
    }

    fn start(&self) -> Process {
        let variables = [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &self.setting),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        Process::start_with(&self.database, &variables)
    }
}

/// The name by which the loader finds libfaketime: what its own program, of the package `faketime`, would preload.
fn library() -> String {
    let output = Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).output();
    let output = output.expect("`cargo xtask doctor` says how to get faketime");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn grant(client: &mut Client, id: i64, ttl: i64) -> i64 {
    client.lease.lease_grant(pb::LeaseGrantRequest { id, ttl }).await.unwrap().into_inner().id
}

async fn left(client: &mut Client, id: i64) -> i64 {
    let request = pb::LeaseTimeToLiveRequest { id, keys: false };
    client.lease.lease_time_to_live(request).await.unwrap().into_inner().ttl
}

async fn keep_alive(client: &mut Client, id: i64) -> i64 {
    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id }]);
    let mut answers = client.lease.lease_keep_alive(requests).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().ttl
}

/// What the server's calendar says, in milliseconds since 1970: a number that it chooses for a lease begins with it.
async fn calendar(client: &mut Client) -> i64 {
    grant(client, 0, 600).await >> 20
}

#[tokio::test]
async fn leases_do_not_follow_the_calendar_nor_end_while_the_server_is_down() {
    const HOUR: i64 = 3_600_000;
    let machine = Machine::new();
    let server = machine.start();
    let mut client = server.connect().await;
    let began = calendar(&mut client).await;
    for (lease, ttl) in [(30, 30), (600, 600)] {
        grant(&mut client, lease, ttl).await;
        client.kv.put(pb::PutRequest { lease, ..put(&format!("lease/{lease}"), "1") }).await.unwrap();
    }

    machine.set("+2h");
    assert!(calendar(&mut client).await >= began + 2 * HOUR, "the calendar was not set");
    assert!((500..=600).contains(&left(&mut client, 600).await), "a calendar set forward ends no lease");
    assert_eq!(keep_alive(&mut client, 30).await, 30);

    let last = grant(&mut client, 0, 600).await;
    machine.set("-2h");
    // Each number is greater than the one before, so it can't follow the calendar back.
    assert_eq!(grant(&mut client, 0, 600).await, last + 1, "the calendar was not set back");
    assert!((500..=600).contains(&left(&mut client, 600).await), "one set back does not give more than was granted");
    grant(&mut client, 2, 2).await;
    client.kv.put(pb::PutRequest { lease: 2, ..put("lease/2", "1") }).await.unwrap();
    machine.set("-4h");
    assert!((0..=2).contains(&left(&mut client, 2).await));
    let gone = async { while client.range(range_of("lease/2")).await.unwrap().count > 0 {} };
    tokio::time::timeout(DEADLINE, gone).await.expect("a calendar set back keeps no lease alive");

    assert_eq!(keep_alive(&mut client, 30).await, 30);
    server.stop();
    machine.set("+6h");
    let server = machine.start();
    let mut client = server.connect().await;
    assert!(calendar(&mut client).await >= began + 6 * HOUR, "no time passed while it was down");
    for ttl in [30, 600] {
        assert_eq!(keep_alive(&mut client, ttl).await, ttl, "a lease ended while the server was down");
        assert_eq!(client.range(range_of(&format!("lease/{ttl}"))).await.unwrap().count, 1);
    }
}
