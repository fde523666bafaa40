//! Which packed layers stay in the cache: those of the newest run for each minor, each platform and each kind of
//! program. So a run for one platform, for another minor, or of a release takes nothing from the next run of the
//! others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::report::Line;
use crate::images::BlobStore;
use crate::pipeline::{Built, Depth};
use sluice_shell::error::Result;

/// Notes which layers the images of a run of all definitions consist of, and removes those that no newest run has.
pub(super) fn keep<D: Depth>(store: &BlobStore, folder: &Path, builds: &[Built<D>], images: &[Line]) -> Result<()> {
    fs::create_dir_all(folder)?;
    for built in builds {
        let parts = images.iter().flat_map(|line| &line.platforms).filter(|part| part.platform == built.platform);
        let layers: BTreeSet<String> =
            parts.flat_map(|part| &part.layers).map(|layer| layer.digest.hex() + "\n").collect();
        // What a killed run leaves of it keeps too much, until the next run.
        let fresh = folder.join(".partial");
        fs::write(&fresh, layers.into_iter().collect::<String>())?;
        fs::rename(&fresh, note(folder, built))?;
    }
    let mut used = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        used.extend(fs::read_to_string(entry?.path())?.lines().map(str::to_owned));
    }
    Ok(store.prune(|name| used.contains(name))?)
}

fn note<D: Depth>(folder: &Path, built: &Built<D>) -> PathBuf {
    let flags = if built.release_flags { "-release" } else { "" };
    folder.join(format!("{}{flags}{}", built.minor, built.platform.suffix()))
}
