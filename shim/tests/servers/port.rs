//! Ports for servers that are told where to listen.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Below what Linux hands out to outgoing connections (32768), and below what the toolkit takes: no client gets a port
/// before the server that it was found for.
const FIRST: u16 = 4_000;
const COUNT: u16 = 12_000;

/// A port of 127.0.0.1 at which nobody listens; any, so that two who ask at the same time get different ones.
pub(crate) fn free() -> u16 {
    loop {
        let any = RandomState::new().hash_one(()) % u64::from(COUNT);
        let port = FIRST + u16::try_from(any).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
