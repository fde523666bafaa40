//! A MariaDB of the tests' own.

use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder};

/// Starts a server in the folder $1 at the port $2, as a user who is not root, and ends it with its folder when its
/// input ends: that is when the tests do, whatever ends them.
const SCRIPT: &str = r#"
set -e
as=
if [ "$(id -u)" = 0 ]; then
    as="setpriv --reuid=nobody --regid=$(id -g nobody) --clear-groups"
    chown nobody "$1"
fi
$as mariadb-install-db --no-defaults --datadir="$1/data" --auth-root-authentication-method=normal --skip-test-db \
    >"$1/log" 2>&1 </dev/null || { cat "$1/log"; exit 1; }
$as mariadbd --no-defaults --datadir="$1/data" --bind-address=127.0.0.1 --port="$2" --socket="$1/socket" \
    --innodb-flush-log-at-trx-commit=1 --max-connections=200 $3 >"$1/log" 2>&1 </dev/null &
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
    for program in ["mariadbd", "mariadb-install-db", "setpriv"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        assert!(
            found.status.success(),
            "the program {program} is missing; apt-get install -y --no-install-recommends mariadb-server util-linux"
        );
    }
    let folder = tempfile::Builder::new().prefix("mariadb").tempdir().unwrap().keep();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new("sh")
        .args(["-c", SCRIPT, "mariadb"])
        .arg(&folder)
        .arg(port.to_string())
        .arg(options)
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

fn connect(port: u16) -> mysql::Result<Conn> {
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
