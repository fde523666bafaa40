//! `sluice-shim move-group`: moves the objects of a group to a database of their own.

use std::io::Write;

use anyhow::{Context as _, Result, bail};

use super::moving::leaving::{self, Copied};
use super::moving::{Bonds, Progress, Ranges, Survey};
use crate::config::{DatabaseFlags, TargetFlags, prefix};
use crate::sql;

/// Move the objects of a group, or of several, to a database of their own, which kube-apiserver then reaches by
/// --etcd-servers-overrides. Nobody may serve the store meanwhile: stop the API servers and the shim first. Revisions,
/// and with them resourceVersions, stay as they are. All is compared before it is removed from the store.
///
/// The target must be new or empty, or hold what the same command had copied when it was stopped: then it goes on.
#[derive(Debug, Clone, clap::Args)]
pub struct MoveGroup {
    /// The database that the objects go to.
    #[command(flatten)]
    pub target: TargetFlags,

    /// Where the store is.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// What the keys of the objects begin with: /registry/stable.example.com/ for a group, or
    /// /registry/stable.example.com/shirts/ for one resource. May be given several times.
    #[arg(long, required = true, value_name = "PREFIX")]
    pub prefix: Vec<String>,

    /// Move also if labelled objects would then be in another database than their owners. Nobody collects these.
    #[arg(long)]
    pub accept_uncollected: bool,

    /// Only read the store and look at the target, and say what there is and what would be refused. Nothing is changed
    /// or made in either database. Exit code 1 if anything would be refused.
    #[arg(long)]
    pub dry_run: bool,
}

impl MoveGroup {
    /// Moves, and says what was moved; returns whether all is well.
    ///
    /// # Errors
    /// When it can't be done. The same command goes on from there.
    pub fn run(&self, out: &mut dyn Write) -> Result<bool> {
        let (from, to) = (self.database.endpoint()?, self.target.endpoint(&self.database)?);
        let prefixes: Result<Vec<_>, _> = self.prefix.iter().map(|text| prefix(text)).collect();
        let part = Ranges::below(&prefixes?);
        from.must_exist()?;
        let is_copied = leaving::is_copied(&from, &to, &part)?;
        let look = || Bonds::of(sql::source(&from)?.as_mut(), &part);
        let refusals = |bonds: &Bonds| match bonds.keys {
            0 if !is_copied => vec!["no key begins with that".to_owned()],
            _ => bonds.refusals(self.accept_uncollected),
        };
        if self.dry_run && is_copied {
            writeln!(out, "{to} has all of it; {} keys are to be removed from {from}", look()?.keys)?;
            return Ok(true);
        }
        if self.dry_run {
            let (survey, refusals) = (Survey::of(&from, &to, Some(&part))?, refusals(&look()?));
            writeln!(out, "would move {survey}")?;
            refusals.iter().try_for_each(|refusal| writeln!(out, "refused: {refusal}"))?;
            return Ok(survey.fits() && refusals.is_empty());
        }
        // To open a database makes tables in it.
        if sql::probe(&from).with_context(|| format!("--endpoint: look at {from}"))?.1.is_none() {
            bail!("--endpoint: there is no store in {from}");
        }
        let store = super::open(&from)?;
        let mut writer = store.writer()?;
        let mut keep = || writer.tidy(false).map(drop);
        let bonds = leaving::keeping(leaving::BEAT, &mut keep, look)?;
        if let Some(refusal) = refusals(&bonds).first() {
            bail!("{refusal}; nothing was moved");
        }
        let progress = Progress::told();
        progress.say(&format!("{} keys go from {from} to {to}", bonds.keys));
        if !is_copied {
            let copy = || leaving::copy(&from, &to, &part, progress);
            let Copied { revision, keys, history } = leaving::keeping(leaving::BEAT, &mut keep, copy)?;
            writeln!(out, "copied to {to}, at revision {revision}, and compared:")?;
            writeln!(out, "{} keys with SHA-256 {}", keys.count, keys.sha256)?;
            writeln!(out, "{} changes with SHA-256 {}", history.count, history.sha256)?;
        }
        let removed = leaving::remove(writer.as_mut(), (&from, &to), &part)?;
        writeln!(out, "removed {removed} keys from {from}")?;
        Ok(true)
    }
}
