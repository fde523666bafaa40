//! What the toolkit needs. Add a line here when a verb starts a program or reads a file of the system.

use clap::ValueEnum;
use serde::Serialize;
use std::fmt;

/// What something is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Compiling Kubernetes, the shim and the toolkit itself.
    Build,
    /// Building images.
    Images,
    /// Running the tests.
    Test,
    /// Database servers: `up --database`, and the tests.
    Databases,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 4] = [Self::Build, Self::Images, Self::Test, Self::Databases];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Images => "images",
            Self::Test => "test",
            Self::Databases => "databases",
        })
    }
}

/// One thing that must be on the machine.
pub(super) struct Need {
    pub(super) name: &'static str,
    pub(super) purpose: Purpose,
    pub(super) probe: Probe,
    pub(super) remedy: Remedy,
}

/// How to see whether it is there.
pub(super) enum Probe {
    /// A program in PATH.
    Program(&'static str),
    /// A program in PATH of at least a version, which stands in the output of the command.
    Version { program: &'static str, args: &'static [&'static str], least: Vec<u32>, prefix: &'static str },
    /// A file at a fixed place.
    File(&'static str),
}

/// How to get it.
pub(super) enum Remedy {
    /// A Debian package.
    Package(&'static str),
    /// A command of its own.
    Command(String),
}

impl Remedy {
    /// The command to type.
    pub(super) fn command(&self) -> String {
        match self {
            Self::Package(package) => format!("apt-get install --no-install-recommends -y {package}"),
            Self::Command(command) => command.clone(),
        }
    }
}

/// All needs. `go` is the version that upstream releases with; any patch release of the same Go minor, or a newer one,
/// compiles it.
pub(super) fn all(go: &str) -> Vec<Need> {
    use Purpose::{Build, Databases, Images, Test};
    let least_go: Vec<u32> = go.split('.').take(2).filter_map(|part| part.parse().ok()).collect();
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let get_go = format!(
        "curl -fsSL https://go.dev/dl/go{go}.linux-{machine}.tar.gz | tar -C /usr/local -xz && ln -s /usr/local/go/bin/go /usr/local/bin/"
    );
    let get_rust = "curl -fsSL https://sh.rustup.rs | sh -s -- -y".to_owned();
    let package = |name, purpose, probe, package| Need { name, purpose, probe, remedy: Remedy::Package(package) };
    vec![
        Need {
            name: "go",
            purpose: Build,
            probe: Probe::Version { program: "go", args: &["version"], least: least_go, prefix: "go" },
            remedy: Remedy::Command(get_go),
        },
        Need {
            name: "rustc",
            purpose: Build,
            probe: Probe::Version { program: "rustc", args: &["--version"], least: vec![1, 95], prefix: "" },
            remedy: Remedy::Command(get_rust),
        },
        package("gcc", Build, Probe::Program("gcc"), "gcc"),
        // libgit2 and SQLite are compiled from the sources in their crates.
        package("libc headers", Build, Probe::File("/usr/include/stdlib.h"), "libc6-dev"),
        package("CA certificates", Images, Probe::File("/etc/ssl/certs/ca-certificates.crt"), "ca-certificates"),
        package("static busybox", Images, Probe::File("/usr/share/doc/busybox-static"), "busybox-static"),
        // A build needs none but for `--source git:<url>`, which says so.
        package("git", Test, Probe::Program("git"), "git"),
        // The shim's leases are tested with a calendar that is set.
        package("faketime", Test, Probe::Program("faketime"), "faketime"),
        package("skopeo", Test, Probe::Program("skopeo"), "skopeo"),
        package("umoci", Test, Probe::Program("umoci"), "umoci"),
        package("PostgreSQL", Databases, Probe::File("/usr/share/doc/postgresql-15"), "postgresql-15"),
        package("MariaDB", Databases, Probe::File("/usr/sbin/mariadbd"), "mariadb-server"),
    ]
}
