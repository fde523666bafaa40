//! A TCP proxy between the shim and its database, which does to the connection what a network can do.
//!
//! It tells where a message of either protocol ends, and nothing else of it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sluice_shim::endpoint::{Address, Endpoint, Family, Host, TlsMode};

/// How long a message may be late that arrives when its connection is gone for the other side.
const LATE: Duration = Duration::from_millis(100);

/// How a connection ends at a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// What the shim says does not arrive, from that message on.
    Request,
    /// The shim sees the connection end, and the server gets all that was said later than that.
    LateRequest,
    /// What the server answers does not arrive, from that message on.
    Answer,
    /// The same, and it shows only after a while.
    HeldAnswer,
}

impl Cut {
    fn is_of(self, to_server: bool) -> bool {
        to_server == matches!(self, Self::Request | Self::LateRequest)
    }
}

/// What is wrong with the network.
#[derive(Debug, Default)]
struct Control {
    /// How long each answer takes more than the server needs.
    delay: Duration,
    /// No answer comes.
    stalled: bool,
    /// No connection is made, and none lasts.
    down: bool,
    /// How many connections were not made since.
    refused: usize,
    /// A connection is cut before so many more messages have passed.
    cut: Option<(Cut, usize)>,
    /// Whether the network goes down with that.
    then_down: bool,
    open: Vec<TcpStream>,
}

struct Shared {
    family: Family,
    server: SocketAddr,
    control: Mutex<Control>,
    changed: Condvar,
}

/// The proxy. Its threads end with their connections, and the one that listens with the program.
pub(crate) struct Proxy {
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

impl Proxy {
    /// In front of a database on a server.
    pub(crate) fn start(database: &Endpoint) -> Self {
        let Endpoint::Network(direct) = database else { panic!("{database} is a file") };
        let host = &direct.hosts[0];
        let server = std::net::ToSocketAddrs::to_socket_addrs(&(&*host.name, host.port)).unwrap().next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut options = direct.options.clone();
        // The ends of messages can't be seen through encryption.
        options.tls.mode = TlsMode::Disable;
        let hosts = vec![Host { name: "127.0.0.1".into(), port }];
        let endpoint = Endpoint::Network(Box::new(Address { hosts, options, ..(**direct).clone() }));
        let shared =
            Arc::new(Shared { family: direct.family, server, control: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                theirs.accept(client);
            }
        });
        Self { endpoint, shared }
    }

    /// The database through the proxy.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Makes each answer later by so much.
    pub(crate) fn delay(&self, delay: Duration) {
        self.shared.control().delay = delay;
    }

    /// Holds all answers back, or lets them go.
    pub(crate) fn stall(&self, stalled: bool) {
        self.shared.control().stalled = stalled;
        self.shared.changed.notify_all();
    }

    /// Ends all connections, and makes none or some again.
    pub(crate) fn down(&self, down: bool) {
        let mut control = self.shared.control();
        control.down = down;
        if down {
            control.refused = 0;
            control.end();
        }
    }

    /// How many connections were not made since all of them were ended.
    pub(crate) fn refused(&self) -> usize {
        self.shared.control().refused
    }

    /// Waits until so many connections were not made since all of them were ended.
    pub(crate) fn await_refused(&self, many: usize) {
        drop(self.shared.changed.wait_while(self.shared.control(), |control| control.refused < many).unwrap());
    }

    /// Cuts the connection of the message before which so many more have passed. `then_down`: and all others, until
    /// the proxy is told otherwise.
    pub(crate) fn cut(&self, cut: Cut, messages: usize, then_down: bool) {
        let mut control = self.shared.control();
        (control.cut, control.then_down) = (Some((cut, messages)), then_down);
    }

    /// Cuts nothing any more; returns whether that was still to come.
    pub(crate) fn spare(&self) -> bool {
        self.shared.control().cut.take().is_some()
    }
}

impl Control {
    fn end(&mut self) {
        for stream in self.open.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap()
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        let mut control = self.control();
        if control.down {
            control.refused += 1;
            self.changed.notify_all();
            return;
        }
        drop(control);
        // The test may have stopped the server.
        let Ok(server) = TcpStream::connect(self.server) else { return };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        self.control().open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        let (sender, answers) = channel();
        let (asker, receiver) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (requests, reads, writes) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || requests.to_server(client, server));
        std::thread::spawn(move || reads.hear_server(receiver, &sender));
        std::thread::spawn(move || writes.to_client(asker, &answers));
    }

    /// What is done at a message, if anything.
    fn passes(&self, to_server: bool) -> Option<Cut> {
        let mut control = self.control();
        let (cut, left) = control.cut.filter(|(cut, _)| cut.is_of(to_server))?;
        if left > 0 {
            control.cut = Some((cut, left - 1));
            return None;
        }
        control.cut = None;
        control.down |= control.then_down;
        if control.then_down && cut != Cut::LateRequest {
            control.end();
        }
        Some(cut)
    }

    fn to_server(&self, mut client: TcpStream, mut server: TcpStream) {
        let (mut buffer, mut begun) = (Vec::new(), false);
        'connection: while read(&mut client, &mut buffer) {
            let mut end = 0;
            while let Some(length) = length(self.family, &buffer[end..], &mut begun) {
                match self.passes(true) {
                    None => end += length,
                    Some(Cut::LateRequest) => {
                        let _ = client.shutdown(Shutdown::Both);
                        std::thread::sleep(LATE);
                        // To the end: nothing that was sent is lost, it only comes late.
                        let _ = server.write_all(&buffer).and_then(|()| server.shutdown(Shutdown::Write));
                        return;
                    }
                    Some(_) => {
                        let _ = server.write_all(&buffer[..end]);
                        break 'connection;
                    }
                }
            }
            if server.write_all(&buffer[..end]).is_err() {
                break;
            }
            buffer.drain(..end);
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }

    fn hear_server(&self, mut server: TcpStream, answers: &Sender<(Instant, Vec<u8>)>) {
        let mut buffer = Vec::new();
        while read(&mut server, &mut buffer) {
            let at = Instant::now() + self.control().delay;
            // Whoever took them is gone: the server is heard to its end all the same.
            let _ = answers.send((at, std::mem::take(&mut buffer)));
        }
    }

    fn to_client(&self, mut client: TcpStream, answers: &Receiver<(Instant, Vec<u8>)>) {
        // Only what the client says begins with something else.
        let (mut buffer, mut begun) = (Vec::new(), true);
        'connection: for (at, mut answer) in answers {
            buffer.append(&mut answer);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            drop(self.changed.wait_while(self.control(), |control| control.stalled).unwrap());
            let mut end = 0;
            while let Some(length) = length(self.family, &buffer[end..], &mut begun) {
                let cut = self.passes(false);
                if cut.is_none() {
                    end += length;
                    continue;
                }
                if cut == Some(Cut::HeldAnswer) {
                    std::thread::sleep(LATE);
                }
                let _ = client.write_all(&buffer[..end]);
                break 'connection;
            }
            if client.write_all(&buffer[..end]).is_err() {
                break;
            }
            buffer.drain(..end);
        }
        // The other thread sees that and ends the server's side.
        let _ = client.shutdown(Shutdown::Both);
    }
}

/// Reads more; false at the end.
fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let begin = buffer.len();
    buffer.resize(begin + (64 << 10), 0);
    let read = stream.read(&mut buffer[begin..]).unwrap_or(0);
    buffer.truncate(begin + read);
    read > 0
}

/// How long the first message is, if all of it is there.
fn length(family: Family, bytes: &[u8], begun: &mut bool) -> Option<usize> {
    let length = match family {
        Family::MySql => {
            let [a, b, c, ..] = *bytes else { return None };
            4 + usize::from(a) + (usize::from(b) << 8) + (usize::from(c) << 16)
        }
        // What a client begins with has no letter before its length.
        Family::Postgres => {
            let letter = usize::from(*begun);
            let length = bytes.get(letter..letter + 4)?;
            letter + u32::from_be_bytes(length.try_into().unwrap()) as usize
        }
    };
    if bytes.len() < length {
        return None;
    }
    *begun = true;
    Some(length)
}
