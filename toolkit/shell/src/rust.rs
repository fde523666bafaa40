//! Which rustc compiles for a platform.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::platform::Platform;
use crate::process::Run;

/// Debian's rustc, of the package rustc-web. For it Debian has the standard library of other platforms.
const DEBIAN: &str = "usr/bin/rustc";

/// `rustc` if it has the standard library for `platform` (as after `rustup target add`), else Debian's if that has it.
/// `dir` is where `rustc` is asked: rustup has a version for each folder. `root` is `/` but in tests.
///
/// # Errors
/// When `rustc` does not run.
pub fn compiler(rustc: &Path, dir: &Path, root: &Path, platform: Platform) -> Result<Option<PathBuf>> {
    let library = |sysroot: &Path| sysroot.join("lib/rustlib").join(platform.triple()).join("lib").is_dir();
    if library(Path::new(&Run::new(rustc, dir).args(["--print", "sysroot"]).read()?)) {
        return Ok(Some(rustc.to_owned()));
    }
    let debian = root.join(DEBIAN);
    Ok((debian.is_file() && library(&root.join("usr"))).then_some(debian))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use fs_err as fs;

    use super::*;

    #[test]
    fn the_rustc_with_the_platforms_library_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let (own, debian) = (at("bin/rustc"), at(DEBIAN));
        for (file, sysroot) in [(&own, at("own")), (&debian, at("usr"))] {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("#!/bin/sh\necho {}\n", sysroot.display())).unwrap();
            fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let found = || compiler(&own, root.path(), root.path(), Platform::Arm64).unwrap();
        let library = "lib/rustlib/aarch64-unknown-linux-gnu/lib";
        assert_eq!(found(), None);
        fs::create_dir_all(at("usr").join(library)).unwrap();
        assert_eq!(found(), Some(debian));
        fs::create_dir_all(at("own").join(library)).unwrap();
        assert_eq!(found(), Some(own.clone()), "rustup's is the one that the workspace names");
    }
}
