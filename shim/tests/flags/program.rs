//! The real binary, with a limit on everything that it does.

use std::io::Read as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use sluice_shim::pb::etcdserverpb as pb;
use tonic::transport::{Channel, Endpoint, Uri};

/// Nothing takes longer, even on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(60);

/// The binary, without the variables of whoever runs the test.
pub(crate) fn shim() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-shim"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A key that each database has that was served once.
const KEY: &str = "/registry/a/b";

/// Runs to the end; kills what does not end.
pub(crate) fn ended(command: &mut Command) -> Output {
    let child = Guard(command.spawn().unwrap());
    let output = child.wait();
    output.unwrap_or_else(|| panic!("{command:?} did not end, so it was not refused"))
}

/// Runs to an end with that code; returns what it said of the error. Nothing may be on the standard output.
pub(crate) fn refused(command: &mut Command, code: i32) -> String {
    let output = ended(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
    assert!(output.stdout.is_empty(), "{command:?} was not refused");
    said
}

/// Runs to a good end; returns its output.
pub(crate) fn done(command: &mut Command) -> String {
    let output = ended(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for what may block, but not for ever.
pub(crate) fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    done.recv_timeout(LIMIT).unwrap()
}

/// A process that is killed if it is still there.
struct Guard(Child);

impl Guard {
    /// `None` if it was killed, because it did not end.
    fn wait(mut self) -> Option<Output> {
        let (mut stdout, mut stderr) = (self.0.stdout.take()?, self.0.stderr.take()?);
        let (sender, both) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let read = stdout.read_to_end(&mut out).and_then(|_| stderr.read_to_end(&mut err));
            let _ = sender.send((out, err, read.is_ok()));
        });
        // Both are at their end when the process is.
        let (stdout, stderr, _) = both.recv_timeout(LIMIT).ok()?;
        Some(Output { status: self.0.wait().ok()?, stdout, stderr })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that runs in a folder; clients reach it at `client.sock` there, or where its log says.
pub(crate) struct Serving {
    guard: Guard,
    folder: PathBuf,
    log: mpsc::Receiver<String>,
    address: Address,
}

enum Address {
    Socket(PathBuf),
    Tcp(String),
}

impl Serving {
    /// Starts it. It may not listen yet: whatever asks it waits for that.
    pub(crate) fn start(command: &mut Command) -> Self {
        let folder = command.get_current_dir().unwrap().to_owned();
        let mut guard = Guard(command.spawn().unwrap());
        let stderr = guard.0.stderr.take().unwrap();
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            use std::io::BufRead as _;
            std::io::BufReader::new(stderr).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        let address = Address::Socket(folder.join("client.sock"));
        Self { guard, folder, log, address }
    }

    /// Waits for the line of its log that says where it serves; connects there from then on.
    pub(crate) fn at_logged_address(mut self) -> Self {
        let first = self.client_urls()[0].clone();
        self.address = match first.strip_prefix("unix://") {
            Some(path) => Address::Socket(self.folder.join(path)),
            None => Address::Tcp(first),
        };
        self
    }

    /// The URLs that its log says, with their ports.
    pub(crate) fn client_urls(&self) -> Vec<String> {
        let line = self.line_with("serving");
        let clients = line.split("clients=").nth(1).unwrap_or_else(|| panic!("no address: {line}"));
        clients.split(' ').next().unwrap().split(',').map(ToOwned::to_owned).collect()
    }

    /// Asks a listener of `--listen-metrics-urls` whether the server is alive.
    pub(crate) fn metrics_answer(&self) {
        use std::io::Write as _;
        let line = self.line_with("serving");
        let url = line.split("metrics=").nth(1).and_then(|rest| rest.split([' ', ',']).next()).unwrap();
        let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn line_with(&self, word: &str) -> String {
        let mut all = Vec::new();
        let end = Instant::now() + LIMIT;
        while let Ok(line) = self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(word) {
                return line;
            }
            all.push(line);
        }
        panic!("the log never said {word:?}: {all:?}")
    }

    /// Puts a key and reads it again. The connection ends with its runtime.
    pub(crate) fn answers(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = async {
            let channel = self.connect().await;
            let mut client = pb::kv_client::KvClient::new(channel);
            let put = pb::PutRequest { key: KEY.into(), value: "1".into(), ..Default::default() };
            client.put(put).await.unwrap();
            let range = pb::RangeRequest { key: KEY.into(), ..Default::default() };
            let found = client.range(range).await.unwrap().into_inner();
            assert_eq!(&found.kvs[0].value[..], b"1");
        };
        let bounded = async { tokio::time::timeout(LIMIT, asked).await };
        assert!(runtime.block_on(bounded).is_ok(), "no answer: {:?}", self.log.try_iter().collect::<Vec<_>>());
    }

    /// Tries again until it listens, or has ended.
    async fn connect(&self) -> Channel {
        loop {
            let tried = match &self.address {
                Address::Tcp(url) => Endpoint::from_shared(url.clone()).unwrap().connect().await,
                Address::Socket(path) => {
                    let path = path.clone();
                    let open = move |_: Uri| {
                        let path = path.clone();
                        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
                    };
                    Endpoint::from_static("http://localhost").connect_with_connector(tower::service_fn(open)).await
                }
            };
            match tried {
                Ok(channel) => return channel,
                Err(_) if !self.has_ended() => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("it ended: {error}: {:?}", self.log.iter().collect::<Vec<_>>()),
            }
        }
    }

    fn has_ended(&self) -> bool {
        !std::path::Path::new(&format!("/proc/{}/exe", self.guard.0.id())).exists()
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.guard.0.id()
    }

    /// Ends it as a service manager does; returns its log.
    pub(crate) fn stop(self) -> String {
        self.answers();
        self.terminated()
    }

    /// The same, whether it answers or not.
    pub(crate) fn terminated(mut self) -> String {
        let pid = self.guard.0.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        // The log ends with the process.
        let mut log = Vec::new();
        let end = Instant::now() + LIMIT;
        loop {
            match self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => log.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it did not stop"),
            }
        }
        assert!(self.guard.0.wait().unwrap().success(), "{log:?}");
        log.join("\n")
    }
}
