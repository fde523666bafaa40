//! Kubernetes' collector as a few rules that are applied until nothing changes. All objects are labelled custom
//! resources of one kind.

use std::collections::{BTreeMap, BTreeSet};

/// An object. Its number is its UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    pub(crate) namespace: &'static str,
    pub(crate) name: String,
    pub(crate) owners: Vec<Owner>,
    /// A finalizer of somebody else's.
    pub(crate) held: bool,
    pub(crate) deletion: Option<Policy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u64,
    pub(crate) name: String,
    pub(crate) block: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Background,
    Foreground,
    Orphan,
}

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) things: BTreeMap<u64, Thing>,
    /// Those that are gone, with their namespaces.
    gone: BTreeMap<u64, &'static str>,
}

enum Points {
    Solid,
    Waiting,
    Nowhere,
    GiveUp,
}

impl Cluster {
    /// A client's deletion.
    pub(crate) fn delete(&mut self, uid: u64, policy: Policy) {
        let Some(thing) = self.things.get_mut(&uid) else { return };
        thing.deletion = Some(policy);
        if policy == Policy::Background && !thing.held {
            self.remove(uid);
        }
        self.settle();
    }

    /// Somebody else's finalizer goes.
    pub(crate) fn lift(&mut self, uid: u64) {
        let Some(thing) = self.things.get_mut(&uid) else { return };
        thing.held = false;
        if thing.deletion == Some(Policy::Background) {
            self.remove(uid);
        }
        self.settle();
    }

    pub(crate) fn settle(&mut self) {
        loop {
            let uids: Vec<u64> = self.things.keys().copied().collect();
            let orphaned = uids.iter().any(|uid| self.orphan(*uid));
            let looked = uids.iter().any(|uid| self.look_at(*uid));
            // Owners go when all their dependents were looked at.
            let let_go = !orphaned && !looked && uids.iter().any(|uid| self.let_go(*uid));
            if !(orphaned || looked || let_go) {
                return;
            }
        }
    }

    fn remove(&mut self, uid: u64) {
        if let Some(thing) = self.things.remove(&uid) {
            self.gone.insert(uid, thing.namespace);
        }
    }

    fn dependents(&self, uid: u64) -> impl Iterator<Item = &Thing> {
        self.things.values().filter(move |thing| thing.owners.iter().any(|owner| owner.uid == uid))
    }

    /// The collector's own finalizer goes.
    fn finish(&mut self, uid: u64) {
        let Some(thing) = self.things.get_mut(&uid) else { return };
        thing.deletion = Some(Policy::Background);
        if !thing.held {
            self.remove(uid);
        }
    }

    fn orphan(&mut self, uid: u64) -> bool {
        if self.things.get(&uid).is_none_or(|thing| thing.deletion != Some(Policy::Orphan)) {
            return false;
        }
        for thing in self.things.values_mut() {
            thing.owners.retain(|owner| owner.uid != uid);
        }
        self.finish(uid);
        true
    }

    fn let_go(&mut self, uid: u64) -> bool {
        let waits = self.things.get(&uid).is_some_and(|thing| thing.deletion == Some(Policy::Foreground));
        let blocked =
            self.dependents(uid).any(|thing| thing.owners.iter().any(|owner| owner.uid == uid && owner.block));
        if waits && !blocked {
            self.finish(uid);
        }
        waits && !blocked
    }

    fn points(&self, from: &Thing, owner: &Owner) -> Points {
        let in_a_namespace = |namespace: &str| !namespace.is_empty() && from.namespace.is_empty();
        let Some(found) = self.things.get(&owner.uid) else {
            return match self.gone.get(&owner.uid) {
                Some(namespace) if in_a_namespace(namespace) => Points::GiveUp,
                Some(_) => Points::Nowhere,
                None => Points::Solid,
            };
        };
        if in_a_namespace(found.namespace) {
            return Points::GiveUp;
        }
        if found.name != owner.name || !(found.namespace.is_empty() || found.namespace == from.namespace) {
            return Points::Nowhere;
        }
        if found.deletion == Some(Policy::Foreground) { Points::Waiting } else { Points::Solid }
    }

    fn look_at(&mut self, uid: u64) -> bool {
        let Some(thing) = self.things.get(&uid).filter(|thing| thing.deletion.is_none()) else { return false };
        let (mut good, mut bad, mut waiting) = (BTreeSet::new(), BTreeSet::new(), false);
        for owner in &thing.owners {
            match self.points(thing, owner) {
                Points::GiveUp => return false,
                Points::Solid => good.insert(owner.uid),
                Points::Nowhere => bad.insert(owner.uid),
                Points::Waiting => {
                    waiting = true;
                    bad.insert(owner.uid)
                }
            };
        }
        bad.retain(|uid| !good.contains(uid));
        if bad.is_empty() {
            return false;
        }
        let in_foreground = waiting && self.dependents(uid).next().is_some();
        let ring = self.dependents(uid).any(|thing| thing.deletion == Some(Policy::Foreground));
        let Some(thing) = self.things.get_mut(&uid) else { return false };
        if !good.is_empty() {
            thing.owners.retain(|owner| !bad.contains(&owner.uid));
        } else if in_foreground {
            thing.deletion = Some(Policy::Foreground);
            for owner in &mut thing.owners {
                owner.block &= !ring;
            }
        } else if thing.held {
            thing.deletion = Some(Policy::Background);
        } else {
            self.remove(uid);
        }
        true
    }
}
