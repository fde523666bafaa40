//! What a thread does with its connection: transactions, and opening it anew.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Row;

use super::connect::Database;
use super::link::{Ask, Link, get};
use super::note;
use super::planner;
use super::row::{blobs, columns};
use crate::clock::StoreTime;
use crate::engine::{Error, Revision};
use crate::sql::failure::{Failure, Result};
use crate::sql::numbers;
use crate::sql::remote::{self, MOVED};
use crate::sql::session::Head;

/// How a snapshot of several statements begins.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How a transaction that changes something begins.
const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '5s'; \
    SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// How many columns [`HEAD`] has.
pub(super) const HEAD_COLUMNS: usize = 7;
/// What is read of the one row that each commit writes.
const HEAD: &str = "revision, compact_revision, batch, (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    pg_is_in_recovery(), owner, next_id";

/// A thread's connection, and what it knows of the transaction under way.
pub(in crate::sql) struct Session {
    pub(super) database: Arc<Database>,
    link: Option<Link>,
    read_head: Arc<str>,
    lock_head: Arc<str>,
    newest: Arc<str>,
    in_transaction: bool,
    /// Numbers of labels' names, for good but for those that the transaction under way adds.
    pub(super) names: HashMap<Box<str>, i64>,
    /// Names that the transaction under way is still to add.
    pub(super) new_names: Vec<(i64, Box<str>)>,
    /// Names that the transaction under way has added.
    pub(super) added_names: Vec<(i64, Box<str>)>,
    /// The next number, in the transaction under way.
    pub(super) next_id: i64,
    /// When the process last told that it is there.
    pub(super) beat: Instant,
    /// Whether its process serves the store until it is dropped.
    serves: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.database.fmt(f)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let owner = self.database.owner;
        if self.serves
            && let Some(link) = self.link.as_mut().filter(|link| !link.is_closed())
        {
            // The end of the connection tells the next process as well, but not through a pooler.
            link.last(&format!("ROLLBACK; UPDATE meta SET owner = 0 WHERE id = 1 AND owner = {owner}"));
        }
    }
}

/// What a row of the columns [`HEAD`] says.
pub(super) struct Stand {
    pub(super) head: Head,
    in_recovery: bool,
    owner: i64,
    next_id: i64,
}

impl Session {
    /// A session that connects when it is first used.
    pub(super) fn new(database: Arc<Database>, link: Option<Link>) -> Self {
        Self {
            link,
            read_head: format!("SELECT {HEAD} FROM meta WHERE id = 1").into(),
            lock_head: format!("SELECT {HEAD} FROM meta WHERE id = 1 FOR UPDATE").into(),
            newest: format!(
                "SELECT {HEAD}, {} FROM meta LEFT JOIN {} WHERE id = 1",
                columns("c"),
                database.by_keys().join
            )
            .into(),
            in_transaction: false,
            names: HashMap::new(),
            new_names: Vec::new(),
            added_names: Vec::new(),
            next_id: 0,
            beat: Instant::now(),
            serves: false,
            database,
        }
    }

    /// The session by which this process serves the store. When it is dropped, the process gives the store up.
    pub(super) fn serving(database: Arc<Database>, link: Link) -> Self {
        let mut session = Self::new(database, Some(link));
        session.serves = true;
        session
    }

    /// Whether there is a pooler between.
    pub(super) fn is_pooled(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_pooled)
    }

    /// Does something on the connection, which is made if there is none. One that is of no use any more goes.
    pub(super) fn on<T>(&mut self, work: impl FnOnce(&mut Link) -> Result<T>) -> Result<T> {
        if self.link.is_none() {
            if self.in_transaction {
                return Err(Failure::Lost(Error::Unavailable("the connection to the database was lost".into())));
            }
            self.link = Some(self.database.connect()?);
        }
        let Some(link) = &mut self.link else { return Err(Failure::Lost(Error::Unavailable(String::new()))) };
        let done = work(link);
        if link.forgets {
            self.database.forgets();
        }
        if matches!(done, Err(Failure::Lost(_) | Failure::Unknown(_))) {
            self.link = None;
        }
        done
    }

    /// Carries statements out in the transaction under way.
    pub(super) fn all(&mut self, asks: &[Ask<'_>]) -> Result<Vec<super::link::Answer>> {
        self.on(|link| link.all(asks))
    }

    /// Carries a statement out in the transaction under way; returns its rows.
    pub(super) fn ask(&mut self, ask: Ask<'_>) -> Result<Vec<Row>> {
        self.on(|link| link.one(ask)).map(|answer| answer.rows)
    }

    /// Begins a snapshot.
    pub(super) fn begin_read(&mut self) -> Result<Head> {
        let head = Arc::clone(&self.read_head);
        Ok(self.read(&Ask::new("head", &head, vec![]), false)?.0)
    }

    /// The head, and the rows of live keys with the columns [`HEAD_COLUMNS`] before theirs: a snapshot of its own.
    pub(super) fn read_newest(&mut self, keys: &[&[u8]]) -> Result<(Head, Vec<Row>)> {
        let newest = Arc::clone(&self.newest);
        self.read(&Ask::new("newest", &newest, vec![blobs(&keys)]), true)
    }

    /// Begins a snapshot with a statement whose rows begin with the columns [`HEAD`]. `ends`: that is all of it.
    fn read(&mut self, first: &Ask<'_>, ends: bool) -> Result<(Head, Vec<Row>)> {
        // A connection that the server ended meanwhile is no failure: nothing has begun.
        self.rollback();
        if self.link.as_ref().is_some_and(Link::is_closed) {
            self.link = None;
        }
        let newest = self.database.seen.newest();
        let mut begun = self.begin_snapshot(first, ends);
        if matches!(begun, Err(Failure::Lost(_) | Failure::Again(_))) && !self.database.is_replica {
            self.rollback();
            self.database.metrics.database.retries.inc();
            begun = self.begin_snapshot(first, ends);
        }
        let rows = begun?;
        let stand = self.stand(rows.first(), newest);
        if matches!(stand, Err(Failure::Lost(_))) {
            (self.link, self.in_transaction) = (None, false);
        }
        let stand = stand?;
        // Who serves the store reads no more of it once it has moved; others may.
        if stand.owner == MOVED && ![0, MOVED].contains(&self.database.owner) {
            return Err(self.on(|link| Ok(note::refusal(link)))?);
        }
        Ok((stand.head, rows))
    }

    /// Carries out the first statement of a snapshot; returns its rows. A statement that is all of it is a snapshot of
    /// its own, and needs no transaction but for the settings of one.
    fn begin_snapshot(&mut self, first: &Ask<'_>, ends: bool) -> Result<Vec<Row>> {
        if ends && !self.on(|link| Ok(link.is_pooled()))? {
            return self.ask(first.clone());
        }
        let begin = self.beginning(BEGIN_READ)?;
        let mut asks = vec![Ask::plain("begin", &begin), first.clone()];
        asks.extend(ends.then(|| Ask::plain("end", "ROLLBACK")));
        let begun = self.begin_with(&asks)?;
        self.in_transaction = !ends;
        Ok(begun.into_iter().nth(1).unwrap_or_default().rows)
    }

    /// How a transaction begins on the connection, which is made if there is none. A pooler keeps no settings from one
    /// transaction to the next.
    fn beginning(&mut self, begin: &'static str) -> Result<Cow<'static, str>> {
        let is_pooled = self.on(|link| Ok(link.is_pooled()))?;
        Ok(if is_pooled { format!("{begin}; {}", planner::local()).into() } else { begin.into() })
    }

    /// Begins a transaction that changes something: locks the head, and carries out what the statements say, all with
    /// one flush.
    pub(super) fn begin_write(&mut self, asks: Vec<Ask<'_>>) -> Result<(Head, Vec<super::link::Answer>)> {
        let (stand, more) = self.lock_head(BEGIN_WRITE, asks)?;
        if stand.owner == MOVED && self.database.owner != MOVED {
            return Err(self.on(|link| Ok(note::refusal(link)))?);
        }
        if stand.owner != self.database.owner {
            return Err(Failure::Final(Error::Replaced(
                "another sluice-shim serves this database now; this one serves it no longer".into(),
            )));
        }
        self.next_id = stand.next_id;
        Ok((stand.head, more))
    }

    /// Begins a transaction, locks the head, and carries out what the statements say, all with one flush.
    pub(super) fn lock_head(
        &mut self,
        begin: &'static str,
        asks: Vec<Ask<'_>>,
    ) -> Result<(Stand, Vec<super::link::Answer>)> {
        self.rollback();
        let begin = self.beginning(begin)?;
        let newest = self.database.seen.newest();
        let head = Arc::clone(&self.lock_head);
        let mut all = vec![Ask::plain("begin", &begin), Ask::new("lock", &head, vec![])];
        all.extend(asks);
        let mut answers = self.begin_with(&all)?;
        let more = answers.split_off(2);
        let stand = self.stand(answers.get(1).and_then(|answer| answer.rows.first()), newest)?;
        Ok((stand, more))
    }

    /// Begins a transaction with the first of some statements. If another one fails there is still one to end.
    fn begin_with(&mut self, asks: &[Ask<'_>]) -> Result<Vec<super::link::Answer>> {
        let begun = self.on(|link| link.all(asks));
        self.in_transaction = self.link.is_some();
        begun
    }

    fn stand(&self, row: Option<&Row>, newest: Revision) -> Result<Stand> {
        let Some(row) = row else { return Err(Failure::Final(Error::Damaged("the table meta is empty".into()))) };
        let revision: Revision = get(row, 0)?;
        let stand = Stand {
            head: Head {
                revision,
                compact_revision: get(row, 1)?,
                batch: get(row, 2)?,
                now: StoreTime::from_millis(get(row, 3)?),
            },
            in_recovery: get(row, 4)?,
            owner: get(row, 5)?,
            next_id: get(row, 6)?,
        };
        if self.database.is_replica {
            return if stand.owner == self.database.owner { Ok(stand) } else { Err(remote::no_copy()) };
        }
        if stand.in_recovery {
            return Err(Failure::Lost(Error::Unavailable("the database has become a standby".into())));
        }
        self.database.seen.note(revision, newest)?;
        Ok(stand)
    }

    /// What the transaction did is durable.
    pub(super) fn committed(&mut self) {
        self.in_transaction = false;
        self.added_names.clear();
        self.beat = Instant::now();
    }

    /// Ends what is under way, without waiting for the server.
    pub(super) fn rollback(&mut self) {
        self.forget_names();
        if std::mem::take(&mut self.in_transaction)
            && let Some(link) = &mut self.link
        {
            link.send("ROLLBACK");
        }
    }

    /// The names that a transaction was to add went with it.
    fn forget_names(&mut self) {
        for (_, name) in self.new_names.drain(..).chain(self.added_names.drain(..)) {
            self.names.remove(&name);
        }
        numbers::bound(&mut self.names);
    }

    /// Gives the connection up and makes another.
    pub(super) fn connect_anew(&mut self) -> Result<()> {
        self.in_transaction = false;
        self.forget_names();
        // What was known by the last one may not hold on another server.
        self.names.clear();
        self.link = None;
        self.link = Some(self.database.connect()?);
        Ok(())
    }

    /// A number that nothing had before, in the transaction under way.
    pub(super) fn next_id(&mut self) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}
