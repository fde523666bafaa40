//! Passes connections on, from an address of its own.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_shell::error::Result;

#[derive(Default)]
struct State {
    stopped: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// It passes on until it is stopped, or the program ends.
pub(super) struct Relay(Arc<State>);

impl Relay {
    /// Listens there, and passes on to a port of this machine.
    pub(super) fn start(address: Ipv4Addr, port: u16, behind: u16) -> Result<Self> {
        let listener = TcpListener::bind((address, port))?;
        let state = Arc::new(State::default());
        let passing = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(io::Result::ok) {
                let _ = passing.pass(client, behind);
            }
        });
        Ok(Self(state))
    }

    /// How many connections there were.
    pub(super) fn connections(&self) -> usize {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends all connections, and each that comes.
    pub(super) fn stop(self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        for connection in &*self.0.open.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn pass(&self, client: TcpStream, behind: u16) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopped.load(Ordering::SeqCst) {
            return Ok(());
        }
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, behind))?;
        open.push(client.try_clone()?);
        for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            std::thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        Ok(())
    }
}
