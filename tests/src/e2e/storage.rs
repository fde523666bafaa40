//! A database that can't be written, is full, or is of another release: a clear error, and nothing lost.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{Lab, Wish, folder};
use super::mount::{self, Tmpfs};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::backend;
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::problem::{NotReady, Reason};
use sluice_toolkit::cluster::shirts::names;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

const PATH: &str = "/api/v1/namespaces/default/configmaps";

/// The size of the small file system. A fresh cluster's database and its write-ahead log take some 10 MiB.
const SMALL: u32 = 40;

/// Its size when there is room again.
const LARGE: u32 = 160;

pub(super) fn cases() -> Vec<Case> {
    [
        Case::new("storage/read-only", read_only),
        Case::new("storage/full-disk", full_disk),
        Case::new("storage/other-schema", other_schema),
    ]
    .map(|case| case.of(Column::OURS).on_files())
    .into()
}

fn config_map(name: &str, bytes: usize) -> Value {
    json!({"metadata": {"name": name}, "data": {"text": "x".repeat(bytes)}})
}

fn fill(lab: &Lab) -> Result<Vec<String>> {
    let names: Vec<String> = (0..10).map(|number| format!("kept-{number}")).collect();
    for name in &names {
        lab.api.create(PATH, &config_map(name, 100))?;
    }
    Ok(names)
}

fn ensure_kept(lab: &Lab, kept: &[String]) -> Result<()> {
    let stored = names(&lab.api.get(PATH)?);
    let lost: Vec<&String> = kept.iter().filter(|name| !stored.contains(name)).collect();
    ensure(lost.is_empty(), || format!("lost: {lost:?}"))
}

/// The shim must end by itself and say all of `words`.
fn ensure_refuses(lab: &Lab, words: &[&str]) -> Result<()> {
    let Err(error) = lab.cluster.start_one(Component::Store) else {
        return Err(Error::input("the shim started all the same"));
    };
    match error.downcast_ref::<NotReady>() {
        Some(NotReady { reason: Reason::Ended, .. }) => {}
        _ => return Err(error.attempting("the shim did not end by itself")),
    }
    let said = error.to_string().to_lowercase();
    let unsaid: Vec<&&str> = words.iter().filter(|word| !said.contains(&word.to_lowercase())).collect();
    ensure(unsaid.is_empty(), || format!("the shim does not say {unsaid:?}: {said}"))
}

fn in_small_file_system(suite: &Suite, name: &str, case: impl Fn(&Tmpfs, Lab) -> Result<()>) -> Result<Verdict> {
    if !mount::allowed() {
        return Ok(Verdict::Skipped("needs root, to mount a small file system".to_owned()));
    }
    let tmpfs = Tmpfs::mount(folder(suite, name), SMALL)?;
    let database = tmpfs.folder().join("sluice.db");
    let lab = Lab::start(suite, Wish::new(Column::OURS).backend(backend::sqlite(&database)))?;
    case(&tmpfs, lab)?;
    let folder = tmpfs.folder().to_owned();
    drop(tmpfs);
    fs_err::remove_dir(folder)?;
    Ok(Verdict::PASSED)
}

fn read_only(suite: &Suite) -> Result<Verdict> {
    in_small_file_system(suite, "read-only", |tmpfs, lab| {
        let kept = fill(&lab)?;
        lab.cluster.stop()?;
        tmpfs.freeze(SMALL)?;
        let database = tmpfs.folder().join("sluice.db").display().to_string();
        ensure_refuses(&lab, &[&database, "read-only"])?;
        tmpfs.resize(SMALL)?;
        lab.cluster.start(|_| {})?;
        ensure_kept(&lab, &kept)?;
        lab.finish()
    })
}

/// Writes fail with a reason while the disk is full, reads go on, and writes work again when there is room: without a
/// restart.
fn full_disk(suite: &Suite) -> Result<Verdict> {
    in_small_file_system(suite, "full-disk", |tmpfs, lab| {
        let mut kept = fill(&lab)?;
        let refused = (0..1000).find_map(|number| {
            let name = format!("big-{number}");
            match lab.api.create(PATH, &config_map(&name, 200_000)) {
                Ok(_) => {
                    kept.push(name);
                    None
                }
                Err(error) => Some(error),
            }
        });
        let Some(refused) = refused else {
            return Err(Error::input(format!("200 MB of objects fit into {SMALL} MiB")));
        };
        let said = refused.to_string();
        ensure(said.contains("space") || said.contains("full"), || format!("a full disk is reported as: {said}"))?;
        let log = fs_err::read_to_string(lab.cluster.log(Component::Store))?;
        ensure(log.contains("full"), || "the shim's log does not say that the disk is full".to_owned())?;
        ensure_kept(&lab, &kept)?;

        tmpfs.resize(LARGE)?;
        until("writing again when there is room", LIMIT, || {
            Ok(lab.api.create(PATH, &config_map("after", 100)).is_ok().then_some(()))
        })?;
        kept.push("after".to_owned());
        lab.cluster.process(Component::Store).ok_or_else(|| Error::input("the shim has ended"))?.kill()?;
        lab.cluster.start_one(Component::Store)?;
        until("reading after the restart", Duration::from_secs(30), || Ok(lab.api.get(PATH).ok().map(|_| ())))?;
        ensure_kept(&lab, &kept)?;
        lab.finish()
    })
}

fn other_schema(suite: &Suite) -> Result<Verdict> {
    let lab = Lab::start(suite, Wish::new(Column::OURS))?;
    let kept = fill(&lab)?;
    lab.cluster.stop()?;
    let database = lab.cluster.database();
    let ours = set_user_version(&database, 4242)?;
    ensure_refuses(&lab, &[&database.display().to_string(), "version", "4242"])?;
    set_user_version(&database, ours)?;
    lab.cluster.start(|_| {})?;
    ensure_kept(&lab, &kept)?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// Where SQLite keeps `user_version`: "Database File Format", §1.3, big-endian at this offset of the file.
const USER_VERSION_OFFSET: u64 = 60;

/// Returns the version that it replaces.
fn set_user_version(database: &Path, version: u32) -> Result<u32> {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    // A page in the log would win over the file.
    let left = fs_err::metadata(Path::new(&log)).map_or(0, |file| file.len());
    ensure(left == 0, || format!("the shim left {left} bytes in its write-ahead log when it ended"))?;
    let mut file = fs_err::OpenOptions::new().read(true).write(true).open(database)?;
    let mut before = [0; 4];
    file.seek(SeekFrom::Start(USER_VERSION_OFFSET))?;
    file.read_exact(&mut before)?;
    file.seek(SeekFrom::Start(USER_VERSION_OFFSET))?;
    file.write_all(&version.to_be_bytes())?;
    file.sync_all()?;
    Ok(u32::from_be_bytes(before))
}
