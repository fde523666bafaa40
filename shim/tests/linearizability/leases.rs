//! A lease is granted once, and ends once: revoked, or when its time is over. Nothing is attached to it before or
//! after.

use std::collections::HashMap;

use sluice_shim::pb::mvccpb::Event;

use super::history::{Call, Operation, Outcome, Refusal};

/// How far the clocks of the test and the server may be apart, in milliseconds: both round.
const ROUNDING: u64 = 5;

/// Whether the time of a lease may be over at a moment of [`Operation::sent`]'s clock. It began when the grant was
/// sent, at the earliest.
pub(crate) fn may_be_over(grant: &Operation, ttl: u64, moment: u64) -> bool {
    moment.saturating_add(ROUNDING) >= grant.sent + 1000 * ttl
}

/// Says what can't be. Which revisions were made by ends of leases is for the caller.
pub(crate) fn check(operations: &[Operation], events: &[Event]) -> Result<(), String> {
    let mut leases: HashMap<i64, Lease<'_>> = HashMap::new();
    for operation in operations {
        match operation.call {
            Call::Grant { lease, ttl } => leases.entry(lease).or_default().grant = Some((operation, ttl)),
            Call::Revoke { lease } if happened(operation) => leases.entry(lease).or_default().revoked.push(operation),
            _ => {}
        }
    }
    for operation in operations {
        let (Call::Put { lease, .. } | Call::Revoke { lease }) = operation.call else { continue };
        let Some(found) = leases.get(&lease).filter(|_| lease != 0) else { continue };
        match operation.outcome {
            Outcome::Answered(..) => found.must_live(operation)?,
            Outcome::Refused(Refusal::NoLease) => found.may_be_missing(operation)?,
            _ => {}
        }
    }
    for kv in events.iter().filter_map(|event| event.kv.as_ref()).filter(|kv| kv.lease != 0) {
        let Some(lease) = leases.get(&kv.lease) else { return Err(format!("nobody granted the lease of {kv:?}")) };
        if lease.end().is_some_and(|end| kv.mod_revision > end) {
            return Err(format!("it was attached to a lease that had ended: {kv:?}"));
        }
    }
    Ok(())
}

/// All that was done with one lease.
#[derive(Default)]
struct Lease<'a> {
    grant: Option<(&'a Operation, u64)>,
    /// Revocations that happened, or may have.
    revoked: Vec<&'a Operation>,
}

impl Lease<'_> {
    /// The revision at which it was revoked, if an answer says so.
    fn end(&self) -> Option<i64> {
        self.revoked.iter().find_map(|operation| match operation.outcome {
            Outcome::Answered(revision, _) => Some(revision),
            _ => None,
        })
    }

    /// Checks a call that found the lease.
    fn must_live(&self, operation: &Operation) -> Result<(), String> {
        let Some((grant, _)) = self.grant.filter(|(grant, _)| grant.began < operation.ended) else {
            return Err(format!("the lease was not granted yet: {operation:?}"));
        };
        let before =
            |other: &&&Operation| matches!(other.outcome, Outcome::Answered(..)) && other.ended < operation.began;
        match self.revoked.iter().find(before) {
            Some(other) => Err(format!("the lease was revoked before: {operation:?}\n{other:?}\n{grant:?}")),
            None => Ok(()),
        }
    }

    /// Checks a call that did not find the lease.
    fn may_be_missing(&self, operation: &Operation) -> Result<(), String> {
        let Some((grant, ttl)) = self.grant else { return Ok(()) };
        let granted = matches!(grant.outcome, Outcome::Answered(..)) && grant.ended < operation.began;
        let revoked = self.revoked.iter().any(|other| other.began != operation.began && other.began < operation.ended);
        if granted && !revoked && !may_be_over(grant, ttl, operation.done) {
            return Err(format!("the lease is not there: {operation:?}\n{grant:?}"));
        }
        Ok(())
    }
}

fn happened(operation: &Operation) -> bool {
    matches!(operation.outcome, Outcome::Answered(..) | Outcome::Unknown)
}
