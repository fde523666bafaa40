//! What is plain HTTP: the shim answers as etcd, path by path. What differs is in docs/monitoring.md, and a test of the
//! shim.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::lab::folder;
use super::stores::{Server, Tools};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::ensure;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("http/same-as-etcd", same_as_etcd).of(Column::OURS)]
}

const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PUT", "DELETE"];

const PATHS: [&str; 36] = [
    "/",
    "/nosuch",
    "/v2/keys",
    "/v2/members",
    "/members",
    "/version",
    "/version/",
    "/version/cluster",
    "/health",
    "/health/",
    "/health?serializable=true",
    "/health?exclude=NOSPACE&exclude=CORRUPT",
    "/healthz",
    "/livez",
    "/livez/",
    "/livezz",
    "/livez?verbose",
    "/livez?verbose&exclude=serializable_read",
    "/livez?exclude=nosuch",
    "/livez/serializable_read",
    "/livez/serializable_read?verbose",
    "/livez/linearizable_read",
    "/readyz",
    "/readyz?verbose",
    "/readyz?verbose=no&exclude=data_corruption&exclude=",
    "/readyz/data_corruption?verbose",
    "/readyz/serializable_read",
    "/readyz/linearizable_read?exclude=linearizable_read",
    "/readyz/non_learner",
    "/readyz/nosuch",
    "/metrics/nosuch",
    "/debug/pprof/",
    "/debug/requests",
    "/proxy/health",
    "/etcdserverpb.KV/Range",
    "/nosuch.Service/Method",
];

fn same_as_etcd(suite: &Suite) -> Result<Verdict> {
    let Some(tools) = Tools::of(suite)? else {
        return Ok(Verdict::Skipped("needs etcdctl and etcdutl beside etcd".to_owned()));
    };
    let folder = folder(suite, "http");
    fs_err::create_dir_all(&folder)?;
    let (etcd, shim) = (Server::etcd(&tools, &folder, "data")?, Server::shim(&tools, &folder, "state.db")?);
    let (mut count, mut differences) = (0, Vec::new());
    for path in PATHS {
        for method in METHODS {
            count += 1;
            let (expected, said) = (answer(etcd.port, method, path)?, answer(shim.port, method, path)?);
            if expected != said {
                differences.push(format!("{method} {path}\n--- etcd\n{expected}\n--- sluice-shim\n{said}\n"));
            }
        }
    }
    ensure(differences.is_empty(), || {
        format!("{} of {count} answers differ:\n{}", differences.len(), differences.join("\n"))
    })?;
    shim.stop()?;
    etcd.stop()?;
    fs_err::remove_dir_all(folder)?;
    Ok(Verdict::Passed(format!("{count} answers")))
}

/// The headers of an answer that say what it is.
const COMPARED: [&str; 3] = ["content-type:", "allow:", "x-content-type-options:"];

/// Status, headers and body, without what differs by chance: the order of etcd's checks.
fn answer(port: u16, method: &str, path: &str) -> Result<String> {
    let text = exchange(port, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let head = head.lines().map(str::to_lowercase);
    let mut head: Vec<_> = head
        .filter(|line| line.starts_with("http/1.1 ") || COMPARED.iter().any(|name| line.starts_with(name)))
        .collect();
    let mut body: Vec<_> = body.lines().collect();
    head.sort();
    body.sort_unstable();
    Ok(format!("{}\n{}", head.join("\n"), body.join("\n")))
}

/// Sends a request; returns all that comes back until the connection ends.
pub(super) fn exchange(port: u16, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
