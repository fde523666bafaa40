//! A script of etcdctl and etcdutl calls, and what of their output can be compared between two servers.

use std::path::Path;

use serde_json::Value;

use super::stores::{Server, Tools};
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::pid::Process;
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// Fields whose value is another one in each server, or in each run.
const VOLATILE: [&str; 10] = [
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "dbSizeQuota",
    "peerURLs",
    "totalSize",
    "took",
    "storageVersion",
    "downgradeInfo",
];

/// One call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// The arguments, parted by blanks; `''` is an empty one, `$LEASE` the lease that was granted last, `$DIR` a
    /// folder. It begins with `etcdutl` unless etcdctl is meant.
    pub(super) line: &'static str,
    /// What it reads.
    pub(super) stdin: &'static str,
    /// Further fields of its JSON that do not count.
    pub(super) without: &'static [&'static str],
    /// For a call that goes on for ever: it is ended after so many lines.
    pub(super) lines: usize,
}

impl Step {
    /// A call that ends by itself and reads nothing.
    pub(super) const fn new(line: &'static str) -> Self {
        Self { line, stdin: "", without: &[], lines: 0 }
    }
}

/// One server with what is known of it.
pub(super) struct Subject<'a> {
    tools: &'a Tools,
    server: &'a Server,
    folder: &'a Path,
    /// What stands for what in its output.
    names: Vec<(String, &'static str)>,
    lease: String,
    watches: usize,
}

impl<'a> Subject<'a> {
    /// Asks the server for its ids.
    ///
    /// # Errors
    /// When it does not tell.
    pub(super) fn new(tools: &'a Tools, server: &'a Server, folder: &'a Path) -> Result<Self> {
        let mut subject = Self { tools, server, folder, names: Vec::new(), lease: String::new(), watches: 0 };
        let members = Run::new(&tools.etcdctl, folder).limit(Limit::ANSWER);
        let members = members.args([&server.flag()[..], "member", "list", "-w", "json"]).read()?;
        let members: Value = serde_json::from_str(&members)?;
        for (field, name) in [("cluster_id", "CLUSTER"), ("member_id", "MEMBER")] {
            let id = members["header"][field].as_u64().ok_or_else(|| Error::input(format!("no {field}: {members}")))?;
            subject.names.extend([(id.to_string(), name), (format!("{id:x}"), name)]);
        }
        subject.names.push((server.port.to_string(), "PORT"));
        subject.names.push((folder.display().to_string(), "DIR"));
        Ok(subject)
    }

    /// Runs a step; returns its exit code and its output, without what can't be compared.
    ///
    /// # Errors
    /// When it can't be started, or does not end.
    pub(super) fn run(&mut self, step: Step) -> Result<String> {
        let words = step.line.replace("$LEASE", &self.lease).replace("$DIR", &self.folder.display().to_string());
        let words = words.split_ascii_whitespace().map(|word| if word == "''" { "" } else { word });
        let mut words = words.peekable();
        let run = match words.next_if_eq(&"etcdutl") {
            Some(_) => Run::new(&self.tools.etcdutl, self.folder),
            None => Run::new(&self.tools.etcdctl, self.folder).arg(self.server.flag()),
        };
        let run = run.limit(Limit::ANSWER).args(words).stdin(step.stdin);
        if step.lines > 0 {
            return self.follow(&run, step);
        }
        let outcome = run.outcome()?;
        if let Some(id) = outcome.stdout.strip_prefix("lease ").and_then(|rest| rest.split_once(" granted with")) {
            id.0.clone_into(&mut self.lease);
            let decimal = i64::from_str_radix(id.0, 16).map_err(|error| Error::input(format!("{}: {error}", id.0)))?;
            self.names.extend([(id.0.to_owned(), "LEASE"), (decimal.to_string(), "LEASE")]);
        }
        let code = outcome.status.code().unwrap_or(-1);
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        Ok(format!("exit {code}\n{}", self.normal(&text, step.without)))
    }

    fn follow(&mut self, run: &Run, step: Step) -> Result<String> {
        self.watches += 1;
        let output = self.folder.join(format!("watch-{}", self.watches));
        let child = run.spawn(&output)?;
        let pid = i32::try_from(child.id()).map_err(anyhow::Error::from)?;
        let process = Process::of(pid).ok_or_else(|| Error::input(format!("{} ended at once", step.line)))?;
        let guard = Guard::new(Leftover::Process(process.clone()));
        let text = until(step.line, LIMIT, || {
            // Asked first: what it printed before it ended is in the file then.
            let alive = process.is_alive();
            let text = fs_err::read_to_string(&output)?;
            Ok((!alive || text.lines().count() >= step.lines).then_some(text))
        })?;
        drop(guard);
        Ok(self.normal(&text, step.without))
    }

    fn normal(&self, text: &str, without: &[&str]) -> String {
        let mut lines = Vec::new();
        for line in text.lines() {
            let line = match serde_json::from_str::<Value>(line) {
                // What the clients log.
                Ok(value) if value.get("caller").is_some() => continue,
                Ok(mut value) if value.is_object() || value.is_array() => {
                    strip(&mut value, without);
                    value.to_string()
                }
                _ => line.to_owned(),
            };
            if !line.starts_with("Server version") && !line.contains("\tinfo\t") {
                lines.push(self.normal_line(line));
            }
        }
        lines.join("\n")
    }

    fn normal_line(&self, mut line: String) -> String {
        for (text, name) in &self.names {
            line = line.replace(text, name);
        }
        // `took = 1.2ms`, `remaining(599s)`: times.
        if let Some(at) = line.find("took") {
            line.truncate(at);
        }
        if let Some((before, rest)) = line.split_once("remaining(")
            && let Some((_, after)) = rest.split_once(')')
        {
            line = format!("{before}remaining(TIME){after}");
        }
        line
    }
}

fn strip(value: &mut Value, without: &[&str]) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !VOLATILE.contains(&&name[..]) && !without.contains(&&name[..]));
            fields.values_mut().for_each(|value| strip(value, without));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| strip(value, without)),
        _ => {}
    }
}
