//! Leases, and the collector's work and memory: what changes without a revision.
//!
//! The two stores have clocks of their own. What lasts has the same time left in both; so a moment becomes the one that
//! is as far from now.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};

use super::Move;
use crate::clock::StoreTime;
use crate::engine::LeaseId;
use crate::engine::store::{Lease, Queue};
use crate::gc::{Task, Tombstone};

/// How many rows are read or written at a time.
const PAGE: usize = 2000;

/// How much later a moment is on the target's clock, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Shift(i64);

impl Shift {
    fn of(self, moment: StoreTime) -> StoreTime {
        StoreTime::from_millis(moment.millis().saturating_add(self.0))
    }
}

/// A row with a number.
trait Numbered: PartialEq {
    fn number(&self) -> i64;

    /// The same row on the target's clock.
    fn shifted(self, shift: Shift) -> Self;
}

impl Numbered for Task {
    fn number(&self) -> i64 {
        self.id
    }

    fn shifted(mut self, shift: Shift) -> Self {
        self.created_at = shift.of(self.created_at);
        self.progress.not_before = shift.of(self.progress.not_before);
        self
    }
}

impl Numbered for Tombstone {
    fn number(&self) -> i64 {
        self.id
    }

    fn shifted(self, shift: Shift) -> Self {
        Self { at: shift.of(self.at), ..self }
    }
}

/// Rows in order of their number, a page at a time.
struct Rows<'a, T> {
    read: Box<dyn FnMut(i64) -> crate::engine::Result<Vec<T>> + 'a>,
    page: std::iter::Peekable<std::vec::IntoIter<T>>,
    last: i64,
    more: bool,
}

impl<'a, T: Numbered> Rows<'a, T> {
    fn new(read: impl FnMut(i64) -> crate::engine::Result<Vec<T>> + 'a) -> Self {
        Self { read: Box::new(read), page: Vec::new().into_iter().peekable(), last: i64::MIN, more: true }
    }

    fn peek(&mut self) -> Result<Option<i64>> {
        if self.more && self.page.peek().is_none() {
            let page = (self.read)(self.last)?;
            self.more = page.len() >= PAGE;
            self.last = page.last().map_or(self.last, Numbered::number);
            self.page = page.into_iter().peekable();
        }
        Ok(self.page.peek().map(Numbered::number))
    }
}

/// What the target lacks or has wrong, and what it has too much.
struct Difference<T> {
    come: Vec<T>,
    gone: Vec<i64>,
    /// How many the source has.
    count: u64,
}

fn difference<T: Numbered>(mut there: Rows<'_, T>, mut here: Rows<'_, T>, shift: Shift) -> Result<Difference<T>> {
    let mut found = Difference { come: Vec::new(), gone: Vec::new(), count: 0 };
    loop {
        match (there.peek()?, here.peek()?) {
            (None, None) => return Ok(found),
            (theirs, Some(own)) if theirs.is_none_or(|theirs| own < theirs) => {
                here.page.next();
                found.gone.push(own);
            }
            (theirs, own) => {
                let Some(row) = there.page.next().map(|row| row.shifted(shift)) else { continue };
                found.count += 1;
                let same = if theirs == own { here.page.next() } else { None };
                if same.as_ref() != Some(&row) {
                    found.come.push(row);
                }
            }
        }
    }
}

impl Move {
    /// How much later the target's clock is than the source's was when the snapshot began.
    fn shift(&self) -> Shift {
        Shift(self.clock.now().millis().saturating_sub(self.source.now().millis()))
    }

    /// Gives the target the leases of the source, each with the time that is left.
    pub(super) fn take_leases(&mut self) -> Result<()> {
        let (now, then) = (self.clock.now(), self.source.now());
        let mut wanted: BTreeMap<LeaseId, Lease> = BTreeMap::new();
        for lease in self.source.leases(0)? {
            let Lease { id, ttl, .. } = lease;
            if id == 0 || ttl < 0 {
                bail!("the lease {id:x} with a time to live of {ttl} s is not sound");
            }
            wanted.insert(id, Lease { id, ttl, expires_at: now.after(lease.left(then)) });
        }
        let there = self.leases_here()?;
        let gone = there.keys().filter(|id| !wanted.contains_key(id)).map(|id| (*id, None));
        let come = wanted.iter().filter(|(id, lease)| there.get(id) != Some(lease));
        let changes: Vec<_> = gone.chain(come.map(|(id, lease)| (*id, Some(lease.clone())))).collect();
        for changes in changes.chunks(PAGE) {
            self.target.leases(&changes.iter().cloned().collect())?;
        }
        let here = self.leases_here()?;
        if here != wanted {
            bail!("the target has {} leases, and not the {} of the source", here.len(), wanted.len());
        }
        self.figures.leases = wanted.len() as u64;
        Ok(())
    }

    fn leases_here(&mut self) -> Result<BTreeMap<LeaseId, Lease>> {
        self.reader.begin()?;
        let leases = self.reader.leases(0);
        self.reader.end();
        Ok(leases?.into_iter().map(|lease| (lease.id, lease)).collect())
    }

    /// Gives the target the collector's rows of the source, and looks whether they are the same then; false if that is
    /// not done by then. Of the memory the exact time does not matter: where the time shifts little, it stays.
    pub(super) fn take_queue(&mut self, until: Option<Instant>) -> Result<bool> {
        let shift = self.shift();
        let remembered = *self.remembered.get_or_insert(shift.0);
        for is_check in [false, true] {
            let tasks = self.differences(shift, |reader, after| reader.tasks(after, PAGE))?;
            let tombstones = self.differences(Shift(remembered), |reader, after| reader.tombstones(after, PAGE))?;
            (self.figures.tasks, self.figures.tombstones) = (tasks.count, tombstones.count);
            let is_same = [tasks.come.len(), tasks.gone.len(), tombstones.come.len(), tombstones.gone.len()] == [0; 4];
            if is_same {
                break;
            }
            if is_check {
                bail!("the target's collector has other work than the source's");
            }
            let late = || until.is_some_and(|until| Instant::now() >= until);
            for gone in tombstones.gone.chunks(PAGE) {
                self.target.queue(&Queue { tombstones_gone: gone.to_vec(), ..Queue::default() })?;
            }
            for come in tombstones.come.chunks(PAGE) {
                self.target.queue(&Queue { tombstones: come.to_vec(), ..Queue::default() })?;
                if late() {
                    return Ok(false);
                }
            }
            self.target.queue(&Queue { tasks: tasks.come, tasks_gone: tasks.gone, ..Queue::default() })?;
            if late() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn differences<T: Numbered>(
        &mut self,
        shift: Shift,
        read: impl Fn(&mut dyn crate::engine::store::Reader, i64) -> crate::engine::Result<Vec<T>>,
    ) -> Result<Difference<T>> {
        let Self { source, reader, .. } = self;
        reader.begin()?;
        let there = Rows::new(|after| read(source.as_mut(), after));
        let here = Rows::new(|after| read(reader.as_mut(), after));
        let found = difference(there, here, shift);
        reader.end();
        found
    }
}
