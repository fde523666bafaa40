//! A MariaDB of the tests' own.

use std::io::Read as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder};

/// A folder with the programs of the MariaDB to test, as its developers pack it; without it those in `PATH`.
const MARIADB: &str = "SLUICE_TEST_MARIADB";

/// Starts a server in the folder $1 at the port $2 with the options $3 and the programs in $4, as a user who is not
/// root, and ends it with its folder when its input ends: that is when the tests do, whatever ends them.
const SCRIPT: &str = r#"
set -e
as=
if [ "$(id -u)" = 0 ]; then
    as="setpriv --reuid=nobody --regid=$(id -g nobody) --clear-groups"
    chown nobody "$1"
fi
install=mariadb-install-db server=mariadbd
if [ "$4" ]; then
    export LD_LIBRARY_PATH="$4/libs"
    install="$4/scripts/mariadb-install-db" server="$4/bin/mariadbd"
fi
$as "$install" --no-defaults ${4:+"--basedir=$4"} --datadir="$1/data" --auth-root-authentication-method=normal --skip-test-db \
    >"$1/log" 2>&1 </dev/null || { cat "$1/log"; exit 1; }
$as "$server" --no-defaults ${4:+"--basedir=$4" "--lc-messages-dir=$4/share"} --datadir="$1/data" --bind-address=127.0.0.1 --port="$2" --socket="$1/socket" \
    --innodb-flush-log-at-trx-commit=1 --max-connections=200 --skip-ssl $3 >"$1/log" 2>&1 </dev/null &
read -r _ || true
kill -9 $!
wait || true
rm -rf "$1"
"#;

/// How long the server may take to start.
const START: Duration = Duration::from_secs(120);

/// A server.
pub(crate) struct Server {
    pub(crate) port: u16,
    _child: Child,
    _input: ChildStdin,
}

/// A server of one's own, with options.
pub(crate) fn start(options: &str) -> Server {
    let programs = std::env::var_os(MARIADB).unwrap_or_default();
    let needed = if programs.is_empty() { &["mariadbd", "mariadb-install-db", "setpriv"][..] } else { &["setpriv"] };
    for program in needed {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        assert!(
            found.status.success(),
            "the program {program} is missing; apt-get install -y --no-install-recommends mariadb-server util-linux"
        );
    }
    let folder = tempfile::Builder::new().prefix("mariadb").tempdir().unwrap().keep();
    let port = crate::port::free();
    let mut child = Command::new("sh")
        .args(["-c", SCRIPT, "mariadb"])
        .arg(&folder)
        .arg(port.to_string())
        .arg(options)
        .arg(&programs)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    let started = Instant::now();
    while connect(port).is_err() {
        if child.try_wait().unwrap().is_some() {
            let mut log = String::new();
            child.stdout.take().unwrap().read_to_string(&mut log).unwrap();
            panic!("MariaDB did not start: {log}");
        }
        assert!(started.elapsed() < START, "MariaDB did not start; see {}", folder.join("log").display());
        std::thread::sleep(Duration::from_millis(50));
    }
    Server { port, _child: child, _input: input }
}

/// A connection that may do everything, to a server on this machine.
pub(crate) fn connect(port: u16) -> mysql::Result<Conn> {
    let options = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(port).user(Some("root"));
    Conn::new(options.prefer_socket(false))
}

impl Server {
    /// A connection that may do everything.
    pub(crate) fn root(&self) -> Conn {
        connect(self.port).unwrap()
    }

    /// Has it carry out a statement.
    pub(crate) fn set(&self, statement: &str) {
        self.root().query_drop(statement).unwrap();
    }
}
