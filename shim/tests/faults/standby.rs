//! Several processes on one database: what the others do while one serves, and when it is gone.

use std::path::Path;

use nix::sys::signal::Signal;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use sluice_shim::engine::instance::{self, Part};
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::sql;
use tokio_stream::StreamExt as _;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::database::Database;
use crate::ledger::in_time;
use crate::shim::{Shim, put};

pub(crate) const FLAGS: [&str; 3] = ["--standby", "--listen-client-urls", "http://127.0.0.1:0"];

/// Two processes: the one that serves, and the one that stands by.
async fn pair(database: &Database, flags: [&[&str]; 2]) -> [Shim; 2] {
    let first = Shim::start_with(database.endpoint(), flags[0]);
    in_time("the first", async { while !ready(&first).await.0 {} }).await;
    [first, Shim::start_with(database.endpoint(), flags[1])]
}

/// Whether a process is ready, and what it says.
pub(crate) async fn ready(shim: &Shim) -> (bool, String) {
    let answer = shim.get("/readyz").await;
    (answer.starts_with("HTTP/1.1 200"), answer)
}

pub(crate) async fn write(channel: &Channel, key: &str) -> Result<i64, Status> {
    let answer = KvClient::new(channel.clone()).put(put(key, "x")).await?.into_inner();
    Ok(answer.header.unwrap().revision)
}

pub(crate) async fn count(channel: &Channel) -> i64 {
    let request = pb::RangeRequest { key: "/".into(), range_end: "0".into(), count_only: true, ..Default::default() };
    KvClient::new(channel.clone()).range(request).await.unwrap().into_inner().count
}

/// A watch of all keys.
async fn watch(channel: &Channel, from: i64) -> Result<tonic::Streaming<pb::WatchResponse>, Status> {
    let create =
        pb::WatchCreateRequest { key: "/".into(), range_end: "0".into(), start_revision: from, ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut stream = WatchClient::new(channel.clone()).watch(requests).await?.into_inner();
    assert!(stream.message().await?.unwrap().created);
    Ok(stream)
}

/// The revision of the next event, or of the last one that comes with it.
async fn event(stream: &mut tonic::Streaming<pb::WatchResponse>) -> Result<i64, Status> {
    let message = in_time("an event", stream.message()).await?.ok_or_else(|| Status::aborted("the end"))?;
    Ok(message.events.last().and_then(|event| event.kv.as_ref()).unwrap().mod_revision)
}

/// Asks so much at once that HTTP/2's library takes it for an attack, where it is not told otherwise.
async fn burst(channel: &Channel) {
    let get = |nth: usize| {
        let request = pb::RangeRequest { key: format!("/a/{nth}").into(), ..Default::default() };
        let mut client = KvClient::new(channel.clone());
        tokio::spawn(async move { client.range(request).await.map(drop) })
    };
    for answer in (0..10_000).map(get).collect::<Vec<_>>() {
        in_time("a get", answer).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_standby_see_the_same_etcd() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let [first, second] = pair(&database, [&FLAGS, &FLAGS]).await;
    let (leads, stands_by) = (first.connect().await, second.connect().await);
    let mut events = watch(&stands_by, 0).await.unwrap();
    for nth in 0..3 {
        let through = if nth == 1 { &leads } else { &stands_by };
        let revision = write(through, &format!("/a/{nth}")).await.unwrap();
        assert_eq!(event(&mut events).await.unwrap(), revision);
    }
    assert_eq!((count(&leads).await, count(&stands_by).await), (3, 3));
    let large = put("/large", vec![b'x'; 1 << 20]);
    KvClient::new(stands_by.clone()).put(large).await.unwrap();
    let snapshot = MaintenanceClient::new(stands_by.clone()).snapshot(pb::SnapshotRequest {}).await.unwrap();
    let sizes = snapshot.into_inner().map(|part| part.unwrap().blob.len()).collect::<Vec<_>>().await;
    assert!(sizes.iter().sum::<usize>() > 1 << 20, "{sizes:?}");
    let refused = KvClient::new(stands_by.clone()).range(pb::RangeRequest::default()).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: key is not provided");
    for channel in [&leads, &stands_by] {
        burst(channel).await;
    }
    for (shim, standby) in [(&first, 0), (&second, 1)] {
        assert!(ready(shim).await.0);
        assert!(shim.get("/metrics").await.contains(&format!("\nsluice_standby {standby}\n")));
        assert!(shim.get("/version").await.contains("etcdserver"));
        assert!(shim.get("/nothing").await.starts_with("HTTP/1.1 404"));
    }
}

/// Whoever asks sees all processes: in the database, and as members of an etcd.
#[tokio::test(flavor = "multi_thread")]
async fn all_processes_are_to_be_seen() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let names = ["one", "two"].map(|name| [&FLAGS[..], &["--name", name]].concat());
    let [mut first, mut second] = pair(&database, [&names[0], &names[1]]).await;
    in_time("the second", async { while !ready(&second).await.0 {} }).await;
    let seen = || {
        let all = sql::instances(database.endpoint()).unwrap();
        all.into_iter().map(|instance| (instance.name, instance.part)).collect::<Vec<_>>()
    };
    let both = [(Some("one".into()), Part::Serves), (Some("two".into()), Part::StandsBy)];
    in_time("both", async { while seen() != both {} }).await;
    let urls = [&first, &second].map(|shim| shim.endpoint().uri().to_string());
    let urls = [("one", urls[0].trim_end_matches('/')), ("two", urls[1].trim_end_matches('/'))];
    for shim in [&first, &second] {
        let mut cluster = ClusterClient::new(shim.connect().await);
        let listed = cluster.member_list(pb::MemberListRequest::default()).await.unwrap().into_inner();
        let members = listed.members.iter().map(|member| (&member.name[..], &member.client_ur_ls[0][..]));
        assert_eq!(members.collect::<Vec<_>>(), urls);
        let [one, two] = [0, 1].map(|nth: usize| listed.members[nth].id);
        assert!(one != two && listed.header.unwrap().member_id == one, "{listed:?}");
    }
    let mut third = Shim::start_with(database.endpoint(), &[&FLAGS[..], &["--name", "three"]].concat());
    in_time("all", async { while seen().len() < 3 {} }).await;
    third.signal(Signal::SIGTERM);
    third.ended().await;
    assert_eq!(seen(), both);
    first.signal(Signal::SIGKILL);
    first.ended().await;
    in_time("the other", async { while seen() != [(Some("two".into()), Part::Serves)] {} }).await;
    second.signal(Signal::SIGTERM);
    second.ended().await;
    assert_eq!(seen(), []);
}

/// Watchers that do not read hold up nobody else. One write after the other, so that each event is a small message of
/// its own, of which HTTP/2's library lets only so many wait.
#[tokio::test(flavor = "multi_thread")]
async fn slow_watchers_at_a_standby_end_no_requests_of_others() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let [first, second] = pair(&database, [&FLAGS, &FLAGS]).await;
    let leads = first.connect().await;
    // Nearly all that is not read waits in the process that stands by.
    let stands_by = second.endpoint().initial_stream_window_size(1 << 10).connect().await.unwrap();
    let mut watches = Vec::new();
    for _ in 0..100 {
        watches.push(watch(&stands_by, 0).await.unwrap());
    }
    let mut newest = 0;
    for nth in 0..1000 {
        newest = write(&leads, &format!("/{nth}")).await.unwrap();
    }
    assert_eq!(count(&stands_by).await, 1000);
    // No watch was ended.
    for mut events in watches {
        while event(&mut events).await.unwrap() < newest {}
    }
}

/// However it ends, nothing is lost, and clients keep their connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_the_place_of_the_one_that_ends() {
    if crate::is_skipped() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let database = Database::new();
        let [mut first, second] = pair(&database, [&FLAGS, &FLAGS]).await;
        let client = second.connect().await;
        let mut events = watch(&client, 0).await.unwrap();
        let mut last = write(&client, "/a/0").await.unwrap();
        first.signal(signal);
        first.ended().await;
        // A client that tries again comes through; which of its tries were carried out it can't know.
        let again = async {
            loop {
                match write(&client, "/a/1").await {
                    Ok(revision) => break revision,
                    Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status}"),
                }
            }
        };
        let next = in_time("a write", again).await;
        assert!(next > last && count(&client).await == 2, "{last} {next}");
        // Each event is heard once: on the old stream, or on a new one behind what was heard.
        let mut heard = Vec::new();
        while heard.last() != Some(&next) {
            match event(&mut events).await {
                Ok(revision) => (last, heard) = (revision, [heard, vec![revision]].concat()),
                Err(_) => events = watch(&client, last + 1).await.unwrap(),
            }
        }
        assert!(heard.is_sorted_by(|a, b| a < b), "{heard:?}");
        let metrics = second.get("/metrics").await;
        for line in ["sluice_standby 0", "etcd_server_leader_changes_seen_total 1"] {
            assert!(metrics.contains(&format!("\n{line}\n")), "{line}: {metrics}");
        }
    }
}

/// A process that is stopped for long serves nothing when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_place_was_taken_ends() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let [mut first, second] = pair(&database, [&FLAGS, &FLAGS]).await;
    let client = second.connect().await;
    let before = write(&client, "/a/0").await.unwrap();
    first.signal(Signal::SIGSTOP);
    let again = async {
        loop {
            if let Ok(revision) = write(&client, "/a/1").await {
                break revision;
            }
        }
    };
    assert!(in_time("a write without it", again).await > before);
    first.signal(Signal::SIGCONT);
    assert_eq!(first.ended().await, Some(1));
}

/// Files of an authority, and a certificate of it for a server that is a client as well.
fn certify(folder: &Path) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &authority).unwrap();
    for (name, text) in [("ca", authority.pem()), ("cert", cert.pem()), ("key", key.serialize_pem())] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// The listener without TLS is for the test, which only looks at health.
#[tokio::test(flavor = "multi_thread")]
async fn processes_know_each_other_by_certificates() {
    if crate::is_skipped() {
        return;
    }
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    folders.iter().for_each(|folder| certify(folder.path()));
    let flags = |folder: &Path| {
        let file = |name: &str| folder.join(name).display().to_string();
        let urls = "https://127.0.0.1:0,http://127.0.0.1:0".to_owned();
        let flags = ["--standby", "--listen-client-urls"].map(str::to_owned);
        let tls = [("--cert-file", "cert"), ("--key-file", "key"), ("--trusted-ca-file", "ca")];
        let tls = tls.into_iter().flat_map(|(flag, name)| [flag.to_owned(), file(name)]);
        flags.into_iter().chain([urls]).chain(tls).collect::<Vec<String>>()
    };
    for (other, answers) in [(0, true), (1, false)] {
        let database = Database::new();
        let [own, theirs] = [flags(folders[0].path()), flags(folders[other].path())];
        let [own, theirs] = [&own, &theirs].map(|flags| flags.iter().map(String::as_str).collect::<Vec<_>>());
        let [_first, second] = pair(&database, [&own, &theirs]).await;
        let said = async {
            loop {
                let (ready, said) = ready(&second).await;
                if ready == answers && (ready || said.contains("can't be reached")) {
                    break;
                }
            }
        };
        in_time("what a standby says", said).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_stand_by_gets_nothing_handed_on() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let [_first, second] = pair(&database, [&FLAGS[1..], &FLAGS]).await;
    let said = async { while !ready(&second).await.1.contains("it was started without --standby") {} };
    in_time("what a standby says", said).await;
    let refused = write(&second.connect().await, "/a").await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Unavailable, "etcdserver: no leader"));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_know_each_other_by_what_is_in_the_database() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("tls");
    let urls = "https://127.0.0.1:0,http://127.0.0.1:0";
    let flags = ["--standby", "--peer-auto-tls", "--listen-client-urls", urls, "--peer-auto-tls-dir"];
    let flags = [&flags[..], &[folder.to_str().unwrap()]].concat();
    // Both find no pair.
    let both = [(); 2].map(|()| Shim::start_with(database.endpoint(), &flags));
    for shim in &both {
        in_time("a process that is ready", async { while !ready(shim).await.0 {} }).await;
        write(&shim.connect().await, "/a").await.unwrap();
    }
    let stands_by = [both[0].get("/metrics").await, both[1].get("/metrics").await];
    assert_eq!(stands_by.iter().filter(|text| text.contains("\nsluice_standby 1\n")).count(), 1, "{stands_by:?}");

    // A client beside a process has the files. Who has the certificate alone is a stranger.
    let endpoint = database.endpoint();
    let place = tokio::task::block_in_place(|| sql::lookout(endpoint).unwrap().unwrap().look().unwrap().unwrap());
    let [authority, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| std::fs::read(folder.join(name)).unwrap());
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    for (tls, accepted) in [(tls.clone(), false), (tls.identity(Identity::from_pem(cert, key)), true)] {
        let url = instance::url(&place).unwrap().to_owned();
        let channel = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect_lazy();
        assert_eq!(write(&channel, "/a").await.is_ok(), accepted);
    }
}
