//! `SHA256SUMS`: the digest of each file of a release, as `sha256sum --check` reads it.

use std::collections::BTreeMap;
use std::path::Path;

use super::bundle::{Files, is_name};
use crate::images::{Digest, digest_of};
use sluice_shell::error::Result;

/// Its name.
pub(super) const NAME: &str = "SHA256SUMS";

/// Its signature.
pub(super) const SIGNATURE: &str = "SHA256SUMS.minisig";

/// The text for all files below `folder`, but for itself and its signature.
pub(super) fn text(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for name in Files::of(folder)?.all()? {
        if name != NAME && name != SIGNATURE {
            text.push_str(&line(&digest(&folder.join(&name))?, &name));
        }
    }
    Ok(text)
}

/// A line of the text.
pub(super) fn line(digest: &Digest, name: &str) -> String {
    format!("{}  {name}\n", digest.hex())
}

/// The digest of a file.
pub(super) fn digest(path: &Path) -> Result<Digest> {
    Ok(digest_of(fs_err::File::open(path)?)?.0)
}

/// Reads the text: name and digest of each file. The error says what is wrong with which line.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Digest>, String> {
    let mut sums = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let read = line.split_once("  ").filter(|(_, name)| is_name(name));
        let read = read.and_then(|(hex, name)| Some((name.to_owned(), format!("sha256:{hex}").parse().ok()?)));
        let Some((name, digest)) = read else {
            return Err(format!("line {} is not a digest and a name below the folder", number + 1));
        };
        if sums.insert(name, digest).is_some() {
            return Err(format!("line {} names a file for the second time", number + 1));
        }
    }
    // `text` ends each line, and what is not written by it is not trusted.
    if !text.is_empty() && !text.ends_with('\n') { Err("its last line has no end".to_owned()) } else { Ok(sums) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_write_is_read() {
        let sum = Digest::of(b"abc").hex();
        let good = format!("{sum}  a\n{sum}  b/c\n");
        assert_eq!(parse(&good).unwrap().len(), 2);
        for (bad, why) in [
            (format!("{sum}  ../a\n"), "line 1 is not a digest"),
            (format!("{sum}  /etc/passwd\n"), "line 1 is not a digest"),
            (format!("{sum}  a\n{sum} *b\n"), "line 2 is not a digest"),
            (format!("{}  a\n", &sum[1..]), "line 1 is not a digest"),
            (format!("{sum}  a\n{sum}  a\n"), "line 2 names a file for the second time"),
            (format!("{sum}  a"), "no end"),
        ] {
            assert!(parse(&bad).unwrap_err().contains(why), "{bad}");
        }
    }
}
