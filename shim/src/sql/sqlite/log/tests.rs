//! Whatever happens to a database, and whenever its process is killed: what is left is accepted with its log, and
//! refused without it if anything was acknowledged since it was whole.

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tempfile::TempDir;

use super::super::{checkpoint, configure, connect, connect_writer};
use super::*;

/// Of `proptest`'s choices the first byte says what happens, the second how much.
type Step = (u8, u8);

struct World {
    folder: TempDir,
    writer: Option<Guarded>,
    /// The connection of the checkpoint thread.
    beside: Option<Connection>,
    /// A reader in the way.
    reader: Option<Connection>,
    /// What was acknowledged.
    revision: i64,
    /// What the file alone has.
    whole: i64,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut world = Self { folder, writer: None, beside: None, reader: None, revision: 1, whole: 1 };
        world.start();
        world
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    fn start(&mut self) {
        let path = self.path();
        let writer = Guarded::new(connect_writer(&path).unwrap(), &path).unwrap();
        let beside = connect_writer(&path).unwrap();
        keep_log_at_close(&beside, true).unwrap();
        configure(&beside, 1000).unwrap();
        (self.writer, self.beside) = (Some(writer), Some(beside));
        assert_eq!(self.stored(), self.revision);
    }

    fn stored(&self) -> i64 {
        let writer = self.writer.as_ref().unwrap();
        writer.query_row("SELECT revision FROM meta", [], |row| row.get(0)).unwrap()
    }

    fn commit(&mut self, size: u8) {
        let writer = self.writer.as_mut().unwrap();
        writer.ready().unwrap();
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        self.revision += 1;
        transaction.execute("UPDATE meta SET revision = ?1", [self.revision]).unwrap();
        let sql = "INSERT INTO history
            (key, create_revision, mod_revision, sub, version, lease, value, end_revision, end_sub, deleted) VALUES (randomblob(8), 1, ?1, 0, 1, 0, zeroblob(?2), ?1 + 1, 0, 0)";
        transaction.execute(sql, [self.revision, i64::from(size) * 500]).unwrap();
        transaction.commit().unwrap();
        writer.ready().unwrap();
    }

    /// The files as they are, with nothing else running.
    fn killed(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        for name in ["state.db", "state.db-wal"] {
            if self.folder.path().join(name).exists() {
                std::fs::copy(self.folder.path().join(name), copy.path().join(name)).unwrap();
            }
        }
        copy
    }

    /// Reads what is left as any reader does.
    fn read(folder: &Path) -> Result<i64> {
        let path = folder.join("state.db");
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        check(&connection, &path)?;
        Ok(connection.query_row("SELECT revision FROM meta", [], |row| row.get(0)).unwrap())
    }

    /// What must hold after every step.
    fn verify(&self, step: &str) {
        assert_eq!(Self::read(self.killed().path()).unwrap(), self.revision, "after {step}");
        for damage in ["removed", "empty", "header", "zeros"] {
            let copy = self.killed();
            let log = copy.path().join("state.db-wal");
            let Ok(bytes) = std::fs::read(&log) else { continue };
            match damage {
                "removed" => std::fs::remove_file(&log).unwrap(),
                "empty" => std::fs::write(&log, []).unwrap(),
                "header" => std::fs::write(&log, &bytes[..bytes.len().min(32)]).unwrap(),
                _ => std::fs::write(&log, vec![0; bytes.len()]).unwrap(),
            }
            match Self::read(copy.path()) {
                Ok(revision) => assert_eq!(revision, self.revision, "{damage} after {step}"),
                Err(error) => {
                    assert!(error.to_string().contains("needs its log"), "{damage} after {step}: {error}");
                    assert_ne!(self.whole, self.revision, "{damage} after {step}: nothing is lost");
                }
            }
        }
    }

    fn act(&mut self, (what, how): Step) -> &'static str {
        match what % 12 {
            0..4 => {
                self.commit(how);
                "a commit"
            }
            4 => {
                // As `Checkpoints` does it.
                let log = self.writer.as_ref().unwrap().log().unwrap();
                let progress = checkpoint::passive(self.beside.as_ref().unwrap()).unwrap();
                self.verify("a checkpoint beside");
                if how.is_multiple_of(2) {
                    self.commit(how);
                    self.verify("a commit before the writer knows");
                }
                self.writer.as_mut().unwrap().copied(progress.copied, log).unwrap();
                "a checkpoint beside that the writer knows of"
            }
            5 => {
                let writer = self.writer.as_mut().unwrap();
                let log = writer.log().unwrap();
                let progress = checkpoint::passive(writer).unwrap();
                if progress.is_whole() {
                    writer.whole().unwrap();
                    self.whole = self.revision;
                } else {
                    writer.copied(progress.copied, log).unwrap();
                }
                "a checkpoint"
            }
            6 => {
                if self.writer.as_mut().unwrap().settle().unwrap() {
                    self.whole = self.revision;
                }
                "a cut"
            }
            7 => {
                let path = self.path();
                self.reader = self.reader.take().map_or_else(
                    || {
                        let reader = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
                        reader.execute_batch("BEGIN; SELECT * FROM meta").unwrap();
                        Some(reader)
                    },
                    |_| None,
                );
                "a reader"
            }
            8 => {
                (self.reader, self.beside, self.writer) = (None, None, None);
                self.whole = self.revision;
                self.start();
                "a clean stop and a start"
            }
            9 => {
                self.go_on_with(self.killed());
                self.start();
                "a kill and a start"
            }
            10 => {
                let killed = self.killed();
                if how.is_multiple_of(2) {
                    // Somebody looks, with SQLite alone, and takes the log away.
                    let shell = Connection::open(killed.path().join("state.db")).unwrap();
                    shell.query_row("SELECT revision FROM meta", [], |row| row.get::<_, i64>(0)).unwrap();
                    drop(shell);
                    assert!(!killed.path().join("state.db-wal").exists());
                    self.whole = self.revision;
                }
                assert_eq!(Self::read(killed.path()).unwrap(), self.revision, "after a shell");
                self.go_on_with(killed);
                self.start();
                "a kill, a shell and a start"
            }
            _ => {
                let copy = TempDir::new().unwrap();
                let file = copy.path().join("state.db");
                let reader = connect(&self.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
                reader.execute("VACUUM INTO ?1", [file.to_str().unwrap()]).unwrap();
                assert_eq!(Self::read(copy.path()).unwrap(), self.revision, "a backup");
                "a backup"
            }
        }
    }

    /// Goes on with other files; what has these open stays behind, as if it were killed.
    fn go_on_with(&mut self, folder: TempDir) {
        let old = std::mem::replace(&mut self.folder, folder);
        (self.reader, self.beside, self.writer) = (None, None, None);
        drop(old);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 40, ..Default::default() })]

    #[test]
    fn a_log_is_missed_when_it_is_gone_and_never_else(
        steps in proptest::collection::vec(proptest::prelude::any::<Step>(), 1..30)
    ) {
        let mut world = World::new();
        for step in steps {
            let what = world.act(step);
            world.verify(what);
        }
    }
}

/// A database that was whole beside the log of another time: SQLite would apply it.
#[test]
fn a_log_beside_a_whole_database_is_its_own() {
    let mut world = World::new();
    world.commit(1);
    let stray = std::fs::read(world.folder.path().join("state.db-wal")).unwrap();
    for restarts in 0..3 {
        world.act((8, 0));
        world.commit(1);
        (world.beside, world.writer) = (None, None);
        let log = world.folder.path().join("state.db-wal");
        assert!(!log.exists(), "a clean stop takes the log away");
        std::fs::write(&log, &stray).unwrap();
        let error = World::read(world.folder.path()).unwrap_err().to_string();
        assert!(error.contains("is not the log of the database"), "{restarts}: {error}");
        std::fs::remove_file(&log).unwrap();
        world.start();
    }
}

/// A log beyond which the file was copied already can't be replaced by a part of itself.
#[test]
fn a_log_that_lost_what_was_copied_is_noticed() {
    let mut world = World::new();
    for number in 0..10 {
        world.commit(50);
        if number == 4 {
            // Keeps the checkpoint from its end.
            world.act((7, 0));
        }
    }
    let log = world.folder.path().join("state.db-wal");
    let part = std::fs::read(&log).unwrap().len() / 4;
    let cut = |world: &World| {
        let copy = world.killed();
        let log = copy.path().join("state.db-wal");
        std::fs::write(&log, &std::fs::read(&log).unwrap()[..part]).unwrap();
        World::read(copy.path())
    };
    assert!(cut(&world).is_ok(), "the lost end of a log is not noticed, and the documentation says so");
    world.act((4, 1));
    let error = cut(&world).unwrap_err().to_string();
    assert!(error.contains("was cut off or damaged: of the first"), "{error}");
}
