//! What is measured, on how much data, how often.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::client::Store;
use crate::large::{Large, READS};
use crate::load::{self, End};
use crate::report::{Better, Floor, Machine, Report, Row, Sample};
use crate::say;
use crate::server::{Candidate, Kind, Server};
use crate::workload::{Keys, Op, workers};
use crate::{compaction, selective, watchers};

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Flags {
    /// A minute instead of half an hour: little data, 32 clients, two rounds.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only the measurements whose name holds this text; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Only this server; may be repeated.
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) server: Vec<Kind>,
    /// How often each server is measured [default: 3; quick: 2].
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,
    /// How long one measurement takes, in seconds [default: 3; quick: 1].
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<f64>,
    /// How many keys are stored for reads [default: 100000; quick: 20000].
    #[arg(long, value_name = "N")]
    pub(crate) keys: Option<u64>,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Load(Op, usize),
    Watchers(usize),
    Selective(usize),
    Compaction,
    Large,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Plan {
    measurements: Vec<What>,
    servers: Vec<Kind>,
    rounds: usize,
    duration: Duration,
    keys: u64,
    quick: bool,
    /// Whether the servers keep their data on a database server.
    on_database: bool,
}

impl What {
    fn name(self) -> String {
        match self {
            Self::Load(op, clients) => {
                format!("{}, {clients} client{}", op_name(op), if clients == 1 { "" } else { "s" })
            }
            Self::Watchers(count) => format!("events, 1 writer, {count} watchers"),
            Self::Selective(count) => format!("events, 1 writer, {count} watchers with selectors of their own"),
            Self::Compaction => "compaction".into(),
            Self::Large => "large database".into(),
        }
    }

    /// Whether it needs the stored keys.
    fn reads(self) -> bool {
        matches!(self, Self::Load(Op::Get | Op::List | Op::Count | Op::Mixed, _))
    }

    /// What the project promises.
    fn floors(self, on_database: bool) -> Vec<Floor> {
        if on_database {
            return match self {
                Self::Load(Op::Create | Op::Update, 32 | 256) => vec![Floor::Of(Kind::Kine, 5.0)],
                Self::Load(op, _) => on_database_read(op),
                Self::Watchers(_) | Self::Selective(_) | Self::Compaction | Self::Large => Vec::new(),
            };
        }
        match self {
            Self::Load(Op::Create | Op::Update, 32 | 256) => {
                vec![Floor::Of(Kind::Etcd, 1.0), Floor::Of(Kind::Kine, 8.0)]
            }
            Self::Load(Op::Count, _) => vec![Floor::Of(Kind::Etcd, 20.0)],
            Self::Load(Op::Get | Op::List, _) | Self::Watchers(_) | Self::Selective(_) => {
                vec![Floor::Of(Kind::Etcd, 1.0)]
            }
            Self::Load(..) | Self::Compaction | Self::Large => Vec::new(),
        }
    }
}

/// What is promised of reads on a database server.
fn on_database_read(op: Op) -> Vec<Floor> {
    match op {
        Op::Get => vec![Floor::Of(Kind::Kine, 1.0)],
        Op::List => vec![Floor::Of(Kind::Kine, 2.0)],
        Op::Count => vec![Floor::Of(Kind::Kine, 20.0)],
        Op::Create | Op::Put | Op::Update | Op::Delete | Op::Mixed => Vec::new(),
    }
}

fn op_name(op: Op) -> &'static str {
    match op {
        Op::Create => "create",
        Op::Put => "put",
        Op::Update => "update (CAS)",
        Op::Delete => "delete (CAS)",
        Op::Get => "get",
        Op::List => "list of 500",
        Op::Count => "count",
        Op::Mixed => "80% get, 20% update",
    }
}

impl Plan {
    /// The plan that the flags describe.
    pub(crate) fn of(flags: &Flags, on_database: bool) -> Result<Self> {
        let clients: &[usize] = if flags.quick { &[32] } else { &[1, 32, 256] };
        let ops = [Op::Create, Op::Update, Op::Put, Op::Delete, Op::Get, Op::List, Op::Count, Op::Mixed];
        let mut all: Vec<What> =
            ops.iter().flat_map(|op| clients.iter().map(|clients| What::Load(*op, *clients))).collect();
        all.extend([What::Watchers(100), What::Watchers(1000), What::Selective(1000)]);
        // They take minutes, so a quick run has them on request alone.
        if !flags.quick || !flags.only.is_empty() {
            all.extend([What::Selective(5000), What::Compaction, What::Large]);
        }
        let wanted = |what: &What| flags.only.is_empty() || flags.only.iter().any(|text| what.name().contains(text));
        let measurements: Vec<What> = all.into_iter().filter(wanted).collect();
        if measurements.is_empty() {
            bail!("no measurement has such a name; --list shows them");
        }
        let servers = match (flags.server.is_empty(), on_database) {
            (true, false) => vec![Kind::Etcd, Kind::Kine, Kind::Before, Kind::Shim],
            (true, true) => vec![Kind::Kine, Kind::Before, Kind::Sqlite, Kind::Shim],
            (false, _) => flags.server.clone(),
        };
        Ok(Self {
            measurements,
            servers,
            rounds: flags.rounds.unwrap_or(if flags.quick { 2 } else { 3 }).max(1),
            duration: Duration::from_secs_f64(
                flags.seconds.unwrap_or(if flags.quick { 1.0 } else { 3.0 }).clamp(0.1, 600.0),
            ),
            keys: flags.keys.unwrap_or(if flags.quick { 20_000 } else { 100_000 }).max(1000),
            quick: flags.quick,
            on_database,
        })
    }

    /// The names of what is measured.
    pub(crate) fn names(&self) -> Vec<String> {
        self.measurements.iter().map(|what| what.name()).collect()
    }

    /// Whether the server is part of it.
    pub(crate) fn measures(&self, kind: Kind) -> bool {
        self.servers.contains(&kind)
    }

    /// Measures. The data is in folders below `data`, which are removed as soon as they are not needed.
    pub(crate) async fn carry_out(&self, candidates: &[Candidate], data: &Path) -> Result<Report> {
        let begin = Instant::now();
        let mut report = Report::new(Machine::read(candidates)?, self.keys, self.duration, self.rounds);
        let loads: Vec<What> = self
            .measurements
            .iter()
            .copied()
            .filter(|what| matches!(what, What::Load(..) | What::Watchers(_) | What::Selective(_)))
            .collect();
        // A server that fails must not take the others' results with it: the report says what failed.
        if !loads.is_empty()
            && let Err(error) = self.loads(&loads, candidates, data, &mut report).await
        {
            report.fail(&error);
        }
        if self.measurements.contains(&What::Compaction) {
            self.compactions(candidates, data, &mut report).await?;
        }
        if self.measurements.contains(&What::Large) {
            self.large(candidates, data, &mut report).await?;
        }
        report.seconds = begin.elapsed().as_secs_f64();
        Ok(report)
    }

    async fn loads(&self, loads: &[What], candidates: &[Candidate], data: &Path, report: &mut Report) -> Result<()> {
        let folder = folder(data)?;
        let mut servers = Vec::new();
        for candidate in candidates {
            let kind = candidate.kind;
            let server = Server::start(candidate, &folder.path().join(kind.to_string())).await?;
            if loads.iter().any(|what| what.reads()) {
                say(&format!("{kind}: storing {} keys", self.keys));
                let store = Store::connect(&server.url(), 256).await?;
                let made = load::fill(&store, Keys::STORED, self.keys, Duration::from_secs(600)).await?;
                if made < self.keys {
                    bail!("{kind} stored {made} keys only");
                }
            }
            servers.push(server);
        }
        let mut run = 1;
        for what in loads {
            let mut samples: BTreeMap<Kind, Vec<Sample>> = BTreeMap::new();
            for _ in 0..self.rounds {
                for server in &servers {
                    run += 1;
                    let sample = self.load(*what, server, run).await;
                    match sample.with_context(|| format!("{} on {}", what.name(), server.kind)) {
                        Ok(sample) => samples.entry(server.kind).or_default().push(sample),
                        Err(error) => report.fail(&error),
                    }
                }
            }
            let unit = if matches!(what, What::Watchers(_)) { "events/s" } else { "requests/s" };
            report.add(Row {
                name: what.name(),
                unit: unit.into(),
                better: Better::Higher,
                floors: what.floors(self.on_database),
                samples,
            });
        }
        Ok(())
    }

    async fn load(&self, what: What, server: &Server, run: u64) -> Result<Sample> {
        match what {
            What::Watchers(count) => {
                let store = Store::connect(&server.url(), count).await?;
                let before = server.costs()?;
                let delivered = watchers::measure(&store, count, run, self.duration).await?;
                let rate = delivered.events as f64 / delivered.elapsed.as_secs_f64();
                Ok(Sample::of_load(rate, delivered.writes, server.costs()?.since(before), delivered.events))
            }
            What::Selective(count) => {
                let store = Store::connect(&server.url(), count).await?;
                let watchers = selective::Watchers::open(&store, count, run).await?;
                let before = server.costs()?;
                let measured = watchers.measure(&store, self.duration).await?;
                let used = server.costs()?.since(before);
                Ok(Sample::of_load(measured.rate(), measured, used, measured.requests))
            }
            What::Load(op, clients) => {
                let store = Store::connect(&server.url(), clients).await?;
                let first = if op == Op::Delete { Op::Create } else { op };
                let mut workers = workers(&store, first, clients, run, self.keys).await?;
                if op == Op::Delete {
                    workers = load::run(workers, End::After(self.duration)).await?.1;
                    workers.iter_mut().for_each(|worker| worker.turn_to(Op::Delete));
                }
                let before = server.costs()?;
                let (measured, _) = load::run(workers, End::After(self.duration)).await?;
                let used = server.costs()?.since(before);
                Ok(Sample::of_load(measured.rate(), measured, used, measured.requests))
            }
            What::Compaction | What::Large => bail!("not a load"),
        }
    }

    async fn compactions(&self, candidates: &[Candidate], data: &Path, report: &mut Report) -> Result<()> {
        let (revisions, patience) = (if self.quick { 50_000 } else { 500_000 }, Duration::from_secs(60));
        let (mut usual, mut during, mut ratio, mut took, mut made) = Default::default();
        for candidate in std::iter::repeat_n(candidates, self.rounds).flatten() {
            let kind = candidate.kind;
            let folder = folder(data)?;
            let duration = self.duration.max(Duration::from_secs(3));
            let found = compaction::measure(candidate, folder.path(), revisions, patience, duration).await;
            let found = match found.with_context(|| format!("compaction on {kind}")) {
                Ok(found) => found,
                Err(error) => {
                    report.fail(&error);
                    continue;
                }
            };
            let (before, after) = (found.usual.p99.as_secs_f64(), found.during.p99.as_secs_f64());
            one(&mut usual, kind, before * 1e3);
            one(&mut during, kind, after * 1e3);
            one(&mut ratio, kind, after / before);
            one(&mut took, kind, found.took.as_secs_f64());
            one(&mut made, kind, found.revisions as f64);
        }
        let lower = Better::Lower;
        let is = |limit| vec![Floor::AtMost(limit)];
        report.add(Row::new("compaction: revisions removed", "revisions", Better::Neither, Vec::new(), made));
        report.add(Row::new("compaction: answer after", "s", Better::Neither, Vec::new(), took));
        report.add(Row::new("write p99 before, 32 clients", "ms", lower, Vec::new(), usual));
        report.add(Row::new("write p99 during compaction", "ms", lower, Vec::new(), during));
        report.add(Row::new("write p99 during / before", "×", lower, is(3.0), ratio));
        Ok(())
    }

    async fn large(&self, candidates: &[Candidate], data: &Path, report: &mut Report) -> Result<()> {
        let (wanted, patience) = if self.quick { (100_000, 60) } else { (1_000_000, 240) };
        let folder = folder(data)?;
        let mut servers = Vec::new();
        for candidate in candidates {
            let kind = candidate.kind;
            let (own, patience) = (folder.path().join(kind.to_string()), Duration::from_secs(patience));
            match Large::fill(candidate, &own, wanted, patience).await.with_context(|| format!("fill {kind}")) {
                Ok(filled) => servers.push(filled),
                Err(error) => report.fail(&error),
            }
        }
        let mut reads: [BTreeMap<Kind, Vec<Sample>>; 3] = Default::default();
        for (op, row) in READS.into_iter().zip(&mut reads) {
            for round in 0..self.rounds {
                for large in &servers {
                    let kind = large.server.kind;
                    let rate = large.read(op, round as u64, self.duration).await;
                    match rate.with_context(|| format!("{} of many keys on {kind}", op_name(op))) {
                        Ok(rate) => one(row, kind, rate),
                        Err(error) => report.fail(&error),
                    }
                }
            }
        }
        let mut rows: [BTreeMap<Kind, Vec<Sample>>; 7] = Default::default();
        for large in &servers {
            let needs = large.server.memory().and_then(|memory| Ok((memory, large.server.disk()?)));
            let (served, disk) = match needs.with_context(|| format!("what {} needs", large.server.kind)) {
                Ok(needs) => needs,
                Err(error) => {
                    report.fail(&error);
                    continue;
                }
            };
            let values = [
                large.keys as f64,
                large.fill_rate,
                large.server.ready_after.as_secs_f64() * 1e3,
                large.full.resident / 1e6,
                served.resident / 1e6,
                served.anonymous / 1e6,
                disk / large.keys as f64,
            ];
            for (row, value) in rows.iter_mut().zip(values) {
                one(row, large.server.kind, value);
            }
        }
        let lower = Better::Lower;
        let read = |op| What::Load(op, 32).floors(self.on_database);
        let shapes = [
            ("keys stored", "keys", Better::Neither, vec![]),
            ("create, sustained", "requests/s", Better::Higher, vec![]),
            ("ready after a restart", "ms", lower, vec![Floor::AtMost(1000.0)]),
            ("resident memory after the writes", "MB", lower, vec![Floor::AtMost(150.0)]),
            ("resident memory after the reads", "MB", lower, vec![Floor::AtMost(150.0)]),
            ("of it, not views of files", "MB", lower, vec![]),
            ("disk for a key", "bytes", lower, vec![]),
            ("count of all, 1 client", "requests/s", Better::Higher, read(Op::Count)),
            ("get, 32 clients", "requests/s", Better::Higher, read(Op::Get)),
            ("list of 500, 32 clients", "requests/s", Better::Higher, read(Op::List)),
        ];
        for ((name, unit, better, floors), samples) in shapes.into_iter().zip(rows.into_iter().chain(reads)) {
            report.add(Row::new(&format!("large: {name}"), unit, better, floors, samples));
        }
        Ok(())
    }
}

fn folder(data: &Path) -> Result<tempfile::TempDir> {
    tempfile::tempdir_in(data).with_context(|| format!("create a folder in {}", data.display()))
}

fn one(row: &mut BTreeMap<Kind, Vec<Sample>>, kind: Kind, value: f64) {
    row.entry(kind).or_default().push(Sample::of_value(value));
}
