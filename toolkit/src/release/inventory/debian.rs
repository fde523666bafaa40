//! Packages of Debian that end up in images and programs.

use std::path::Path;

use fs_err as fs;

use super::{Component, purl};
use sluice_shell::error::{Attempt as _, Result};
use sluice_shell::platform::Platform;
use sluice_shell::process::Run;

/// An installed package.
pub(super) fn package(root: &Path, name: &str) -> Result<Component> {
    component(root, name, name, None)
}

/// The C library that a static program holds.
pub(super) fn libc(root: &Path, platform: Platform) -> Result<Component> {
    let package = match platform.is_host() {
        true => "libc6-dev".to_owned(),
        false => format!("libc6-dev-{}-cross", platform.arch()),
    };
    component(root, &package, "glibc", Some("LGPL-2.1-or-later"))
}

fn component(root: &Path, package: &str, name: &str, licence: Option<&str>) -> Result<Component> {
    let version = Run::new("dpkg-query", root)
        .args(["--show", "--showformat", "${Version}", package])
        .read()
        .attempting(|| format!("cannot tell the version of Debian's package {package}"))?;
    let text = fs::read(format!("/usr/share/doc/{package}/copyright"))?;
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
