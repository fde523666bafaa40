//! Whether a history can be that of one etcd. The reasons are in the documentation of the crate.

use std::collections::{HashMap, HashSet};

use sluice_shim::pb::mvccpb::Event;

use super::history::{Answer, Call, History, Message, Operation, Outcome, WatchRecord, Write};
use super::model::{State, States, apply};
use super::{compactions, leases};

/// Says what is wrong with the history, or returns its newest revision.
pub(crate) fn check(history: &History) -> Result<i64, String> {
    let mut states = States::new();
    let mut groups = Vec::new();
    for events in history.events.chunk_by(|a, b| revision_of(a) == revision_of(b)) {
        let (found, expected) = (revision_of(&events[0]), states.newest() + 1);
        if found != expected {
            return Err(format!("the history goes on with revision {found} where {expected} belongs: {events:?}"));
        }
        states.push(events);
        groups.push(events);
    }
    let floors = floors(&history.operations);
    let checker = Checker { states, groups, floors, operations: &history.operations, heard: &history.heard };
    let owners = checker.owners()?;
    checker.answers(&owners)?;
    leases::check(&history.operations, &history.events)?;
    compactions::check(history)?;
    let compacted = compactions::revisions(&history.operations);
    history.watches.iter().try_for_each(|watch| check_watch(watch, &history.events, &compacted))?;
    Ok(checker.states.newest())
}

struct Checker<'a> {
    states: States,
    /// The events of each revision, from revision 2 on.
    groups: Vec<&'a [Event]>,
    operations: &'a [Operation],
    floors: Vec<i64>,
    heard: &'a HashMap<i64, u64>,
}

impl Checker<'_> {
    /// Every revision is of one write, and every answered write has its revision.
    fn owners(&self) -> Result<HashMap<i64, &Operation>, String> {
        let mut owners: HashMap<i64, &Operation> = HashMap::new();
        for (operation, floor) in self.operations.iter().zip(&self.floors) {
            let Outcome::Answered(revision, answer) = &operation.outcome else { continue };
            if !wrote(&operation.call, answer) {
                continue;
            }
            if let Some(other) = owners.insert(*revision, operation) {
                return Err(format!("two writes got revision {revision}:\n{other:?}\n{operation:?}"));
            }
            if revision <= floor {
                return Err(format!("it began after revision {floor} was seen, but wrote before: {operation:?}"));
            }
            let Some(events) = self.group(*revision) else {
                return Err(format!("lost: the history ends at {}: {operation:?}", self.states.newest()));
            };
            if !self.is_cause(&operation.call, *revision) {
                return Err(format!("it is not what made revision {revision}: {operation:?}\n{events:?}"));
            }
        }
        // The answer to a revocation does not say whether keys were attached. If they were, nobody else made the
        // revision.
        for operation in self.operations {
            let revoked = matches!(operation.outcome, Outcome::Answered(_, Answer::Revoked));
            if let Outcome::Answered(revision, _) = operation.outcome
                && revoked
                && self.is_cause(&operation.call, revision)
            {
                owners.entry(revision).or_insert(operation);
            }
        }
        let orphans: Vec<_> = (2..=self.states.newest()).filter(|revision| !owners.contains_key(revision)).collect();
        self.adopt(&orphans)?;
        Ok(owners)
    }

    /// Finds a different write of unknown outcome, or the end of a lease, for each revision that no answered write
    /// made.
    fn adopt(&self, orphans: &[i64]) -> Result<(), String> {
        let unknown: Vec<_> =
            (0..self.operations.len()).filter(|&i| matches!(self.operations[i].outcome, Outcome::Unknown)).collect();
        let mut children = HashMap::new();
        for &revision in orphans {
            let candidates = |revision: i64| {
                let fits =
                    move |&&i: &&usize| self.floors[i] < revision && self.is_cause(&self.operations[i].call, revision);
                let ended = (0..self.operations.len()).filter(|&i| self.is_expiry(&self.operations[i], revision));
                // The end of the lease that the operation granted is numbered after all operations.
                let ended = ended.map(|i| self.operations.len() + i);
                unknown.iter().filter(fits).copied().chain(ended).collect::<Vec<_>>()
            };
            if !assign(revision, &candidates, &mut children, &mut vec![]) {
                return Err(format!("nobody made revision {revision}: {:?}", self.group(revision)));
            }
        }
        Ok(())
    }

    /// Every answer is that of the state at its revision, and no older than what had been seen before.
    fn answers(&self, owners: &HashMap<i64, &Operation>) -> Result<(), String> {
        for (operation, floor) in self.operations.iter().zip(&self.floors) {
            let (revision, answer) = match &operation.outcome {
                Outcome::Answered(revision, answer) => (*revision, answer),
                Outcome::Unknown | Outcome::Refused(_) => continue,
                Outcome::Failed(why) => return Err(format!("failed: {why}: {operation:?}")),
            };
            if revision < *floor {
                return Err(format!("stale: revision {floor} had been seen before it began: {operation:?}"));
            }
            if revision > self.states.newest() {
                return Err(format!("lost: the history ends at {}: {operation:?}", self.states.newest()));
            }
            let owner = owners.get(&revision).is_some_and(|owner| std::ptr::eq(*owner, operation));
            let before = match operation.call {
                Call::Range { revision: old, .. } if old != 0 => old,
                Call::Revoke { .. } if owner => revision - 1,
                _ if wrote(&operation.call, answer) => revision - 1,
                _ => revision,
            };
            let expected = self.states.at(before).map(|state| self.expected(&operation.call, state, revision));
            if expected.as_ref() != Some(answer) {
                return Err(format!("wrong answer: {operation:?}\nexpected: {expected:?}"));
            }
            if matches!(operation.call, Call::Revoke { .. }) && !owner && self.would_write(&operation.call, revision) {
                return Err(format!("keys are attached to the lease still: {operation:?}"));
            }
        }
        Ok(())
    }

    fn expected(&self, call: &Call, state: &State, revision: i64) -> Answer {
        let Call::Replay { revision: old } = call else { return apply(call, state, revision).0 };
        let events = self.group(*old).unwrap_or_default().iter();
        Answer::Replayed(events.map(|event| Event { prev_kv: None, ..event.clone() }).collect())
    }

    fn would_write(&self, call: &Call, revision: i64) -> bool {
        self.states.at(revision).is_some_and(|state| !apply(call, state, revision + 1).1.is_empty())
    }

    /// Whether the revision may be the end of the lease that the operation granted: its keys are gone, and its time is
    /// over.
    fn is_expiry(&self, grant: &Operation, revision: i64) -> bool {
        let Call::Grant { lease, ttl } = grant.call else { return false };
        let heard = self.heard.get(&revision).copied().unwrap_or(u64::MAX);
        !matches!(grant.outcome, Outcome::Refused(_) | Outcome::Failed(_))
            && leases::may_be_over(grant, ttl, heard)
            && self.is_cause(&Call::Revoke { lease }, revision)
    }

    fn group(&self, revision: i64) -> Option<&[Event]> {
        self.groups.get(usize::try_from(revision).ok()?.checked_sub(2)?).copied()
    }

    /// Whether the call at that revision causes just the events that are there, previous values included.
    fn is_cause(&self, call: &Call, revision: i64) -> bool {
        let events = self.states.at(revision - 1).map(|state| apply(call, state, revision).1);
        events.as_deref() == self.group(revision)
    }
}

/// One step of Kuhn's matching: gives the revision an operation, for which others may have to change theirs.
fn assign(
    revision: i64,
    candidates: &dyn Fn(i64) -> Vec<usize>,
    children: &mut HashMap<usize, i64>,
    seen: &mut Vec<usize>,
) -> bool {
    for operation in candidates(revision) {
        if seen.contains(&operation) {
            continue;
        }
        seen.push(operation);
        let free = match children.get(&operation).copied() {
            None => true,
            Some(other) => assign(other, candidates, children, seen),
        };
        if free {
            children.insert(operation, revision);
            return true;
        }
    }
    false
}

/// Whether the answer says that a revision was made.
fn wrote(call: &Call, answer: &Answer) -> bool {
    match (call, answer) {
        (_, Answer::Put(_)) => true,
        (_, Answer::Delete(gone)) => !gone.is_empty(),
        // What is compared with a revision other than 0 exists.
        (Call::Cas { expected, writes, .. }, Answer::Succeeded(_)) => {
            *expected != 0 || writes.iter().any(|write| matches!(write, Write::Put(..)))
        }
        _ => false,
    }
}

/// For each operation the newest revision that was answered before it began.
fn floors(operations: &[Operation]) -> Vec<i64> {
    let mut answered: Vec<_> = operations
        .iter()
        .filter_map(|operation| match operation.outcome {
            Outcome::Answered(revision, _) => Some((operation.ended, revision)),
            _ => None,
        })
        .collect();
    answered.sort_unstable();
    let mut newest = 1;
    for (_, revision) in &mut answered {
        newest = newest.max(*revision);
        *revision = newest;
    }
    let floor = |operation: &Operation| {
        let before = answered.partition_point(|(ended, _)| *ended < operation.began);
        before.checked_sub(1).map_or(1, |last| answered[last].1)
    };
    operations.iter().map(floor).collect()
}

/// Each event of the watched keys once, in order, with its previous value if asked for, and nothing else.
///
/// A watch may begin at the revision of a compaction, and what was before that revision is gone: etcd reads a previous
/// value when it sends the event, and leaves it out if it can't (`sendLoop` in server/etcdserver/api/v3rpc/watch.go).
fn check_watch(watch: &WatchRecord, history: &[Event], compacted: &HashSet<i64>) -> Result<(), String> {
    let name = format!("watch of {:?} from {}", watch.keys, watch.from);
    if let Some(why) = &watch.failed {
        return Err(format!("{name} failed: {why}"));
    }
    let due = |event: &&Event| {
        revision_of(event) >= watch.from && event.kv.as_ref().is_some_and(|kv| watch.keys.contains(&kv.key))
    };
    let mut expected = history.iter().filter(due).peekable();
    for message in &watch.messages {
        match message {
            Message::Events(header, events) => {
                for event in events {
                    let left_out = event.prev_kv.is_none() && compacted.contains(&revision_of(event));
                    let wanted = expected.next().map(|wanted| Event {
                        prev_kv: wanted.prev_kv.clone().filter(|_| watch.prev_kv && !left_out),
                        ..wanted.clone()
                    });
                    if wanted.as_ref() != Some(event) {
                        return Err(format!("{name}: got {event:?}\nexpected {wanted:?}"));
                    }
                    if revision_of(event) > *header {
                        return Err(format!("{name}: the header has revision {header}: {event:?}"));
                    }
                }
            }
            Message::Gap(revision) => while expected.next_if(|event| revision_of(event) <= *revision).is_some() {},
            Message::Progress(revision) => {
                if let Some(missed) = expected.next_if(|event| revision_of(event) <= *revision) {
                    return Err(format!("{name}: progress to {revision} was said before {missed:?}"));
                }
            }
        }
    }
    expected.next().map_or(Ok(()), |missed| Err(format!("{name}: never got {missed:?}")))
}

/// The revision of an event.
pub(crate) fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
