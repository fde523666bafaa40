//! The Go compiler, the same for every user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Run;

/// Where modules and caches are is the user's business, whether set in the shell or with `go env -w`. Nothing else is.
const KEPT: [&str; 9] =
    ["GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE", "GOAUTH", "GOMODCACHE", "GOCACHE"];

/// Variables of the shell that would change what is compiled.
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
    "GOCOVERDIR",
    "CGO_CFLAGS",
    "CGO_CPPFLAGS",
    "CGO_CXXFLAGS",
    "CGO_LDFLAGS",
];

/// The go command in `dir`, free of workspaces and of the user's flags. `-mod=readonly`: a build never edits the
/// source.
pub(super) fn go(dir: &Path, cgo: bool) -> Result<Run> {
    let user: BTreeMap<String, String> =
        serde_json::from_str(&Run::new("go", dir).args(["env", "-json"]).args(KEPT).read()?)?;
    let run = HIDDEN.iter().fold(Run::new("go", dir), |run, name| run.env_remove(name));
    let run = user.iter().fold(run, |run, (name, value)| run.env(name, value));
    Ok(run
        .env("GOENV", "off")
        .env("GOWORK", "off")
        .env("GO111MODULE", "on")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false -trimpath")
        .env("CGO_ENABLED", if cgo { "1" } else { "0" }))
}

/// A folder for the compiler's temporary files, empty: what a killed run left there is removed. On the disk of the
/// programs, so that a finished one is moved to its place, and never copied. The caller holds a lock that is named like
/// it.
pub(super) fn scratch(shell: &Context, name: &str) -> Result<PathBuf> {
    let folder = shell.paths.cache().join("tmp").join(name);
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?;
    }
    fs_err::create_dir_all(&folder)?;
    Ok(folder)
}

/// The compiler's version and the machine's platform: `go version go1.26.10 linux/amd64`.
pub(super) fn version(dir: &Path) -> Result<String> {
    go(dir, false)?.arg("version").read()
}

/// Of that the version alone: `go1.26.10`.
pub(super) fn release(version: &str) -> &str {
    version.split_whitespace().nth(2).unwrap_or(version)
}
