//! Three MariaDBs that are one Galera cluster, each of which takes writes.

use std::path::{Path, PathBuf};

use fs_err as fs;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::standalone;

use super::{GALERA, Launched, PROGRAMS, Part, Running, THROUGH_POOLERS, installed};

const DATABASE: Database = Database::Mariadb;

/// Of Debian's package galera-4.
const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// The ports of a node.
struct Node {
    sql: u16,
    /// For the other nodes.
    cluster: u16,
    /// For all data as a whole, and for a part of them, of another node.
    data: [u16; 2],
}

/// The shim's tests on a cluster: through one node of it first, and then with all its hosts in the connection string,
/// together with those that strike clusters of their own.
pub(super) fn part(shell: &Context, all: bool) -> Result<Part> {
    installed("galera-4", PROVIDER)?;
    installed("rsync", "/usr/bin/rsync")?;
    let folder = shell.paths.cache().join("galera");
    standalone::empty(&folder)?;
    let nodes = (0..3).map(|_| Node::new()).collect::<Result<Vec<_>>>()?;
    let mut servers = Vec::new();
    for nth in 0..nodes.len() {
        servers.push(start(&folder, &nodes, nth)?);
    }
    let hosts: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.sql)).collect();
    let hosts = if all { hosts.join(",") } else { hosts[0].clone() };
    let endpoint = format!("mysql://root@{hosts}/mysql");
    let running = servers.into_iter().map(Running::Launched).collect();
    if !all {
        return Ok(Part::new("shim on a node of Galera".to_owned(), &THROUGH_POOLERS, endpoint, running));
    }
    let mut part = Part::new("shim on Galera's three nodes".to_owned(), &PROGRAMS, endpoint, running);
    part.variables.push((GALERA, "1".to_owned()));
    Ok(part)
}

impl Node {
    fn new() -> Result<Self> {
        Ok(Self { sql: port::free()?, cluster: port::free()?, data: [port::free()?, port::free()?] })
    }
}

/// Starts a node in a folder of its own. The first one makes the cluster, and its data is what the others get.
fn start(folder: &Path, nodes: &[Node], nth: usize) -> Result<Launched> {
    let own = folder.join(format!("node-{}", nth + 1));
    let data = prepare(&own, nth == 0)?;
    let title = format!("node {} of Galera", nth + 1);
    let Node { sql, cluster, data: [whole, part] } = &nodes[nth];
    let all: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.cluster)).collect();
    let run = DATABASE.tool("mariadbd", &data)?.args([
        "--no-defaults".to_owned(),
        format!("--datadir={}", data.display()),
        format!("--socket={}", data.join("socket").display()),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--port={sql}"),
        "--innodb-flush-log-at-trx-commit=1".to_owned(),
        "--max-connections=600".to_owned(),
        "--wsrep-on=ON".to_owned(),
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
        format!("--wsrep-provider={PROVIDER}"),
        format!("--wsrep-cluster-address=gcomm://{}", all.join(",")),
        format!("--wsrep-node-address=127.0.0.1:{cluster}"),
        "--wsrep-sst-method=rsync".to_owned(),
        format!("--wsrep-sst-receive-address=127.0.0.1:{whole}"),
        format!(
            "--wsrep-provider-options=base_port={cluster};gmcast.listen_addr=tcp://127.0.0.1:{cluster};\
             ist.recv_addr=127.0.0.1:{part}"
        ),
    ]);
    let run = if nth == 0 { run.arg("--wsrep-new-cluster") } else { run };
    Launched::mysql(&title, &run, own, *sql)
}

/// The folder of a node's data, with data in it if it is to have some.
fn prepare(own: &Path, filled: bool) -> Result<PathBuf> {
    let data = own.join("data");
    fs::create_dir(own)?;
    fs::create_dir(&data)?;
    DATABASE.own(&data)?;
    if filled {
        let install = DATABASE.tool("mariadb-install-db", "/")?;
        let install = install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}", data.display())).run()?;
    }
    Ok(data)
}
