//! Packages of Debian that end up in images and programs.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{Component, purl};
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::paths::Paths;
use sluice_shell::platform::Platform;
use sluice_shell::process::Run;

/// The licences of packages whose programs are in images, with what is linked into these. Debian's files of copyrights
/// do not name them as SPDX does.
const LICENCES: [(&str, &str); 1] = [("busybox-static", "GPL-2.0-only AND LGPL-2.1-or-later")];

/// A package whose files are in images: installed on this machine, or unpacked for another platform.
pub(super) fn package(paths: &Paths, platform: Platform, name: &str) -> Result<Component> {
    let licence = LICENCES.iter().find(|(package, _)| *package == name).map(|(_, licence)| *licence);
    let (version, root) = match platform.is_host() {
        true => (installed(paths.root(), name)?, PathBuf::from("/")),
        false => (unpacked(&paths.debian(platform), name)?, paths.debian(platform)),
    };
    component(&root, name, name, version, licence)
}

/// The C library that a static program holds.
pub(super) fn libc(root: &Path, platform: Platform) -> Result<Component> {
    let package = match platform.is_host() {
        true => "libc6-dev".to_owned(),
        false => format!("libc6-dev-{}-cross", platform.arch()),
    };
    let version = installed(root, &package)?;
    component(Path::new("/"), &package, "glibc", version, Some("LGPL-2.1-or-later"))
}

fn installed(root: &Path, package: &str) -> Result<String> {
    Run::new("dpkg-query", root)
        .args(["--show", "--showformat", "${Version}", package])
        .read()
        .attempting(|| format!("cannot tell the version of Debian's package {package}"))
}

/// The version of a package whose files `doctor` put into `folder`.
fn unpacked(folder: &Path, package: &str) -> Result<String> {
    let control = folder.join(format!("{package}.control"));
    let text = fs::read_to_string(&control)?;
    let version = text.lines().find_map(|line| line.strip_prefix("Version: ")).map(str::to_owned);
    version.ok_or_else(|| Error::input(format!("{} names no version", control.display())))
}

/// A package whose text of copyrights is below `root`.
fn component(root: &Path, package: &str, name: &str, version: String, licence: Option<&str>) -> Result<Component> {
    let text = fs::read(root.join(format!("usr/share/doc/{package}/copyright")))?;
    Ok(Component {
        purl: purl("deb", &format!("debian/{package}"), &version),
        name: name.to_owned(),
        licence: licence.map(str::to_owned),
        file: format!("debian/{package}@{}.txt", version.replace(':', "_")),
        checksum: None,
        version,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was fetched for another platform may be newer than what is installed.
    #[test]
    fn the_version_of_a_package_is_that_of_its_platform() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path(), dir.path().join("cache"));
        let other = Platform::ALL.into_iter().find(|platform| !platform.is_host()).unwrap();
        let folder = paths.debian(other);
        fs::create_dir_all(folder.join("usr/share/doc/busybox-static")).unwrap();
        fs::write(folder.join("usr/share/doc/busybox-static/copyright"), "theirs").unwrap();
        fs::write(folder.join("busybox-static.control"), "Package: busybox-static\nVersion: 9:1+b1\n").unwrap();
        let found = package(&paths, other, "busybox-static").unwrap();
        assert_eq!((found.version.as_str(), found.text.as_slice()), ("9:1+b1", b"theirs".as_slice()));
        assert_eq!(found.purl, "pkg:deb/debian/busybox-static@9%3A1%2Bb1");

        let host = package(&paths, Platform::host().unwrap(), "busybox-static").unwrap();
        assert_ne!(host.version, found.version);
        assert_eq!(host.licence, found.licence);
        assert!(host.licence.is_some());
    }
}
