//! What etcd does with one call, in the words of its data model.

use std::collections::BTreeMap;

use bytes::Bytes;
use sluice_shim::pb::mvccpb::{Event, KeyValue};

use super::history::{Answer, Call, Keys, Write};

const PUT: i32 = 0;
const DELETE: i32 = 1;

/// The live keys.
pub(crate) type State = BTreeMap<Bytes, KeyValue>;

/// The states after each revision, the first is revision 1: empty.
pub(crate) struct States(Vec<State>);

impl States {
    pub(crate) fn new() -> Self {
        Self(vec![State::new()])
    }

    pub(crate) fn newest(&self) -> i64 {
        self.0.len() as i64
    }

    /// The state at a revision, if that has been.
    pub(crate) fn at(&self, revision: i64) -> Option<&State> {
        self.0.get(usize::try_from(revision).ok()?.checked_sub(1)?)
    }

    /// Adds the next revision.
    pub(crate) fn push(&mut self, events: &[Event]) {
        let mut state = self.0.last().cloned().unwrap_or_default();
        for kv in events.iter().map(|event| (event.r#type, event.kv.clone().unwrap_or_default())) {
            match kv {
                (PUT, kv) => state.insert(kv.key.clone(), kv),
                (_, kv) => state.remove(&kv.key),
            };
        }
        self.0.push(state);
    }
}

/// The answer to a call in a state, and the events that it causes if it gets the given revision.
/// A read of an old revision is to be given the state of then.
pub(crate) fn apply(call: &Call, state: &State, revision: i64) -> (Answer, Vec<Event>) {
    match call {
        Call::Range { keys, .. } => {
            let kvs = within(state, keys);
            (Answer::Range { count: kvs.len() as i64, kvs }, vec![])
        }
        Call::Watch { .. } => (Answer::Watching, vec![]),
        Call::Put { key, value, lease } => {
            let event = put(state, key.clone(), value.clone(), *lease, revision);
            (Answer::Put(state.get(key).cloned()), vec![event])
        }
        Call::Grant { .. } => (Answer::Granted, vec![]),
        Call::Compact { .. } => (Answer::Compacted, vec![]),
        // What it answers is in the history itself.
        Call::Replay { .. } => (Answer::Replayed(vec![]), vec![]),
        Call::Revoke { lease } => {
            let attached = state.values().filter(|kv| kv.lease == *lease);
            (Answer::Revoked, attached.map(|kv| deleted(kv, revision)).collect())
        }
        Call::Delete { keys } => {
            let gone = within(state, keys);
            let events = gone.iter().map(|previous| deleted(previous, revision)).collect();
            (Answer::Delete(gone), events)
        }
        Call::Cas { key, expected, writes } => {
            let current = state.get(key);
            if current.map_or(0, |kv| kv.mod_revision) != *expected {
                return (Answer::NotEqual(current.cloned()), vec![]);
            }
            let previous = writes.iter().map(|write| state.get(write.key()).cloned()).collect();
            let event = |write: &Write| match write {
                Write::Put(key, value) => Some(put(state, key.clone(), value.clone(), 0, revision)),
                Write::Delete(key) => state.get(key).map(|previous| deleted(previous, revision)),
            };
            (Answer::Succeeded(previous), writes.iter().filter_map(event).collect())
        }
    }
}

fn within(state: &State, keys: &Keys) -> Vec<KeyValue> {
    state.values().filter(|kv| keys.contains(&kv.key)).cloned().collect()
}

fn put(state: &State, key: Bytes, value: Bytes, lease: i64, revision: i64) -> Event {
    let previous = state.get(&key).cloned();
    let (create_revision, version) =
        previous.as_ref().map_or((revision, 1), |previous| (previous.create_revision, previous.version + 1));
    let kv = KeyValue { key, value, create_revision, mod_revision: revision, version, lease };
    Event { r#type: PUT, kv: Some(kv), prev_kv: previous }
}

fn deleted(previous: &KeyValue, revision: i64) -> Event {
    let kv = KeyValue { key: previous.key.clone(), mod_revision: revision, ..KeyValue::default() };
    Event { r#type: DELETE, kv: Some(kv), prev_kv: Some(previous.clone()) }
}
