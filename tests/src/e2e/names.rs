//! The static shim alone in a folder, as in its image: it finds a database by name, with the resolver's files that
//! Kubernetes writes into a pod.

mod nameserver;
mod relay;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use fs_err as fs;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

use self::nameserver::{Nameserver, SILENT};
use self::relay::Relay;
use super::http::exchange;
use super::lab::folder;
use super::{Case, Column, Suite, Verdict, mount};

/// Where the two hosts are that the name leads to, one after the other.
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 77, 0, 1), Ipv4Addr::new(127, 77, 0, 2)];

/// The full name of the host that the shim knows as `db`.
const NAME: &str = "db.apps.svc.cluster.local";

/// How long a process may take to end.
const GRACE: Duration = Duration::from_secs(30);

pub(super) fn cases() -> Vec<Case> {
    let case = |database: Database| {
        let name = format!("names/in-the-image-{database}").to_lowercase();
        Case::new(name, move |suite| in_the_image(suite, database)).of(Column::OURS)
    };
    Database::ALL.into_iter().map(case).collect()
}

fn in_the_image(suite: &Suite, database: Database) -> Result<Verdict> {
    if !mount::allowed() {
        return Ok(Verdict::Skipped("needs root, to change the root folder of a process".to_owned()));
    }
    let folder = folder(suite, "names");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let behind = port::free()?;
    let server = database.start(&folder, behind)?;
    let _server = Guard::new(Leftover::Process(server.clone()));
    let names = Nameserver::start()?;
    let root = image(suite, &folder, names.address())?;

    let (at, client) = (port::free()?, port::free()?);
    let endpoint = |host: &str| -> Result<String> {
        let direct = database.endpoint(&folder, behind)?;
        Ok(direct.replace(&format!("127.0.0.1:{behind}"), &format!("{host}:{at}")))
    };
    let shim = |host: &str| -> Result<Run> {
        let run = Run::new("chroot", "/").arg(&root).arg("/sluice-shim").env("SLUICE_ENDPOINT", endpoint(host)?);
        Ok(run.args(["--listen-client-urls", &format!("http://127.0.0.1:{client}")]))
    };
    for (host, expected) in [("nosuch", "Name or service not known"), (SILENT, "Temporary failure in name resolution")]
    {
        let refused = shim(host)?.outcome()?;
        let said = format!("{refused:?}");
        ensure(!refused.status.success() && said.contains(host) && said.contains(expected), || {
            format!("{host}: {said}")
        })?;
    }

    // Nobody listens at the address of the other kind, which comes first.
    let addresses = |host: Ipv4Addr| vec![IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(host)];
    let first = Relay::start(HOSTS[0], at, behind)?;
    names.set(NAME, addresses(HOSTS[0]));
    let process = launch("sluice-shim", &shim("db")?, &folder.join("shim.log"))?;
    let _process = Guard::new(Leftover::Process(process.clone()));
    let is_ready = || Ok(exchange(client, READY).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")).then_some(()));
    until("an answer of the shim", LIMIT, is_ready)?;
    let connections = first.connections();
    ensure(connections > 0, || "the shim did not come by the name".to_owned())?;

    let second = Relay::start(HOSTS[1], at, behind)?;
    names.set(NAME, addresses(HOSTS[1]));
    first.stop();
    until("a connection to the new address", LIMIT, || {
        exchange(client, READY)?;
        Ok((second.connections() > 0).then_some(()))
    })?;
    until("an answer of the shim by the new address", LIMIT, is_ready)?;
    process.stop(GRACE)?;
    server.stop(GRACE)?;
    fs::remove_dir_all(folder)?;
    Ok(Verdict::Passed(format!("{connections} connections by the first address")))
}

const READY: &str = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A folder with the shim and what the image and Kubernetes put beside it.
fn image(suite: &Suite, folder: &Path, nameserver: Ipv4Addr) -> Result<std::path::PathBuf> {
    let root = folder.join("image");
    fs::create_dir_all(root.join("etc"))?;
    fs::create_dir_all(root.join("tmp"))?;
    // Each container has them: without them a static program has no random numbers.
    fs::create_dir_all(root.join("dev"))?;
    for (name, minor) in [("random", "8"), ("urandom", "9")] {
        Run::new("mknod", root.join("dev")).args(["-m", "666", name, "c", "1", minor]).run()?;
    }
    fs::copy(&suite.programs(Column::OURS)?.store, root.join("sluice-shim"))?;
    let resolver = format!(
        "nameserver {nameserver}\nsearch apps.svc.cluster.local svc.cluster.local cluster.local\n\
         options ndots:5 timeout:1 attempts:1\n"
    );
    for (name, text) in
        [("resolv.conf", &resolver[..]), ("hosts", "127.0.0.1 localhost\n"), ("nsswitch.conf", "hosts: files dns\n")]
    {
        fs::write(root.join("etc").join(name), text)?;
    }
    Ok(root)
}
