//! Three MariaDBs of the test's own that are one Galera cluster.
#![allow(clippy::allow_attributes, dead_code, reason = "each program of tests needs a part of it")]

use std::time::{Duration, Instant};

use sluice_shim::endpoint::Family;

use crate::server::{Server, Stop};

/// Set by whoever wants the tests with clusters of their own, which take their time to start.
const VARIABLE: &str = "SLUICE_TEST_GALERA";

/// How long a node may take to get what it lacks, on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster.
pub(crate) struct Cluster {
    nodes: [Server; 3],
}

/// Whether no cluster is wanted; says so.
pub(crate) fn is_skipped() -> bool {
    let skipped = std::env::var_os(VARIABLE).is_none();
    if skipped {
        eprintln!("skipped: `cargo xtask test db --only galera` starts clusters, and sets {VARIABLE}");
    }
    skipped
}

/// What makes a server with these ports a node: of the cluster, of what it gets as a whole, of what it gets in part.
fn options(ports: &[[u16; 3]; 3], nth: usize) -> Vec<String> {
    let [own, whole, part] = ports[nth];
    let all: Vec<_> = ports.iter().map(|[port, ..]| format!("127.0.0.1:{port}")).collect();
    // A node that says nothing for two seconds is left out; by default that takes five.
    let provider = format!(
        "base_port={own};gmcast.listen_addr=tcp://127.0.0.1:{own};ist.recv_addr=127.0.0.1:{part};gcache.size=32M;\
         evs.keepalive_period=PT0.5S;evs.inactive_check_period=PT0.25S;evs.suspect_timeout=PT2S;\
         evs.inactive_timeout=PT4S;evs.install_timeout=PT4S"
    );
    let mut options = [
        "--wsrep-on=ON",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
        "--wsrep-provider=/usr/lib/galera/libgalera_smm.so",
        "--wsrep-sst-method=rsync",
        "--max-connections=300",
        "--skip-ssl",
    ]
    .map(str::to_owned)
    .to_vec();
    options.extend([
        format!("--wsrep-cluster-address=gcomm://{}", all.join(",")),
        format!("--wsrep-node-address=127.0.0.1:{own}"),
        format!("--wsrep-sst-receive-address=127.0.0.1:{whole}"),
        format!("--wsrep-provider-options={provider}"),
    ]);
    options
}

impl Cluster {
    /// A new one.
    pub(crate) fn start() -> Self {
        let ports: [[u16; 3]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| crate::port::free()));
        let nodes = std::array::from_fn(|nth| Server::of_cluster(Family::MySql, options(&ports, nth)));
        let mut cluster = Self { nodes };
        cluster.nodes[0].fill();
        cluster.nodes[0].run_with(&["--wsrep-new-cluster".to_owned()]);
        for nth in 1..3 {
            cluster.nodes[nth].fill_not();
            cluster.nodes[nth].run();
        }
        cluster.wait();
        cluster
    }

    pub(crate) fn node(&self, nth: usize) -> &Server {
        &self.nodes[nth]
    }

    /// The nodes from this one on, for whoever may do everything.
    pub(crate) fn url_from(&self, first: usize) -> String {
        let hosts: Vec<_> = (0..3).map(|nth| format!("127.0.0.1:{}", self.nodes[(first + nth) % 3].port)).collect();
        format!("mysql://root@{}/mysql?sslmode=disable", hosts.join(","))
    }

    /// Kills a node.
    pub(crate) fn kill(&mut self, nth: usize) {
        self.nodes[nth].stop(Stop::Kill);
    }

    /// Starts a node that was killed; it gets what it lacks from the others.
    pub(crate) fn revive(&mut self, nth: usize) {
        let said = self.nodes[nth].says(&["--wsrep-recover"]);
        let mark = "WSREP: Recovered position:";
        let at = said.lines().find_map(|line| Some(line.split_once(mark)?.1.trim().to_owned()));
        let at = at.unwrap_or_else(|| panic!("it does not say where it stands: {said}"));
        self.nodes[nth].run_with(&[format!("--wsrep-start-position={at}")]);
        self.wait();
    }

    /// Cuts a node off from the others, and waits until it has noticed.
    pub(crate) fn cut_off(&self, nth: usize) {
        self.isolate(nth, 1);
        self.until(|| self.nodes[nth].query("SELECT 1 FROM mysql.user").is_err());
    }

    /// Ends that.
    pub(crate) fn let_in(&self, nth: usize) {
        self.isolate(nth, 0);
        self.wait();
    }

    fn isolate(&self, nth: usize, on: u8) {
        self.nodes[nth].set(&format!("SET GLOBAL wsrep_provider_options='gmcast.isolate={on}'"));
    }

    /// Waits until all nodes have all that there is.
    pub(crate) fn wait(&self) {
        let says = |node: &Server, name: &str, value: &str| {
            let told = node.query(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).unwrap_or_default();
            told.first().is_some_and(|row| row[1] == value)
        };
        self.until(|| {
            self.nodes
                .iter()
                .all(|node| says(node, "wsrep_cluster_size", "3") && says(node, "wsrep_local_state_comment", "Synced"))
        });
    }

    fn until(&self, there: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !there() {
            assert!(Instant::now() < until, "the cluster does not become what it should");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The node to which most sessions that use a database lead whose name begins so.
    pub(crate) fn in_use(&self, database: &str) -> Option<usize> {
        let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE db LIKE '{database}%'");
        let count = |nth: &usize| -> u32 {
            let told = self.nodes[*nth].query(&sql).unwrap_or_default();
            told.first().map_or(0, |row| row[0].parse().unwrap())
        };
        (0..3).max_by_key(count).filter(|nth| count(nth) > 0)
    }
}
