//! The verbs of `cargo xtask`, as far as one knows them before anything is built.

/// A verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// As it is typed.
    pub name: &'static str,
    /// Its line in `cargo xtask --help`.
    pub about: &'static str,
    /// Who does it.
    pub program: Program,
}

/// A program that does verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `cargo xtask` itself.
    Xtask,
    /// The toolkit.
    Toolkit,
    /// The toolkit with the end-to-end cases.
    Tests,
}

impl Program {
    /// The package, which is also the name of the file.
    pub fn package(self) -> &'static str {
        match self {
            Self::Xtask => "xtask",
            Self::Toolkit => "sluice-toolkit",
            Self::Tests => "sluice-tests",
        }
    }
}

const fn verb(name: &'static str, program: Program, about: &'static str) -> Verb {
    Verb { name, about, program }
}

/// All of them, in the order of the help. A test of `sluice-tests` compares them with the programs.
pub const ALL: [Verb; 15] = [
    verb(
        "bench",
        Program::Toolkit,
        "Measure etcd, kine and sluice-shim against each other, alone and below a control plane",
    ),
    verb(
        "up",
        Program::Toolkit,
        "Starts a Kubernetes control plane on this machine and prints the line that points kubectl at it",
    ),
    verb("down", Program::Toolkit, "Stops the control plane that `up` started, and removes its data"),
    verb("status", Program::Toolkit, "Shows the processes of the control plane and the store's revision"),
    verb(
        "test",
        Program::Tests,
        "Runs the tests: all of them, or one part. The last line is `N passed, N failed`; exit code 1 if one failed",
    ),
    verb("build", Program::Toolkit, "Build programs from the verified, patched tree into .sluice/bin/"),
    verb("build-images", Program::Toolkit, "Build the container images, without a container daemon"),
    verb(
        "clean",
        Program::Toolkit,
        "Removes source trees that no pins name any more; what they hold is composed again when it is needed",
    ),
    verb(
        "cluster",
        Program::Toolkit,
        "A cluster with a node that runs Pods: Kubernetes as kubeadm sets it up, in namespaces of its own (as root)",
    ),
    verb(
        "codegen",
        Program::Toolkit,
        "Writes the constants of patches/contract.toml as Go (in a patch) and as Rust (in the shim), and the manifests of \
         virtual clusters",
    ),
    verb(
        "doctor",
        Program::Xtask,
        "Say which tools and Debian packages are missing, and the command that installs each",
    ),
    verb("patch", Program::Toolkit, "Kubernetes patches: list, compare, apply, verify, make, refresh, rebase, export"),
    verb(
        "release",
        Program::Toolkit,
        "Builds a release from the series that was verified in full: programs, images, manifests, patches, digests",
    ),
    verb("source", Program::Toolkit, "Compose the upstream source tree; prints its folder"),
    verb(
        "verify-release",
        Program::Toolkit,
        "Checks a release: every digest, and with `--key` the signatures; names what was changed",
    ),
];
