//! Why a program failed, from what it printed: causes that lie in the machine or the network, and are no fault of the
//! program.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Texts of the programs that the toolkit runs (go, cargo, git, apt-get, the C library), and what to do. The first that
/// fits counts.
const CAUSES: [(&[&str], &str); 7] = [
    (
        &["no space left on device", "disk quota exceeded"],
        "the disk is full: make room (`df -h` shows where) and run the command again, which goes on where this one was",
    ),
    (
        &["checksum mismatch", "security error"],
        "the module proxy serves something else than was reviewed, or a copy was changed on the way: do not accept it. Try without the proxy \
         (GOPROXY=direct) or, for a damaged copy on this machine, after `go clean -modcache`",
    ),
    (
        &["requires go >=", "toolchain not available", "is not in std", "package slices is not in goroot"],
        "the Go compiler is too old: `cargo xtask doctor` says which one is needed and how to get it",
    ),
    (
        &["requires rustc", "is not supported by the following package"],
        "the Rust compiler is too old: `cargo xtask doctor` says which one is needed and how to get it",
    ),
    (
        &["linker `cc` not found", "failed to find tool", "c compiler \"gcc\" not found", "stdlib.h: no such file"],
        "a C compiler is missing: `cargo xtask doctor` says how to install it",
    ),
    (
        &["signal: killed", "cannot allocate memory", "out of memory", "signal: 9"],
        "it was killed, by the kernel if the machine ran out of memory: end other programs, and run the command again, which goes on where this \
         one was",
    ),
    (
        &[
            "dial tcp",
            "no such host",
            "could not resolve",
            "couldn't resolve",
            "temporary failure resolving",
            "temporary failure in name resolution",
            "connection refused",
            "connection reset",
            "connection timed out",
            "i/o timeout",
            "tls handshake timeout",
            "proxyconnect",
            "x509: certificate signed by unknown authority",
            "failed to download from",
            "spurious network error",
            "network is unreachable",
            "407 proxy authentication",
            "502 bad gateway",
            "503 service unavailable",
            "504 gateway",
        ],
        NETWORK,
    ),
];

const NETWORK: &str = "the network or a proxy is in the way: check HTTPS_PROXY, GOPROXY and the connection, and run the command again. What was \
                       downloaded once needs no network";

/// What to do about a failure that ended with these lines, if its cause is a known one.
pub fn advice(output: &str) -> Option<&'static str> {
    let output = output.to_lowercase();
    let fits = |(texts, _): &&(&[&str], &'static str)| texts.iter().any(|text| output.contains(text));
    CAUSES.iter().find(fits).map(|(_, advice)| *advice)
}

/// [`advice`] about a command. Where it downloads nothing, such as a test that was refused a connection on this
/// machine, the network is not to blame.
pub(super) fn advice_about(program: &OsStr, verb: Option<&OsString>, output: &str) -> Option<&'static str> {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let downloads = ["go", "cargo", "git", "apt-get"].contains(&&*name) && verb.is_none_or(|verb| verb != "test");
    advice(output).filter(|advice| downloads || *advice != NETWORK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_blamed_where_something_is_downloaded() {
        let refused = "dial tcp 127.0.0.1:2379: connect: connection refused";
        for (program, verb, network) in
            [("go", "build", true), ("/usr/bin/cargo", "build", true), ("go", "test", false), ("kubectl", "get", false)]
        {
            let found = advice_about(program.as_ref(), Some(&verb.into()), refused);
            assert_eq!(found.is_some(), network, "{program} {verb}");
        }
        assert!(advice_about("kubectl".as_ref(), None, "no space left on device").is_some());
    }

    #[test]
    fn causes_are_told_by_what_programs_print() {
        let cases = [
            ("compile: writing output: write $WORK/b1/_pkg_.a: no space left on device", Some("disk is full")),
            ("error: failed to write `/x/lib.rmeta`: No space left on device (os error 28)", Some("disk is full")),
            (
                "verifying go.etcd.io/bbolt@v1.5.0: checksum mismatch\n\tdownloaded: h1:a\nSECURITY ERROR",
                Some("do not accept"),
            ),
            ("Get \"https://proxy.golang.org/x\": dial tcp: lookup proxy.golang.org: no such host", Some("network")),
            ("Get \"https://proxy.golang.org/x\": proxyconnect tcp: EOF", Some("HTTPS_PROXY")),
            (
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
                Some("network or a proxy"),
            ),
            ("warning: spurious network error (3 tries remaining): [6] Could not resolve hostname", Some("network")),
            ("go: go.mod requires go >= 1.26.0 (running go 1.24.1; GOTOOLCHAIN=local)", Some("Go compiler is too old")),
            ("error: rustc 1.80.0 is not supported by the following package:", Some("Rust compiler is too old")),
            ("error: linker `cc` not found", Some("C compiler")),
            ("go: error obtaining buildID for go tool compile: signal: killed", Some("memory")),
            ("\nsignal: 9 (SIGKILL)", Some("memory")),
            ("kube.go:1: undefined: x", None),
            ("", None),
        ];
        for (output, expected) in cases {
            let found = advice(output);
            assert_eq!(found.is_some(), expected.is_some(), "{output}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{output}: {found:?}");
        }
    }
}
