//! The part of the changelog that is about a release.

use sluice_shell::error::{Error, Result};

/// The newest part of a changelog in the form of Keep a Changelog, under the release's version.
pub(super) fn newest(changelog: &str, version: &str) -> Result<String> {
    let mut parts = changelog.split("\n## ").skip(1);
    let part = parts.next().ok_or_else(|| Error::input("CHANGELOG.md has no part that begins with `## `"))?;
    let body = part.split_once('\n').map_or("", |(_, body)| body);
    Ok(format!("# Sluice {version}\n\n{}\n", body.trim()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_newest_part_alone() {
        let text = "# Changelog\n\nThe form.\n\n## [Unreleased]\n\n### Added\n- a\n\n## [1.0]\n### Added\n- b\n";
        assert_eq!(super::newest(text, "v2").unwrap(), "# Sluice v2\n\n### Added\n- a\n");
        super::newest("# Changelog\n", "v2").unwrap_err();
    }
}
