//! Connection strings and flags.

use clap::Parser as _;
use sluice_shim::config::{Config, ListenUrl};
use sluice_shim::endpoint::Endpoint;

use super::bounds::Bounds;
use super::driver::{Target, alone, kind};

/// clap compares a flag that it does not know with all that it knows.
const BOUNDS: Bounds = Bounds { memory: 64 << 20, memory_a_byte: 256 };

const WORDS: [&[u8]; 16] = [
    b"://",
    b"sqlite://",
    b"postgres://",
    b"mysql://",
    b"http://",
    b"unix://",
    b"@",
    b":",
    b"/",
    b"?",
    b"%",
    b"[::1]",
    b"\n",
    b"--",
    b"=",
    b"18446744073709551616",
];

/// Whether an error shows what may be a password: anything behind the scheme.
fn leaks(url: &str, shown: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, rest)| {
        let told = rest.len() >= 12 && !scheme.contains(rest) && shown.contains(rest);
        told && !"sqlite:///var/lib/sluice/state.db".contains(rest)
    })
}

/// What is left of an endpoint when it is shown.
fn without_password(mut endpoint: Endpoint) -> Endpoint {
    if let Endpoint::Network(address) = &mut endpoint {
        address.passwords.url = None;
    }
    endpoint
}

fn run(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let endpoint = BOUNDS.hold(text.len(), || text.parse::<Endpoint>());
    match &endpoint {
        Ok(endpoint) => assert_eq!(endpoint.to_string().parse(), Ok(without_password(endpoint.clone()))),
        Err(error) => assert!(!leaks(&text, &format!("{error:?}")), "{error:?} shows what {text:?} holds"),
    }
    let url = BOUNDS.hold(text.len(), || text.parse::<ListenUrl>());
    if let Ok(url) = &url {
        assert_eq!(url.to_string().parse().as_ref(), Ok(url));
    }
    let flags = || Config::try_parse_from(std::iter::once("sluice-shim").chain(text.split('\n').take(40)));
    // clap keeps what it knows about the flags: the first time costs more.
    let config = if text.len() > 64 << 10 { flags() } else { BOUNDS.hold(text.len(), flags) };
    let checked = config.map(|config| config.check().map_err(|error| error.hint));
    kind((endpoint.is_ok(), endpoint.err().map(|error| error.hint), url, checked.map_err(|error| error.kind())))
}

#[test]
fn configuration() {
    let alone = alone();
    let seeds = [
        "sqlite:///var/lib/sluice/state.db",
        "postgres://me:secret@db.example.com:5432/sluice?sslmode=require",
        "mysql://me%40corp:p%2Fw@a,[::1]:3306,b.example.com:1/x?sslrootcert=/ca.pem&sslcert=a&sslkey=b&connect_timeout=5",
        "postgresql://db/x?application_name=a&prepare=off&sslmode=prefer",
        "http://[::1]:2379/",
        "unix:///run/sluice.sock",
        "--endpoint\nsqlite:///a.db\n--listen-client-urls\nhttp://127.0.0.1:0,unix:///run/s\n--watch-progress-notify-interval=1m30s",
        "--cert-file=a\n--key-file=b\n--trusted-ca-file=c\n--client-cert-auth\n--quota-backend-bytes=5\n--log-level=debug\n--log-format=json",
    ];
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    Target { name: "configuration", seeds, words: &WORDS, run: &run }.fuzz(&alone);
}
