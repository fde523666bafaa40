//! Into Sluice and back: the same keys, revisions, leases and history on every way.

use std::path::Path;

use super::lab::folder;
use super::stores::{Server, Tools, tool};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::build::Program;
use sluice_toolkit::cluster::wait::ensure;

pub(super) fn cases() -> Vec<Case> {
    [Case::new("migrate/etcd-and-back", etcd_and_back), Case::new("migrate/from-kine", from_kine)]
        .map(|case| case.of(Column::OURS))
        .into()
}

/// Puts in the store.
const PUTS: usize = 40;

/// etcdctl for one server.
struct Etcdctl<'a> {
    tools: &'a Tools,
    server: &'a Server,
    folder: &'a Path,
}

impl Etcdctl<'_> {
    fn run(&self, args: &str) -> Result<String> {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &str, stdin: &str) -> Result<String> {
        let words = args.split_ascii_whitespace().map(|word| if word == "''" { "" } else { word });
        let run = Run::new(&self.tools.etcdctl, self.folder).limit(Limit::ANSWER);
        run.arg(self.server.flag()).args(words).stdin(stdin).read()
    }

    /// What must be the same everywhere: the hash of the history, all keys, and the lease.
    fn content(&self, lease: &str) -> Result<[String; 3]> {
        // Ids of the cluster and the member are their own.
        let part = |text: String, from: &str| text.find(from).map_or(String::new(), |at| text[at..].to_owned());
        let hash = part(self.run("endpoint hashkv -w json")?, "\"hash\"");
        let keys = part(self.run("get '' --prefix -w json")?, "\"kvs\"");
        ensure(!hash.is_empty() && !keys.is_empty(), || format!("no hash or no keys: {hash} {keys}"))?;
        let lease = part(self.run(&format!("lease timetolive {lease} --keys"))?, "attached keys");
        Ok([hash, keys, lease])
    }
}

fn prepare(suite: &Suite, name: &str) -> Result<Option<(Tools, std::path::PathBuf)>> {
    let Some(tools) = Tools::of(suite)? else { return Ok(None) };
    let folder = folder(suite, name);
    fs_err::create_dir_all(&folder)?;
    Ok(Some((tools, folder)))
}

fn skipped() -> Result<Verdict> {
    Ok(Verdict::Skipped("needs etcdctl, etcdutl and kine beside etcd".to_owned()))
}

/// Overwritten, deleted and recreated keys, a lease, transactions, and a compaction in the middle. Returns the lease.
fn fill(etcdctl: &Etcdctl<'_>) -> Result<String> {
    let granted = etcdctl.run("lease grant 600")?;
    let lease = granted.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned();
    for number in 0..PUTS {
        etcdctl.run(&format!("put /registry/things/{} {number}", number % 7))?;
    }
    etcdctl.run(&format!("put /registry/leased x --lease={lease}"))?;
    etcdctl.run("del /registry/things/3")?;
    etcdctl.run("compaction 20")?;
    etcdctl.run("put /registry/things/3 again")?;
    etcdctl.run_with("txn", "\nput /t/1 x\nput /t/2 y\ndel /registry/things/5\n\n\n")?;
    etcdctl.run("del /t/2")?;
    Ok(lease)
}

fn etcd_and_back(suite: &Suite) -> Result<Verdict> {
    let Some((tools, folder)) = prepare(suite, "migrate")? else { return skipped() };
    let content = |server: &Server, lease: &str| Etcdctl { tools: &tools, server, folder: &folder }.content(lease);
    let same = |what: &str, found: &[String; 3], expected: &[String; 3]| {
        ensure(found == expected, || format!("{what}:\n{found:#?}\ninstead of\n{expected:#?}"))
    };
    let etcd = Server::etcd(&tools, &folder, "first")?;
    let etcdctl = Etcdctl { tools: &tools, server: &etcd, folder: &folder };
    let lease = fill(&etcdctl)?;
    let expected = content(&etcd, &lease)?;

    // From the running one.
    let (from, imported) = (format!("http://127.0.0.1:{}", etcd.port), tools.endpoint(&folder, "imported.db")?);
    tools.shim(&folder, &["import", "--from-etcd", &from, "--endpoint", &imported])?;
    // From its snapshot.
    etcdctl.run("snapshot save etcd.snapshot")?;
    let restored = tools.endpoint(&folder, "restored.db")?;
    tools.shim(&folder, &["restore", "--from", "etcd.snapshot", "--endpoint", &restored])?;
    etcd.stop()?;
    for database in ["imported.db", "restored.db"] {
        tools.shim(&folder, &["fsck", "--endpoint", &tools.endpoint(&folder, database)?])?;
        let shim = Server::shim(&tools, &folder, database)?;
        same(database, &content(&shim, &lease)?, &expected)?;
        let etcdctl = Etcdctl { tools: &tools, server: &shim, folder: &folder };
        etcdctl.run(&format!("snapshot save {database}.snapshot"))?;
        shim.stop()?;
    }

    // Back, from the running shim and from its database.
    tools.shim(&folder, &["export", "--endpoint", &imported, "--to", "exported.snapshot"])?;
    for snapshot in ["imported.db.snapshot", "exported.snapshot"] {
        let data = format!("{snapshot}.etcd");
        tools.etcdutl(&folder, &format!("snapshot restore {snapshot} --data-dir {data}"))?;
        let etcd = Server::etcd(&tools, &folder, &data)?;
        same(snapshot, &content(&etcd, &lease)?, &expected)?;
        etcd.stop()?;
    }
    fs_err::remove_dir_all(&folder)?;
    Ok(Verdict::PASSED)
}

/// kine has no snapshots: its keys come page by page, with their revisions.
fn from_kine(suite: &Suite) -> Result<Verdict> {
    let Some((tools, folder)) = prepare(suite, "kine")? else { return skipped() };
    let Some(program) = tool(suite, Program::Kine)? else {
        fs_err::remove_dir_all(&folder)?;
        return skipped();
    };
    let kine = Server::kine(&program, &tools, &folder)?;
    let etcdctl = Etcdctl { tools: &tools, server: &kine, folder: &folder };
    // kine knows transactions of kube-apiserver's forms only.
    for number in 0..PUTS {
        let create = format!("mod(\"/registry/{number}\") = \"0\"\n\nput /registry/{number} {number}\n\n\n");
        etcdctl.run_with("txn", &create)?;
    }
    let url = format!("http://127.0.0.1:{}", kine.port);
    let database = tools.endpoint(&folder, "state.db")?;
    let said = tools.shim(&folder, &["import", "--from-etcd", &url, "--endpoint", &database])?;
    ensure(said.contains("without history"), || said.clone())?;
    tools.shim(&folder, &["fsck", "--endpoint", &database])?;
    let expected = etcdctl.run("get /registry/ --prefix -w fields")?;
    kine.stop()?;
    let shim = Server::shim(&tools, &folder, "state.db")?;
    let found = Etcdctl { tools: &tools, server: &shim, folder: &folder }.run("get /registry/ --prefix -w fields")?;
    let (expected, found) = (revisions(&expected), revisions(&found));
    ensure(expected == found && expected.len() >= PUTS * 4, || format!("{found:#?}\ninstead of\n{expected:#?}"))?;
    shim.stop()?;
    fs_err::remove_dir_all(&folder).map_err(Error::from)?;
    Ok(Verdict::PASSED)
}

/// The lines of `-w fields` that both have: keys, values and revisions.
fn revisions(fields: &str) -> Vec<&str> {
    let kept = ["\"Key\"", "\"Value\"", "\"CreateRevision\"", "\"ModRevision\""];
    fields.lines().filter(|line| kept.iter().any(|field| line.starts_with(field))).collect()
}
