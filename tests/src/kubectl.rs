//! kubectl, as a person runs it.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::pid::Process;
use sluice_toolkit::cluster::wait::{ensure, until};

/// kubectl with the kubeconfig of one cluster.
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// For its discovery cache and the output of watches.
    folder: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(program: &Path, cluster: &Path, kubeconfig: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned(), folder: cluster.join("kubectl") }
    }

    /// Runs it with arguments that are parted by blanks; returns stdout.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn run(&self, args: &str) -> Result<String> {
        self.words(&args.split_ascii_whitespace().collect::<Vec<_>>())?.read()
    }

    /// The same with arguments that hold blanks.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn run_words(&self, args: &[&str]) -> Result<String> {
        self.words(args)?.read()
    }

    /// Sends an object (or several, as a `List`) to `kubectl VERB -f -`, whose verb may have flags; returns stdout.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn send(&self, verb: &str, object: &Value) -> Result<String> {
        let words: Vec<&str> = verb.split_ascii_whitespace().chain(["-f", "-"]).collect();
        self.words(&words)?.stdin(object.to_string()).read()
    }

    /// Sends YAML, as a person has it in a file, to `kubectl apply`; returns stdout.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn apply(&self, yaml: &str) -> Result<String> {
        self.words(&["apply", "-f", "-"])?.stdin(yaml).read()
    }

    /// Runs it, expects it to fail, and returns stderr.
    ///
    /// # Errors
    /// When it succeeds.
    pub(crate) fn fails(&self, args: &str) -> Result<String> {
        let outcome = self.words(&args.split_ascii_whitespace().collect::<Vec<_>>())?.outcome()?;
        ensure(!outcome.status.success(), || format!("`kubectl {args}` succeeded:\n{}", outcome.stdout))?;
        Ok(outcome.stderr.trim().to_owned())
    }

    /// Runs it, expects it to succeed, and returns stderr: the server's warnings.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn warns(&self, args: &str) -> Result<String> {
        let outcome = self.words(&args.split_ascii_whitespace().collect::<Vec<_>>())?.outcome()?;
        ensure(outcome.status.success(), || format!("`kubectl {args}` failed:\n{}", outcome.stderr))?;
        Ok(outcome.stderr.trim().to_owned())
    }

    /// Starts `kubectl get -w` with the arguments.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn watch(&self, args: &str) -> Result<Watch> {
        let number = self.folder.join("watches");
        fs_err::create_dir_all(&number)?;
        let output = number.join(format!("{}.json", fs_err::read_dir(&number)?.count()));
        let words = ["get", "-w", "--output-watch-events", "-o", "json"];
        let words: Vec<&str> = words.into_iter().chain(args.split_ascii_whitespace()).collect();
        let child = self.words(&words)?.spawn(&output)?;
        let pid = i32::try_from(child.id()).map_err(anyhow::Error::from)?;
        let process = Process::of(pid).ok_or_else(|| Error::input("kubectl is gone right after its start"))?;
        let guard = Guard::new(Leftover::Process(process.clone()));
        Ok(Watch { process, output, offset: 0, pending: Vec::new(), seen: Vec::new(), _guard: guard })
    }

    fn words(&self, args: &[&str]) -> Result<Run> {
        fs_err::create_dir_all(&self.folder)?;
        // A discovery cache of its own: the default one is named after host and port, and ports are used again.
        let cache = format!("--cache-dir={}", self.folder.join("cache").display());
        let run = Run::new(&self.program, &self.folder).env("KUBECONFIG", &self.kubeconfig).limit(Limit::ANSWER);
        Ok(run.arg(cache).args(args))
    }
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(crate) kind: String,
    /// The object.
    pub(crate) object: Value,
}

impl Event {
    /// From the form that the API and kubectl write.
    pub(crate) fn from_json(event: &Value) -> Self {
        Self { kind: event["type"].as_str().unwrap_or_default().to_owned(), object: event["object"].clone() }
    }

    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// A running `kubectl get -w`; ended on drop.
pub(crate) struct Watch {
    process: Process,
    output: PathBuf,
    offset: u64,
    /// Bytes of an event that is not complete yet.
    pending: Vec<u8>,
    seen: Vec<Event>,
    _guard: Guard,
}

impl Watch {
    /// What it has printed up to now.
    ///
    /// # Errors
    /// When it printed something else than events.
    pub(crate) fn events(&mut self) -> Result<&[Event]> {
        let mut file = fs_err::File::open(&self.output)?;
        file.seek(SeekFrom::Start(self.offset))?;
        self.offset += u64::try_from(file.read_to_end(&mut self.pending)?).unwrap_or(0);
        let mut stream = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Value>();
        let mut end = 0;
        while let Some(value) = stream.next() {
            match value {
                Ok(value) => {
                    end = stream.byte_offset();
                    self.seen.push(Event::from_json(&value));
                }
                Err(error) if error.is_eof() => break,
                Err(_) => {
                    let text = String::from_utf8_lossy(&self.pending[end..]).trim().to_owned();
                    return Err(Error::input(format!("kubectl get -w said: {text}")));
                }
            }
        }
        self.pending.drain(..end);
        Ok(&self.seen)
    }

    /// Waits for an event and returns all up to it.
    ///
    /// # Errors
    /// When it does not come in time, or kubectl ended.
    pub(crate) fn wait_for(&mut self, what: &str, limit: Duration, is_it: impl Fn(&Event) -> bool) -> Result<&[Event]> {
        let what = format!("the event \"{what}\" in kubectl get -w");
        until(&what, limit, || {
            let alive = self.process.is_alive();
            let found = self.events()?.iter().any(&is_it);
            ensure(found || alive, || "kubectl get -w ended by itself".to_owned())?;
            Ok(found.then_some(()))
        })?;
        Ok(&self.seen)
    }
}
