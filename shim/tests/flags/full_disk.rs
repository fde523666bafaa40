//! A start for which there is no room. The limit of a file's size stands for the full disk: it needs no file system of
//! its own, and SQLite meets it at the same places.

use std::path::Path;
use std::process::{Command, Stdio};

use super::program;
use super::world::World;

/// Blocks of 512 bytes: as much as a page, and less than any of the files beside a database.
const BLOCKS: u32 = 8;

/// The server on that database, without room.
fn without_room(folder: &Path, endpoint: &str) -> Command {
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.env_clear().current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.args(["-c", &script, env!("CARGO_BIN_EXE_sluice-shim"), "--endpoint", endpoint]);
    command.arg("--listen-client-urls=unix://client.sock");
    command
}

#[test]
fn a_start_without_room_says_which_files_need_it() {
    // With a database that was closed well: the files beside it are made anew.
    let world = World::new("fsck");
    for database in ["kept.db", "new.db"] {
        let before = world.names();
        let said = program::refused(&mut without_room(world.folder(), &format!("sqlite://{database}")), 1);
        let words = [
            &format!("--endpoint: open sqlite://{database}")[..],
            "no file can be made or grow beside it",
            &format!("{database}-wal and {database}-shm"),
            "free some space",
        ];
        for word in words {
            assert!(said.contains(word), "{database}: it does not say {word:?}: {said}");
        }
        assert!(!said.contains("disk I/O error"), "{said}");
        // A database that is there keeps its log, which it may need from the first moment on.
        let of_the_log = ["kept.db-wal", "kept.db-shm"];
        let left = world.names();
        let left: Vec<_> = left.difference(&before).filter(|name| !of_the_log.contains(&&name[..])).collect();
        assert!(left.is_empty(), "{database} left something behind: {left:?}");
    }
    let sound = ["fsck", "--endpoint", "sqlite://kept.db"];
    assert!(program::done(program::shim().current_dir(world.folder()).args(sound)).starts_with("sound: "));
}
