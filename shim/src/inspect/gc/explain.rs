//! `sluice-shim gc explain`: the collector's own rules, applied to one object and told.

use std::io::{Result, Write};

use crate::contract::SKIP_METADATA_CACHING_LABEL as LABEL;
use crate::gc::{
    Action, Coordinates, DEFINITIONS, Known, Node, Rules, Uid, Verdict, View, Why, decide, group, verdict,
};
use crate::object::{self, ObjectMeta, OwnerReference};

/// Who looks after an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// It is hidden: the collector.
    Ours,
    /// It is visible, and the collector helps if an owner is hidden.
    Shared,
    /// The controller manager alone.
    Theirs,
    /// Nobody: its kind is left out.
    Nobodys,
}

/// Prints what the collector thinks of the object at the key.
pub(super) fn print(out: &mut dyn Write, key: &str, view: &View, rules: &Rules) -> Result<()> {
    writeln!(out, "{key} at revision {}", view.revision)?;
    let Some((value, revision)) = &view.live else {
        match &view.deleted {
            Some((uid, revision)) => writeln!(out, "  deleted at revision {revision}; its UID was {uid}")?,
            None => writeln!(out, "  not there, and nothing is remembered of it")?,
        }
        return surroundings(out, view);
    };
    let Some(meta) = object::decode(value) else {
        let why = "its value can't be read (encrypted, or no object): it is never collected, and neither are its dependents on its account";
        return writeln!(out, "  {why}");
    };
    writeln!(out, "  {} {}, UID {}, changed at revision {revision}", meta.kind, place(&meta), meta.uid)?;
    let whose = introduce(out, &meta, rules)?;
    if meta.deletion_timestamp.is_some() {
        writeln!(out, "  it is being deleted")?;
    }
    if !meta.finalizers.is_empty() {
        writeln!(out, "  finalizers: {}", meta.finalizers.join(", "))?;
    }
    for reference in &meta.owner_references {
        writeln!(
            out,
            "  owner {} {}, UID {}: {}",
            reference.kind,
            reference.name,
            reference.uid,
            judge(&meta, reference, view)
        )?;
    }
    surroundings(out, view)?;
    writeln!(out, "  if it were looked at now: {}", outcome(&meta, whose, view))
}

fn introduce(out: &mut dyn Write, meta: &ObjectMeta<'_>, rules: &Rules) -> Result<Whose> {
    let of = group(&meta.api_version);
    let labelled = meta.label(LABEL).is_some();
    if Node::of(meta).is_some_and(|node| rules.ignores(&node)) {
        writeln!(out, "  left out: objects of its kind own nothing and are owned by nothing")?;
        return Ok(Whose::Nobodys);
    }
    let is_definition = of == DEFINITIONS;
    let (whose, text) = match (rules.hides(of, labelled), labelled, rules.typed(of) || is_definition) {
        (true, ..) if is_definition => (
            Whose::Nobodys,
            "left alone: it has the label, which hides it from the controller manager, and the API server alone removes \
             it with its objects",
        ),
        (true, ..) => (Whose::Ours, "hidden: it has the label, so the collector looks after it"),
        (false, true, _) => {
            (Whose::Theirs, "visible: it has the label, but the controller manager sees its kind all the same")
        }
        (false, false, true) => {
            (Whose::Theirs, "visible: it lacks the label, so the controller manager looks after it")
        }
        (false, false, false) => (
            Whose::Shared,
            "visible: it lacks the label, so the controller manager looks after it, and the collector if a hidden owner goes",
        ),
    };
    writeln!(out, "  {text}")?;
    Ok(whose)
}

fn known<'v>(view: &'v View, reference: &OwnerReference<'_>) -> Option<&'v Known> {
    let uid = Uid::parse(&reference.uid)?;
    view.owners.iter().find(|(of, _)| *of == uid).map(|(_, known)| known)
}

/// What a reference points to, and why.
fn judge(meta: &ObjectMeta<'_>, reference: &OwnerReference<'_>, view: &View) -> String {
    let Some(known) = known(view, reference) else {
        let why = if reference.uid.is_empty() { "it has no UID" } else { "its UID is too long to be looked for" };
        return format!("unknown: {why}; it counts as living");
    };
    let other = known.live.first().map(name);
    match (verdict(&meta.namespace, reference, known), other) {
        (Verdict::Solid, _) => "alive".to_owned(),
        (Verdict::Waiting, _) => "alive, but it is being deleted and waits for its dependents".to_owned(),
        (Verdict::Dead, Some(other)) => {
            format!("dead: the UID is that of {other}, which is not where the reference says")
        }
        (Verdict::Dead, None) => "dead: it was deleted".to_owned(),
        (Verdict::Orphaned, _) => "gone: it leaves its dependents alone".to_owned(),
        (Verdict::Unknown, Some(other)) => {
            format!(
                "unknown: the UID is that of {other}, and whether the kind exists only the API server knows; it counts as living"
            )
        }
        (Verdict::Unknown, None) => {
            "unknown: no object in this database has the UID, or had it lately; it counts as living".to_owned()
        }
        (Verdict::Unserved, _) => {
            format!(
                "the version {} is not served, or not known to be: nothing is done with the object",
                reference.api_version
            )
        }
        (Verdict::Unresolvable, _) => {
            "in a namespace, which an owner of an object in none can't be: such an object is never collected".to_owned()
        }
    }
}

/// Dependents and tasks.
fn surroundings(out: &mut dyn Write, view: &View) -> Result<()> {
    let (visible, labelled) = view.dependents;
    writeln!(out, "  dependents: {labelled} with the label, {visible} without")?;
    for dependent in &view.first_dependents {
        let blocks = if dependent.block { " (blocks a foreground deletion)" } else { "" };
        writeln!(out, "    {}{blocks}", dependent.place.key.escape_ascii())?;
    }
    let more = visible + labelled - i64::try_from(view.first_dependents.len()).unwrap_or(i64::MAX);
    if more > 0 {
        writeln!(out, "    and {more} more")?;
    }
    for task in &view.tasks {
        writeln!(out, "  task: {}", super::line(task, view.now))?;
    }
    Ok(())
}

/// What the collector would do.
fn outcome(meta: &ObjectMeta<'_>, whose: Whose, view: &View) -> String {
    match whose {
        Whose::Nobodys => return "nothing".to_owned(),
        Whose::Theirs => return "nothing; the controller manager decides".to_owned(),
        Whose::Ours | Whose::Shared => {}
    }
    let what = match decide(meta, view.below, |reference| known(view, reference)) {
        Action::Keep(Why::NoOwners) => "kept: it has no owners".to_owned(),
        Action::Keep(Why::Owned) => "kept: its owners live, or count as living".to_owned(),
        Action::Keep(Why::Deleting) => "kept: it is being deleted, and goes with its last finalizer".to_owned(),
        Action::Keep(Why::Unresolvable) => "kept: one of its owners is in a namespace, and it is not".to_owned(),
        Action::Keep(Why::Unserved) => {
            "kept: one of its owners is named in a version that is not served, or not known to be".to_owned()
        }
        Action::Drop(owners) => format!("kept, without its references to {}", owners.join(", ")),
        Action::Delete => "deleted".to_owned(),
        Action::Mark => "marked as being deleted; its finalizers hold it".to_owned(),
        Action::Foreground(_) => "marked as being deleted, after its own dependents".to_owned(),
    };
    if whose == Whose::Shared {
        format!("{what} (on account of a hidden owner; else the controller manager decides)")
    } else {
        what
    }
}

fn place(meta: &ObjectMeta<'_>) -> String {
    slashed(&meta.namespace, &meta.name)
}

fn name(at: &Coordinates) -> String {
    let group = if at.group.is_empty() { String::new() } else { format!(".{}", at.group) };
    format!("the {}{group} {}", at.kind, slashed(&at.namespace, &at.name))
}

fn slashed(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}
