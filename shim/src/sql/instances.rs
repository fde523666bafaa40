//! Which processes share a database on a server.
//!
//! A process with `--standby` says in the table `instance` that it is there. Who serves is in `meta`, with the time
//! when that process was last there.

use std::time::Duration;

use super::Lookout;
use super::failure::Result;
use super::remote::{SILENCE, Serving};
use crate::engine::instance::{Instance, Part};

/// How a process tells the others that it is there.
#[derive(Debug, Clone)]
pub struct Presence {
    /// Where others reach it.
    pub url: String,
    /// That URL with the number of the process, as `meta.address` has it while the process serves.
    pub(super) place: String,
    /// Its `--name`.
    pub name: String,
}

impl Presence {
    /// That of this process.
    pub fn of(url: &str, name: &str) -> Self {
        Self { url: url.to_owned(), place: super::remote::place(Some(url)), name: name.to_owned() }
    }
}

/// A row of the table `instance`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: String,
    pub(super) name: String,
    pub(super) version: String,
    /// When it last said that it is there, by the server's clock, in milliseconds.
    pub(super) seen_at: i64,
    /// Whether it took the place of the process that serves.
    pub(super) served: bool,
}

/// A connection on which processes tell each other that they are there.
pub(super) trait Meeting: Send {
    /// Who serves.
    fn look(&mut self) -> Result<Serving>;

    /// Writes that a process is there. The one that had its URL before is forgotten.
    /// `serves`: from now on it serves, and `meta` says when it was there.
    fn announce(&mut self, who: &Presence, serves: bool, version: &str) -> Result<()>;

    /// Writes that a process ends.
    fn leave(&mut self, who: &Presence) -> Result<()>;

    /// All that said that they are there.
    fn entries(&mut self) -> Result<Vec<Entry>>;
}

/// Who is there: the process that serves first, then the others by place. A process that served and whose place was
/// taken, or that ended in order, is left out.
pub(super) fn all(serving: &Serving, entries: Vec<Entry>) -> Vec<Instance> {
    let silent = |seen_at: i64| Duration::from_millis(u64::try_from(serving.now - seen_at).unwrap_or(0));
    let mut serves = serving.is_there().then(|| Instance {
        place: serving.place.clone(),
        name: None,
        version: None,
        part: Part::Serves,
        silent: silent(serving.seen_at),
    });
    let mut others = Vec::new();
    for Entry { place, name, version, seen_at, served } in entries {
        let (name, version) = (Some(name), Some(version));
        match &mut serves {
            Some(serves) if serves.place == place => (serves.name, serves.version) = (name, version),
            // Nobody took its place; the owner is 0 if it ended in order.
            None if serving.place == place && serving.owner > 0 => {
                others.push(Instance { place, name, version, part: Part::Silent, silent: silent(serving.seen_at) });
            }
            _ if served => {}
            _ => {
                let part = if serving.now - seen_at < SILENCE { Part::StandsBy } else { Part::Silent };
                others.push(Instance { place, name, version, part, silent: silent(seen_at) });
            }
        }
    }
    others.sort_by(|a, b| a.place.cmp(&b.place));
    serves.into_iter().chain(others).collect()
}

/// Meets the other processes on a connection that is made when it is needed, and made anew after an error.
pub(super) struct Looking<C> {
    connect: Box<dyn Fn() -> Result<C> + Send>,
    connection: Option<C>,
}

impl<C: Meeting> Looking<C> {
    pub(super) fn new(connect: impl Fn() -> Result<C> + Send + 'static) -> Self {
        Self { connect: Box::new(connect), connection: None }
    }

    fn meet<T>(&mut self, meet: impl FnOnce(&mut C) -> Result<T>) -> crate::engine::Result<T> {
        let mut connection = self.connection.take().map_or_else(&self.connect, Ok)?;
        let met = meet(&mut connection)?;
        self.connection = Some(connection);
        Ok(met)
    }
}

impl<C: Meeting> Lookout for Looking<C> {
    fn look(&mut self) -> crate::engine::Result<Option<String>> {
        let serving = self.meet(C::look)?;
        Ok(serving.is_there().then_some(serving.place))
    }

    fn announce(&mut self, who: &Presence, serves: bool) -> crate::engine::Result<()> {
        self.meet(|connection| connection.announce(who, serves, env!("CARGO_PKG_VERSION")))
    }

    fn leave(&mut self, who: &Presence) -> crate::engine::Result<()> {
        self.meet(|connection| connection.leave(who))
    }

    fn instances(&mut self) -> crate::engine::Result<Vec<Instance>> {
        self.meet(|connection| Ok(all(&connection.look()?, connection.entries()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_there() {
        let entry = |place: &str, seen_at, served| Entry {
            place: place.into(),
            name: "n".into(),
            version: "1".into(),
            seen_at,
            served,
        };
        let serving = |owner, seen_at| Serving { owner, seen_at, now: 100_000, place: "b".into(), connected: true };
        let entries = || {
            vec![
                entry("c", 99_000, false),
                entry("b", 10_000, true),
                entry("a", 70_000, false),
                entry("d", 99_000, true),
            ]
        };
        let seen = |serving, entries| {
            let all = all(&serving, entries);
            all.into_iter().map(|i| (i.place, i.part, i.silent.as_secs(), i.name.is_some())).collect::<Vec<_>>()
        };
        let (a, c) = (("a".to_owned(), Part::Silent, 30, true), ("c".to_owned(), Part::StandsBy, 1, true));
        let b = |part, silent, known| ("b".to_owned(), part, silent, known);
        assert_eq!(seen(serving(7, 98_000), entries()), [b(Part::Serves, 2, true), a.clone(), c.clone()]);
        assert_eq!(seen(serving(7, 50_000), entries()), [a.clone(), b(Part::Silent, 50, true), c.clone()]);
        assert_eq!(seen(serving(0, 0), entries()), [a, c]);
        assert_eq!(seen(serving(7, 98_000), vec![]), [b(Part::Serves, 2, false)]);
    }
}
