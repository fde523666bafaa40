//! Moves a store to another database while a server serves it.
//!
//! 1. [`Move::copy`] copies the changes of the source in order, and then the changes that came meanwhile, until few are
//!    left.
//! 2. [`Move::prove`] compares everything at one revision.
//! 3. [`Move::advance`] copies and compares what came on top of that revision.
//! 4. [`Move::hold`] holds the source, so that its writes wait, and copies and compares the rest.
//! 5. [`Held::leave`] leaves the note in the source that says that the store has moved.
//! 6. [`Left::finish`] makes the target a store that can be served.
//!
//! Whenever the process is killed, at most one of the two databases can be served. Before the note that is the source,
//! since the target is at revision 0. After the note it is neither, until the same move goes on and makes the target
//! whole. So the note comes before the target's revision.

mod bonds;
mod chunk;
mod compare;
mod follow;
pub mod leaving;
mod part;
mod progress;
mod queue;
mod survey;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

pub use self::bonds::{Bonds, Found};
use self::chunk::Chunk;
use self::follow::Follow;
use self::part::Part;
pub use self::part::Ranges;
pub use self::progress::Progress;
pub use self::survey::Survey;
use crate::clock::StoreClock;
use crate::endpoint::Endpoint;
use crate::engine::receive::{Ready, Receiver, ready};
use crate::engine::store::{Reader, Source, Store};
use crate::engine::{Forwarding, Revision};
pub use crate::migrate::digest::Summary;
use crate::sql;

/// The longest name of a database that fits into every note, in bytes.
const LONGEST_NAME: usize = 400;

/// A store on its way.
pub struct Move {
    source: Box<dyn Source>,
    target: Receiver,
    /// Reads what is in the target.
    reader: Box<dyn Reader>,
    clock: StoreClock,
    /// What the note says.
    endpoint: String,
    chunk: Chunk,
    /// Up to which revision both are known to be the same.
    proven: Option<Revision>,
    /// How much later the target's clock is, in milliseconds, for what was deleted.
    remembered: Option<i64>,
    figures: Figures,
    progress: Progress,
    _store: Arc<dyn Store>,
}

/// What was moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Puts and deletions that this process copied.
    pub copied: u64,
    /// Live keys in the end.
    pub live: u64,
    /// The revision at which all was compared. What came on top was compared change by change.
    pub compared_at: Revision,
    /// The live keys then.
    pub keys: Summary,
    /// The puts and deletions since the compaction then.
    pub history: Summary,
    /// Leases.
    pub leases: u64,
    /// The collector's tasks and its memory of what was deleted.
    pub tasks: u64,
    /// As above.
    pub tombstones: u64,
}

/// The source of a move, and what is known of it.
struct Origin {
    source: Box<dyn Source>,
    cluster_id: u64,
    note: Option<Forwarding>,
}

/// Opens the source, or a part of it. Fails if it is none.
fn origin(from: &Endpoint, part: Option<&Ranges>) -> Result<Origin> {
    from.must_exist()?;
    let open = || -> crate::engine::Result<_> {
        let mut source = sql::source(from)?;
        let note = source.forwarding()?;
        let (revision, _) = source.begin()?;
        let status = source.status();
        source.end();
        Ok((source, note, revision, status?.cluster_id))
    };
    let (source, note, revision, cluster_id) = open().with_context(|| format!("--endpoint: open {from}"))?;
    if revision == 0 {
        bail!("--endpoint: the database was not loaded to its end: there is nothing in it to be trusted");
    }
    Ok(match part {
        None => Origin { source, cluster_id, note },
        Some(part) => {
            let cluster_id = part.cluster_id(cluster_id);
            Origin { source: Box::new(Part::new(source, part.clone())), cluster_id, note }
        }
    })
}

/// The name of a database for whoever has another working folder.
fn whole_name(endpoint: &Endpoint) -> Result<String> {
    let name = match endpoint {
        Endpoint::Sqlite(path) => Endpoint::Sqlite(std::path::absolute(path)?).to_string(),
        Endpoint::Network(_) => endpoint.to_string(),
    };
    if name.len() > LONGEST_NAME {
        bail!("the target's name is too long for the note in the source: {LONGEST_NAME} bytes at most");
    }
    Ok(name)
}

/// Whether the store may go to a database that is like this. Nothing is changed there.
fn check_target(origin: &Origin, (from, to): (&Endpoint, &Endpoint)) -> Result<Ready> {
    let name = whole_name(to)?;
    if whole_name(from)? == name {
        bail!("the target is the database that the store is in");
    }
    let elsewhere = origin.note.as_ref().filter(|note| note.endpoint != name);
    if let Some(note) = elsewhere {
        return Err(note.error().into());
    }
    let found = || match sql::probe(to)? {
        (_, Some(mut reader)) => ready(reader.as_mut(), origin.cluster_id),
        (_, None) => Ok(Ready::Empty),
    };
    match (found(), &origin.note) {
        // It went there already: only the move that was stopped on its way may go on.
        (Ok(Ready::Empty) | Err(_), Some(note)) => Err(note.error().into()),
        (found, _) => found.with_context(|| format!("the target {to}")),
    }
}

impl Move {
    /// Opens both, and begins or goes on where the last process was stopped.
    ///
    /// # Errors
    /// When one of them can't be opened, or the store can't go there.
    pub fn begin(from: &Endpoint, to: &Endpoint, progress: Progress) -> Result<Self> {
        Self::begin_with(from, to, None, progress)
    }

    /// The same with a part of the store, which becomes a store of its own: it goes on from what it has, and the source
    /// is not held.
    ///
    /// # Errors
    /// As [`Move::begin`].
    pub fn begin_part(from: &Endpoint, to: &Endpoint, part: &Ranges, progress: Progress) -> Result<Self> {
        Self::begin_with(from, to, Some(part), progress)
    }

    fn begin_with(from: &Endpoint, to: &Endpoint, part: Option<&Ranges>, progress: Progress) -> Result<Self> {
        let origin = origin(from, part)?;
        check_target(&origin, (from, to))?;
        let Origin { source, cluster_id, .. } = origin;
        let open = || -> crate::engine::Result<_> {
            let store = sql::open(to, Arc::default())?;
            let target = Receiver::begin(store.as_ref(), cluster_id)?;
            let reader = store.reader()?;
            Ok((store, target, reader))
        };
        let (store, target, reader) = open().with_context(|| format!("the target {to}"))?;
        let clock = store.clock();
        let endpoint = whole_name(to)?;
        Ok(Self {
            source,
            target,
            reader,
            clock,
            endpoint,
            chunk: Chunk::default(),
            proven: None,
            remembered: None,
            figures: Figures::default(),
            progress,
            _store: store,
        })
    }

    /// Copies what is there, until little is left.
    ///
    /// # Errors
    /// When one of the two fails, or the target can't hold something.
    pub fn copy(&mut self) -> Result<()> {
        loop {
            let (revision, compact_revision) = self.source.begin()?;
            let read = self.chunk.read(self.source.as_mut(), self.target.position(), revision);
            self.source.end();
            let (records, is_last) = read?;
            self.target.compacted(compact_revision)?;
            self.push(records, revision)?;
            if is_last {
                return Ok(self.target.flush()?);
            }
        }
    }

    /// Compares all of both at one revision. Takes keys away whose deletion was compacted before it was read.
    ///
    /// # Errors
    /// When the two differ.
    pub fn prove(&mut self) -> Result<()> {
        let (revision, compact_revision) = self.source.begin()?;
        let proven = self.prove_in_snapshot(revision, compact_revision);
        self.source.end();
        proven
    }

    /// Compares what came on top since all was compared; false if deletions among it were compacted, so that all is to
    /// be compared again.
    ///
    /// # Errors
    /// When the two differ.
    pub fn advance(&mut self) -> Result<bool> {
        let (revision, compact_revision) = self.source.begin()?;
        let followed = self.follow(revision, compact_revision, None);
        self.source.end();
        Ok(followed? == Follow::Same)
    }

    /// Does all that need not wait until the source is held: indexes, compaction, the collector's memory.
    ///
    /// # Errors
    /// When one of the two fails.
    pub fn prepare(&mut self) -> Result<()> {
        self.target.settle()?;
        self.source.begin()?;
        let taken = self.take_queue(None);
        self.source.end();
        taken.map(drop)
    }

    /// Holds the source, and copies and compares the rest. `None`: that would have taken longer than writes are to
    /// wait; the source goes on.
    ///
    /// # Errors
    /// When one of the two fails, or they differ. The source goes on then as well.
    pub fn hold(&mut self, longest: Duration) -> Result<Option<Held<'_>>> {
        let (revision, compact_revision) = self.source.hold().context("--endpoint: hold writes back")?;
        let since = Instant::now();
        match self.complete(revision, compact_revision, since + longest) {
            Ok(true) => Ok(Some(Held { moving: self, revision, since })),
            incomplete => {
                self.source.end();
                incomplete.map(|_| None)
            }
        }
    }

    fn complete(&mut self, revision: Revision, compact_revision: Revision, until: Instant) -> Result<bool> {
        if self.follow(revision, compact_revision, Some(until))? != Follow::Same {
            return Ok(false);
        }
        self.take_leases()?;
        Ok(self.take_queue(Some(until))? && Instant::now() < until)
    }
}

/// A store whose source is held. Dropped, the source goes on when the [`Move`] is dropped too.
pub struct Held<'a> {
    moving: &'a mut Move,
    revision: Revision,
    since: Instant,
}

impl<'a> Held<'a> {
    /// Leaves the note in the source: from now on nobody serves the store there.
    ///
    /// # Errors
    /// When that fails. Whether the note is there is then seen by moving once more.
    pub fn leave(self) -> Result<Left<'a>> {
        let Self { moving, revision, since } = self;
        let note = Forwarding { revision, endpoint: moving.endpoint.clone() };
        let left = moving.source.leave(&note).context("--endpoint: leave the note that the store has moved");
        moving.source.end();
        left.map_err(|error| error.context("nothing is lost: run the same command again"))?;
        Ok(Left { moving, revision, waited: since.elapsed() })
    }
}

/// A store that has left its source.
pub struct Left<'a> {
    moving: &'a mut Move,
    revision: Revision,
    waited: Duration,
}

impl Left<'_> {
    /// Makes the target whole.
    ///
    /// # Errors
    /// When that fails. The same move goes on from here.
    pub fn finish(self) -> Result<Moved> {
        let Self { moving, revision, waited } = self;
        moving.target.finish(revision).with_context(|| {
            let to = &moving.endpoint;
            format!("the store has left, but {to} can't be served yet: run the same command again")
        })?;
        // What is left of this is done when the target is served, as well.
        if let Err(error) = moving.target.settle() {
            tracing::warn!(%error, "the target could not be tidied up");
        }
        Ok(Moved { endpoint: moving.endpoint.clone(), revision, waited, figures: moving.figures.clone() })
    }
}

/// A store that has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// To where.
    pub endpoint: String,
    /// At which revision.
    pub revision: Revision,
    /// How long the source was held.
    pub waited: Duration,
    /// What was moved.
    pub figures: Figures,
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { endpoint, revision, waited, figures } = self;
        let Figures { copied, live, compared_at, keys, history, leases, tasks, tombstones } = figures;
        writeln!(f, "to {endpoint}, at revision {revision}; writes waited {:.2} s", waited.as_secs_f64())?;
        writeln!(f, "{live} keys, {leases} leases, {tasks} tasks and {tombstones} deletions of the collector")?;
        writeln!(f, "{copied} changes copied; all compared at revision {compared_at}, then change by change:")?;
        writeln!(f, "{} keys with SHA-256 {}", keys.count, keys.sha256)?;
        write!(f, "{} changes with SHA-256 {}", history.count, history.sha256)
    }
}
