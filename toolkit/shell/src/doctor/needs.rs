//! What the toolkit needs. Add a line here when a verb starts a program or reads a file of the system.

use clap::ValueEnum;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::platform::Platform;

/// What something is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Compiling Kubernetes, the shim and the toolkit itself.
    Build,
    /// Building images, and the programs in them.
    Images,
    /// Running the tests.
    Test,
    /// Database servers: `up --database`, and the tests.
    Databases,
    /// A node that runs Pods: `cluster`, and `test cluster`.
    Cluster,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 5] = [Self::Build, Self::Images, Self::Test, Self::Databases, Self::Cluster];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Images => "images",
            Self::Test => "test",
            Self::Databases => "databases",
            Self::Cluster => "cluster",
        })
    }
}

/// One thing that must be on the machine.
pub(super) struct Need {
    pub(super) name: String,
    pub(super) purpose: Purpose,
    pub(super) probe: Probe,
    pub(super) remedy: Remedy,
}

/// How to see whether it is there.
pub(super) enum Probe {
    /// A program in PATH.
    Program(String),
    /// A program in PATH of at least a version, which stands in the output of the command.
    Version { program: &'static str, args: &'static [&'static str], least: Vec<u32>, prefix: &'static str },
    /// A file at a fixed place.
    File(PathBuf),
    /// A rustc that compiles for a platform.
    Rust(Platform),
}

/// How to get it.
pub(super) enum Remedy {
    /// Debian packages, with spaces between.
    Packages(String),
    /// A Debian package of another platform that can't be installed beside this machine's: its files go to a folder.
    Files { package: String, folder: PathBuf },
    /// A command of its own.
    Command(String),
}

/// The oldest Rust that compiles the shim.
pub(super) const LEAST_RUST: [u32; 2] = [1, 95];

/// All needs of this machine. `go` is the version that upstream releases with; any patch release of the same Go minor,
/// or a newer one, compiles it.
pub(super) fn all(go: &str) -> Vec<Need> {
    use Purpose::{Build, Cluster, Databases, Images, Test};
    let least_go: Vec<u32> = go.split('.').take(2).filter_map(|part| part.parse().ok()).collect();
    let machine = Platform::host().map_or(std::env::consts::ARCH, Platform::arch);
    let get_go = format!(
        "curl -fsSL https://go.dev/dl/go{go}.linux-{machine}.tar.gz | tar -C /usr/local -xz && ln -s /usr/local/go/bin/go /usr/local/bin/"
    );
    let get_rust = "curl -fsSL https://sh.rustup.rs | sh -s -- -y".to_owned();
    let package = |name: &str, purpose, probe, package: &str| Need {
        name: name.to_owned(),
        purpose,
        probe,
        remedy: Remedy::Packages(package.to_owned()),
    };
    let program = |name: &str, purpose, at: &str| package(name, purpose, Probe::Program(name.to_owned()), at);
    let file = |path: &str| Probe::File(path.into());
    vec![
        Need {
            name: "go".to_owned(),
            purpose: Build,
            probe: Probe::Version { program: "go", args: &["version"], least: least_go, prefix: "go" },
            remedy: Remedy::Command(get_go),
        },
        Need {
            name: "rustc".to_owned(),
            purpose: Build,
            probe: Probe::Version { program: "rustc", args: &["--version"], least: LEAST_RUST.to_vec(), prefix: "" },
            remedy: Remedy::Command(get_rust),
        },
        program("gcc", Build, "gcc"),
        // libgit2 and SQLite are compiled from the sources in their crates.
        package("libc headers", Build, file("/usr/include/stdlib.h"), "libc6-dev"),
        package("CA certificates", Images, file("/etc/ssl/certs/ca-certificates.crt"), "ca-certificates"),
        package("static busybox", Images, file("/usr/share/doc/busybox-static"), "busybox-static"),
        // A build needs none but for `--source git:<url>`, which says so.
        program("git", Test, "git"),
        // The shim's leases are tested with a calendar that is set.
        program("faketime", Test, "faketime"),
        program("skopeo", Test, "skopeo"),
        // Images are pushed to it and fetched from it, on the loopback address.
        program("docker-registry", Test, "docker-registry"),
        program("umoci", Test, "umoci"),
        // Releases are checked with the tools that others have, and their installer is linted.
        program("minisign", Test, "minisign"),
        program("openssl", Test, "openssl"),
        program("shellcheck", Test, "shellcheck"),
        program("zstd", Test, "zstd"),
        // GitLab's pipeline in ci/ is compared with its schema, which a package of Python brings along.
        program("pip3", Test, "python3-pip"),
        package("PostgreSQL", Databases, file("/usr/share/doc/postgresql-15"), "postgresql-15"),
        package("MariaDB", Databases, file("/usr/sbin/mariadbd"), "mariadb-server"),
        program("containerd", Cluster, "containerd"),
        program("runc", Cluster, "runc"),
        package("CNI plugins", Cluster, file("/usr/lib/cni/bridge"), "containernetworking-plugins"),
        // kube-proxy's image has it as well.
        package("iptables", Cluster, file("/usr/sbin/iptables"), "iptables"),
        program("ip", Cluster, "iproute2"),
        program("nsenter", Cluster, "util-linux"),
        program("socat", Cluster, "socat"),
    ]
}

/// What there must be besides to build for `platform`, which is not this machine's, and to try that. `files` is the
/// folder with files of its packages.
pub(super) fn cross(platform: Platform, files: &Path) -> Vec<Need> {
    use Purpose::{Build, Images, Test};
    let (arch, cpu) = (platform.arch(), platform.cpu());
    let need =
        |name: &str, purpose, probe, remedy| Need { name: format!("{name} for {platform}"), purpose, probe, remedy };
    let gcc = platform.gnu("gcc");
    let headers = format!("/usr/{cpu}-linux-gnu/include/stdlib.h");
    // Names of Debian packages have no underscore.
    let packaged = gcc.replace('_', "-");
    let packaged = packaged.trim_end_matches("-gcc");
    vec![
        need("Rust", Build, Probe::Rust(platform), Remedy::Packages(format!("rustc-web libstd-rust-web-dev:{arch}"))),
        need("gcc", Build, Probe::Program(gcc), Remedy::Packages(format!("gcc-{packaged}"))),
        need("libc headers", Build, Probe::File(headers.into()), Remedy::Packages(format!("libc6-dev-{arch}-cross"))),
        need(
            "static busybox",
            Images,
            // Written last: the folder has all of the package then.
            Probe::File(files.join("busybox-static.control")),
            Remedy::Files { package: format!("busybox-static:{arch}"), folder: files.to_owned() },
        ),
        need(
            "qemu",
            Test,
            Probe::Program(format!("qemu-{cpu}-static")),
            Remedy::Packages("qemu-user-static".to_owned()),
        ),
    ]
}
