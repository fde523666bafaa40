//! Compactions raise one number that never falls: what is below it can't be read any more.

use std::collections::HashSet;

use super::history::{Call, History, Message, Operation, Outcome, Refusal};

/// Says what can't be with one such number. A compaction that was answered is over; one that has begun may be.
pub(crate) fn check(history: &History) -> Result<(), String> {
    let compactions: Vec<(i64, &Operation)> = history.operations.iter().filter_map(compaction).collect();
    // Compacted above the revision (or at it, for another compaction).
    let over = |operation: &Operation, least: i64| {
        let mut others =
            compactions.iter().filter(|(revision, other)| *revision >= least && other.began != operation.began);
        others.find(|(_, other)| matches!(other.outcome, Outcome::Answered(..)) && other.ended < operation.began)
    };
    let begun = |operation: &Operation, least: i64| {
        let mut others =
            compactions.iter().filter(|(revision, other)| *revision >= least && other.began != operation.began);
        others.any(|(_, other)| other.began < operation.ended)
    };
    for operation in &history.operations {
        let least = match operation.call {
            Call::Compact { revision } => revision,
            Call::Replay { revision } | Call::Range { revision, .. } if revision > 0 => revision + 1,
            _ => continue,
        };
        match operation.outcome {
            Outcome::Answered(..) => {
                if let Some((revision, other)) = over(operation, least) {
                    return Err(format!("compacted at {revision} before it began: {operation:?}\n{other:?}"));
                }
            }
            Outcome::Refused(Refusal::Compacted) if !begun(operation, least) => {
                return Err(format!("nobody compacted that: {operation:?}"));
            }
            _ => {}
        }
    }
    let answered = compactions.iter().filter(|(_, operation)| matches!(operation.outcome, Outcome::Answered(..)));
    let mut twice: Vec<i64> = answered.map(|(revision, _)| *revision).collect();
    twice.sort_unstable();
    if let Some(pair) = twice.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two compactions at {} were answered", pair[0]));
    }
    for message in history.watches.iter().flat_map(|watch| &watch.messages) {
        if let Message::Gap(gap) = message
            && !compactions.iter().any(|(revision, _)| revision == gap)
        {
            return Err(format!("a watch was told that {gap} is compacted; nobody did that"));
        }
    }
    Ok(())
}

/// The revisions of all that happened, or may have.
pub(crate) fn revisions(operations: &[Operation]) -> HashSet<i64> {
    operations.iter().filter_map(compaction).map(|(revision, _)| revision).collect()
}

/// One that happened, or may have.
fn compaction(operation: &Operation) -> Option<(i64, &Operation)> {
    match (&operation.call, &operation.outcome) {
        (Call::Compact { revision }, Outcome::Answered(..) | Outcome::Unknown) => Some((*revision, operation)),
        _ => None,
    }
}
