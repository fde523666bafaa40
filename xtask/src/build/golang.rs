//! The Go compiler, the same for every user.

use std::path::Path;

use crate::error::Result;
use crate::process::Run;

/// Variables of the user's shell that would change what is compiled. `GOPROXY`, `GOMODCACHE`, `GOCACHE` are the user's business.
const HIDDEN: [&str; 14] = [
    "GOOS",
    "GOARCH",
    "GOAMD64",
    "GOARM64",
    "GOEXPERIMENT",
    "GODEBUG",
    "GOFIPS140",
    "GOROOT",
    "GOBIN",
    "CGO_CFLAGS",
    "CGO_CPPFLAGS",
    "CGO_CXXFLAGS",
    "CGO_LDFLAGS",
    "GOCOVERDIR",
];

/// The go command in `dir`, free of workspaces and of the user's flags. `-mod=readonly`: a build never edits the source.
pub(super) fn go(dir: &Path, cgo: bool) -> Run {
    let run = Run::new("go", dir)
        .env("GOWORK", "off")
        .env("GO111MODULE", "on")
        .env("GOENV", "off")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false -trimpath")
        .env("CGO_ENABLED", if cgo { "1" } else { "0" });
    HIDDEN.iter().fold(run, |run, name| run.env_remove(name))
}

/// Version and platform of the compiler: `go version go1.26.10 linux/amd64`.
pub(super) fn version(dir: &Path) -> Result<String> {
    go(dir, false).arg("version").read()
}
