//! What the collector makes of a commit's signals: tombstones and tasks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::known::living;
use crate::gc::{Coordinates, Edge, Signal, TaskKind, TaskState, Uid, What};
use crate::sql::failure::Result;
use crate::sql::session::{Graph, Heard, Started};

/// Reads what the signals of a commit need to be understood, after its rows were written, and says what follows.
pub(in crate::sql) fn hear<'a>(graph: &mut dyn Graph, signals: &'a [Signal]) -> Result<Started<'a>> {
    let (uids, owners) = asked(signals);
    let heard = graph.heard(&uids, &owners)?;
    let unusual = unusual(signals, &heard);
    let mut places: BTreeMap<Uid, Vec<Coordinates>> = BTreeMap::new();
    living(graph, &unusual, &mut |uid, _, at| places.entry(uid).or_default().extend(at))?;
    Ok(started(signals, heard, &places))
}

/// The UIDs whose dependents and tasks matter, and those of owners that may be gone. Each once.
pub(super) fn asked(signals: &[Signal]) -> (Vec<&Uid>, Vec<&Uid>) {
    let (mut uids, mut owners) = (Vec::new(), Vec::new());
    for signal in signals {
        match &signal.what {
            What::Refers { owners: edges, .. } => owners.extend(edges.iter().map(|edge| &edge.owner)),
            What::Removed { .. } | What::Orphaning | What::Foreground | What::Held | What::Policy | What::Hidden => {
                uids.push(&signal.uid);
            }
        }
    }
    for list in [&mut uids, &mut owners] {
        list.sort_unstable();
        list.dedup();
    }
    (uids, owners)
}

/// The owners that are alive at keys which do not tell whether a reference is right.
pub(super) fn unusual<'a>(signals: &'a [Signal], heard: &Heard) -> Vec<&'a Uid> {
    let mut unusual = Vec::new();
    for signal in signals {
        if let What::Refers { namespace, owners } = &signal.what {
            let is_unusual = |edge: &&Edge| {
                let keys = heard.keys.get(&edge.owner);
                keys.is_some_and(|keys| !keys.is_empty() && !is_beside(keys, namespace, edge))
            };
            unusual.extend(owners.iter().filter(is_unusual).map(|edge| &edge.owner));
        }
    }
    unusual.sort_unstable();
    unusual.dedup();
    unusual
}

/// Whether an owner in the same namespace has the key that its name gives it: then its value need not be read.
fn is_beside(keys: &[Bytes], namespace: &str, edge: &Edge) -> bool {
    let is_usual = |key: &Bytes| {
        let directory = key.strip_suffix(edge.name.as_bytes()).and_then(|key| key.strip_suffix(b"/"));
        directory.and_then(|key| key.strip_suffix(namespace.as_bytes())).is_some_and(|key| key.ends_with(b"/"))
    };
    !namespace.is_empty() && keys.iter().any(is_usual)
}

/// What follows from signals, in their order. `places`: where the live owners are whose keys do not tell.
pub(super) fn started<'a>(
    signals: &'a [Signal],
    heard: Heard,
    places: &BTreeMap<Uid, Vec<Coordinates>>,
) -> Started<'a> {
    let mut queue = Queue {
        heard,
        places,
        tombstones: BTreeSet::new(),
        dropped: BTreeSet::new(),
        begun: BTreeMap::new(),
        started: Started::default(),
    };
    for signal in signals {
        queue.hear(signal);
    }
    Started { dropped: queue.dropped.into_iter().collect(), ..queue.started }
}

/// The queue, as the signals so far make it.
struct Queue<'a, 'p> {
    /// What the database knew; its tasks are those that there are now.
    heard: Heard,
    places: &'p BTreeMap<Uid, Vec<Coordinates>>,
    /// Objects that are gone by these signals.
    tombstones: BTreeSet<&'a Uid>,
    /// Tasks that went by these signals, some of which may have come again.
    dropped: BTreeSet<(&'a Uid, TaskKind)>,
    /// The places of the tasks in `started`.
    begun: BTreeMap<(&'a Uid, TaskKind), usize>,
    started: Started<'a>,
}

impl<'a> Queue<'a, '_> {
    fn hear(&mut self, signal: &'a Signal) {
        match &signal.what {
            What::Removed { namespaced, begun } => {
                self.started.tombstones.push((&signal.uid, &signal.key, *namespaced, signal.revision));
                self.tombstones.insert(&signal.uid);
                if *begun {
                    self.wake(&signal.uid);
                }
                // Dependents that are being orphaned stay.
                if self.has_dependents(signal) && !self.has(&signal.uid, TaskKind::Orphan) {
                    self.start(TaskKind::Cascade, signal);
                }
            }
            What::Orphaning => self.turn(TaskKind::Orphan, TaskKind::Foreground, signal),
            What::Foreground => self.turn(TaskKind::Foreground, TaskKind::Orphan, signal),
            What::Held => self.start(TaskKind::Foreground, signal),
            What::Policy => self.wake(&signal.uid),
            What::Refers { namespace, owners } => {
                if signal.hidden && owners.iter().any(|edge| self.is_doubtful(namespace, edge)) {
                    self.start(TaskKind::Recheck, signal);
                }
            }
            What::Hidden => {
                if signal.hidden {
                    self.start(TaskKind::Recheck, signal);
                }
                if self.has_dependents(signal) {
                    self.start(TaskKind::Cascade, signal);
                }
            }
        }
    }

    /// A deletion that waits for its dependents begins, or goes on in another way.
    fn turn(&mut self, kind: TaskKind, other: TaskKind, signal: &'a Signal) {
        self.drop(&signal.uid, other);
        if signal.hidden || self.has_dependents(signal) {
            self.start(kind, signal);
        }
    }

    /// Whether the object has dependents that are the collector's: all of a hidden object's, else those with the label.
    fn has_dependents(&self, signal: &Signal) -> bool {
        let dependents = self.heard.dependents.get(&signal.uid);
        dependents.is_some_and(|(without, with)| *with || (signal.hidden && *without))
    }

    fn has(&self, uid: &Uid, kind: TaskKind) -> bool {
        self.heard.tasks.get(uid).is_some_and(|tasks| tasks.contains_key(&kind))
    }

    /// Whether an owner is gone, or is not where a reference from the namespace says
    /// (pkg/controller/garbagecollector/graph_builder.go, `addDependentToOwners`).
    fn is_doubtful(&self, namespace: &str, edge: &Edge) -> bool {
        let Some(keys) = self.heard.keys.get(&edge.owner).filter(|keys| !keys.is_empty()) else {
            return self.heard.tombstones.contains(&edge.owner) || self.tombstones.contains(&edge.owner);
        };
        let fits = |at: &Coordinates| at.name == *edge.name && (at.namespace.is_empty() || at.namespace == namespace);
        !is_beside(keys, namespace, edge) && !self.places.get(&edge.owner).into_iter().flatten().any(fits)
    }

    /// Adds a task, or lets the one that is there begin again.
    fn start(&mut self, kind: TaskKind, signal: &'a Signal) {
        let Signal { uid, key, revision, hidden, .. } = signal;
        self.heard.tasks.entry(uid.clone()).or_default().insert(kind, TaskState::Ready);
        let at = *self.begun.entry((uid, kind)).or_insert(self.started.tasks.len());
        match self.started.tasks.get_mut(at) {
            // What caused it stays.
            Some(task) => (task.2, task.3) = (key, *hidden),
            None => self.started.tasks.push((uid, kind, key, *hidden, *revision)),
        }
    }

    fn drop(&mut self, uid: &'a Uid, kind: TaskKind) {
        if self.heard.tasks.get_mut(uid).and_then(|tasks| tasks.remove(&kind)).is_some() {
            self.dropped.insert((uid, kind));
            if let Some(gone) = self.begun.remove(&(uid, kind)) {
                self.started.tasks.remove(gone);
                self.begun.values_mut().filter(|at| **at > gone).for_each(|at| *at -= 1);
            }
        }
    }

    /// Lets the tasks about an object go on.
    fn wake(&mut self, uid: &'a Uid) {
        let tasks = self.heard.tasks.get_mut(uid).into_iter().flat_map(BTreeMap::values_mut);
        let asleep = tasks.filter(|state| **state != TaskState::Ready);
        if asleep.map(|state| *state = TaskState::Ready).count() > 0 {
            self.started.woken.push(uid);
        }
    }
}
