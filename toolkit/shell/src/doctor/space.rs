//! Room on the disk, which a first run takes more of than people expect.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::context::Context;

/// Says so if the file system of the workspace has less room than `gigabytes`. That is no error: what is compiled
/// already takes no room again.
pub fn warn_if_scarce(shell: &Context, what: &str, gigabytes: u64) {
    let root = shell.paths.root();
    // Who can't be asked may have room enough.
    let Ok(disk) = statvfs(root) else { return };
    let free = disk.blocks_available() * disk.fragment_size();
    if let Some(warning) = warning(root, free, what, gigabytes) {
        shell.out.note(warning);
    }
}

fn warning(folder: &Path, free: u64, what: &str, gigabytes: u64) -> Option<String> {
    let free = free as f64 / 1e9;
    (free < gigabytes as f64).then(|| {
        let folder = folder.display();
        format!("warning: {free:.1} GB are free in {folder}, and {what} takes up to {gigabytes} GB")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told_with_both_numbers() {
        let text = warning(Path::new("/src/sluice"), 4_230_000_000, "a first build", 10);
        let expected = "warning: 4.2 GB are free in /src/sluice, and a first build takes up to 10 GB";
        assert_eq!(text.as_deref(), Some(expected));
        assert_eq!(warning(Path::new("/src/sluice"), 10_000_000_000, "a first build", 10), None);
    }
}
