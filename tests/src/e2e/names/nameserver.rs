//! A name server for the names of a test.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_shell::error::{Attempt as _, Result};

/// A name without dots for which there is no answer at all.
pub(super) const SILENT: &str = "silent";

/// Types of records (RFC 1035 and 3596): an IPv4 address, an IPv6 address.
const A: u16 = 1;
const AAAA: u16 = 28;

/// The flags of an authoritative answer, to a client that wished for recursion (RFC 1035, 4.1.1).
const ANSWER: u16 = 0x8580;
const NO_SUCH_NAME: u16 = 3;

/// What is before the question.
const HEADER: usize = 12;

type Names = Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>;

/// It answers until the program ends.
pub(super) struct Nameserver {
    address: Ipv4Addr,
    names: Names,
}

impl Nameserver {
    /// Listens where resolvers ask: at port 53 of an address of loopback that no other run has.
    pub(super) fn start() -> Result<Self> {
        let [.., high, low] = std::process::id().to_be_bytes();
        let mut last = None;
        for third in 0..=u8::MAX {
            let address = Ipv4Addr::new(127, 78 + (third % 8), high.wrapping_add(third), low.max(1));
            match UdpSocket::bind((address, 53)) {
                Ok(socket) => {
                    let names = Names::default();
                    let known = Arc::clone(&names);
                    std::thread::spawn(move || serve(&socket, &known));
                    return Ok(Self { address, names });
                }
                Err(error) => last = Some(error),
            }
        }
        let none = last.unwrap_or_else(|| std::io::Error::other("none was tried"));
        Err(none).attempting(|| "no address of loopback for a name server")
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// From now on the name has these addresses.
    pub(super) fn set(&self, name: &str, addresses: Vec<IpAddr>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), addresses);
    }
}

fn serve(socket: &UdpSocket, names: &Names) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        let names = names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = question.get(..length).and_then(|question| answer(question, &names)) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The answer to a question; `None` if there is to be none.
fn answer(question: &[u8], names: &BTreeMap<String, Vec<IpAddr>>) -> Option<Vec<u8>> {
    let (name, end) = name(question)?;
    if name.split('.').next() == Some(SILENT) {
        return None;
    }
    let of = u16::from_be_bytes([*question.get(end)?, *question.get(end + 1)?]);
    let addresses = names.get(&name);
    let records: Vec<Vec<u8>> = addresses.into_iter().flatten().filter_map(|address| record(of, *address)).collect();
    let flags = if addresses.is_some() { ANSWER } else { ANSWER | NO_SUCH_NAME };
    let mut answer = question.get(..2)?.to_vec();
    for number in [flags, 1, u16::try_from(records.len()).ok()?, 0, 0] {
        answer.extend(number.to_be_bytes());
    }
    answer.extend(question.get(HEADER..end + 4)?);
    answer.extend(records.into_iter().flatten());
    Some(answer)
}

/// The name that is asked for, and where it ends.
fn name(question: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (HEADER, Vec::new());
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
        at += length;
    }
}

/// The address as a record of that type, which nobody keeps; `None` if it is of the other type.
fn record(of: u16, address: IpAddr) -> Option<Vec<u8>> {
    let bytes = match (of, address) {
        (A, IpAddr::V4(address)) => address.octets().to_vec(),
        (AAAA, IpAddr::V6(address)) => address.octets().to_vec(),
        _ => return None,
    };
    // The name is that of the question; class 1 is the internet's.
    let mut record = vec![0xc0, u8::try_from(HEADER).ok()?];
    record.extend(of.to_be_bytes());
    record.extend([0, 1, 0, 0, 0, 0]);
    record.extend(u16::try_from(bytes.len()).ok()?.to_be_bytes());
    record.extend(bytes);
    Some(record)
}
