//! etcdctl can't tell the shim from etcd: the same calls, the same output.

use super::lab::folder;
use super::script::{Step, Subject};
use super::stores::{Server, Tools};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::wait::ensure;

pub(super) fn cases() -> Vec<Case> {
    let on_servers = Database::ALL.into_iter().map(|server| {
        let name = format!("etcdctl/same-as-etcd-on-{server}").to_lowercase();
        Case::new(name, move |suite| {
            let suite = suite.on(server)?;
            let verdict = same_as_etcd(&suite)?;
            suite.data.remove()?;
            Ok(verdict)
        })
    });
    let plain = Case::new("etcdctl/same-as-etcd", same_as_etcd);
    // In a run on a server the plain one is on that server.
    std::iter::once(plain).chain(on_servers.map(Case::on_files)).map(|case| case.of(Column::OURS)).collect()
}

const fn step(line: &'static str) -> Step {
    Step::new(line)
}

const fn fed(line: &'static str, stdin: &'static str) -> Step {
    Step { stdin, ..Step::new(line) }
}

/// Ended after so many lines.
const fn until(line: &'static str, lines: usize) -> Step {
    Step { lines, ..Step::new(line) }
}

const fn without(line: &'static str, without: &'static [&'static str]) -> Step {
    Step { without, ..Step::new(line) }
}

const KV: &[Step] = &[
    step("get missing"),
    step("get missing -w json"),
    step("put a 1"),
    step("put a 2 --prev-kv"),
    step("put a 3 -w json"),
    fed("put b", "from stdin"),
    step("put a --ignore-value"),
    step("put a 4 --ignore-lease"),
    step("put missing --ignore-value"),
    step("put missing 1 --ignore-lease"),
    step("put '' 1"),
    step("put dir/x 3"),
    step("put dir/y 1"),
    step("put dir/z 2"),
    step("put dir/y 1"),
    step("get a"),
    step("get a -w json"),
    step("get a -w fields"),
    step("get a --hex"),
    step("get a --print-value-only"),
    step("get a --rev 3"),
    step("get a --rev 999"),
    step("get a --consistency s"),
    step("get dir/ --prefix"),
    step("get dir/ --prefix --keys-only"),
    step("get dir/ --prefix --count-only -w json"),
    step("get dir/ --prefix --limit 2 -w json"),
    step("get dir/ --prefix --order DESCEND"),
    step("get dir/ --prefix --sort-by VALUE --order DESCEND"),
    step("get dir/ --prefix --sort-by VERSION"),
    step("get dir/ --prefix --sort-by CREATE --order DESCEND --limit 1"),
    step("get dir/ --prefix --sort-by MODIFY"),
    step("get dir/ --prefix --sort-by KEY --order ASCEND"),
    step("get dir/ --prefix --min-mod-rev 10 -w json"),
    step("get dir/ --prefix --max-mod-rev 9 -w json"),
    step("get dir/ --prefix --min-create-rev 9 --max-create-rev 9"),
    step("get dir/x dir/z"),
    step("get dir/y --from-key"),
    step("get '' --prefix -w json"),
    step("get '' --from-key --keys-only"),
    step("get dir/ --prefix --stream"),
    step("get '' --prefix --stream -w json"),
    step("get dir/ --prefix --stream --limit 2"),
    step("del missing"),
    step("del dir/z --prev-kv"),
    step("del dir/x dir/y -w json"),
    step("put dir/x 5"),
    step("del dir/ --prefix --prev-kv"),
    step("put dir/y 6"),
    step("del dir/y --from-key"),
    step("get '' --prefix -w json"),
];

const TXN: &[Step] = &[
    fed(
        "txn -i",
        "value(\"a\") = \"4\"\nversion(\"a\") > \"1\"\ncreate(\"a\") = \"2\"\nmod(\"a\") < \"100\"\n\nput t/1 x\nget a\n\nput t/2 y\n\n",
    ),
    fed("txn", "value(\"a\") = \"no\"\n\nput t/3 x\n\nget t/1\nput t/4 y\ndel t/1\nget t/ --prefix\n\n"),
    fed("txn", "mod(\"missing\") = \"0\"\nvalue(\"missing\") = \"\"\n\nput t/5 x\n\n\n"),
    fed("txn -w json", "version(\"missing\") = \"0\"\n\nput t/6 x\nget t/ --prefix\n\n\n"),
    fed("txn", "\nput t/7 x\nput t/7 y\n\n\n"),
    fed("txn", "\nput t/8 x\ndel t/ --prefix\n\n\n"),
    fed("txn", "\nget t/1 --rev 999\nput t/9 x\n\n\n"),
    fed("txn", "no compare\n\n\n\n"),
    fed("txn", "\n\n\n"),
    step("get t/ --prefix -w json"),
];

const WATCH: &[Step] = &[
    until("watch --rev 2 a", 15),
    until("watch --rev 2 --prev-kv a", 21),
    until("watch --rev 2 --prefix dir/", 24),
    until("watch --rev 2 --prefix '' -w json", 1),
    until("watch --rev 9 dir/x dir/z", 15),
    until("watch --rev 2 a -- echo changed", 20),
    fed("watch -i", "nonsense\n"),
];

const LEASE: &[Step] = &[
    step("endpoint hashkv -w json"),
    step("endpoint hashkv --rev 12 -w json"),
    step("endpoint hashkv --rev 999 -w json"),
    step("lease grant 600"),
    step("put l/1 x --lease=$LEASE"),
    // With one key: etcd tells several in any order.
    step("lease timetolive $LEASE --keys"),
    without("lease timetolive $LEASE --keys -w json", &["ttl"]),
    step("put l/2 x --lease=$LEASE -w json"),
    step("get l/1 -w json"),
    step("put l/1 y --ignore-lease"),
    step("put l/3 x --lease=123"),
    step("lease timetolive $LEASE"),
    step("lease list"),
    step("lease list -w json"),
    step("lease keep-alive --once $LEASE"),
    step("lease keep-alive --once 123"),
    step("lease timetolive 123"),
    step("put l/2 detached"),
    step("lease revoke $LEASE"),
    step("lease revoke $LEASE"),
    step("lease list"),
    step("get l/ --prefix -w json"),
    step("lease grant 0"),
    step("lock mutex -- echo held"),
];

const COMPACTION: &[Step] = &[
    step("compaction 999"),
    step("compaction 6"),
    step("compaction 6"),
    step("compaction 3"),
    step("get a --rev 5"),
    step("get a --rev 6"),
    until("watch --rev 3 a", 2),
    until("watch --rev 7 a", 3),
    step("compaction 12 --physical"),
    step("endpoint hashkv --rev 5 -w json"),
    step("get '' --prefix --rev 12 -w json"),
];

const MAINTENANCE: &[Step] = &[
    step("endpoint health"),
    step("endpoint health -w json"),
    step("endpoint status -w json"),
    step("endpoint status --cluster -w json"),
    step("member list -w json"),
    step("alarm list"),
    step("alarm disarm"),
    step("defrag"),
    step("version"),
    step("snapshot save $DIR/snapshot"),
    without("etcdutl snapshot status $DIR/snapshot -w json", &["hash", "version", "totalKey"]),
    step("etcdutl snapshot restore $DIR/snapshot --data-dir $DIR/restored"),
    step("get '' --prefix -w json"),
];

fn same_as_etcd(suite: &Suite) -> Result<Verdict> {
    let Some(tools) = Tools::of(suite)? else {
        return Ok(Verdict::Skipped("needs etcdctl and etcdutl beside etcd".to_owned()));
    };
    let folder = folder(suite, "etcdctl");
    let (theirs, ours) = (folder.join("etcd"), folder.join("shim"));
    for folder in [&theirs, &ours] {
        fs_err::create_dir_all(folder)?;
    }
    let etcd = Server::etcd(&tools, &theirs, "data")?;
    let shim = Server::shim(&tools, &ours, "state.db")?;
    let mut etcd_subject = Subject::new(&tools, &etcd, &theirs)?;
    let mut shim_subject = Subject::new(&tools, &shim, &ours)?;
    let mut differences = Vec::new();
    let mut count = 0;
    for step in [KV, TXN, WATCH, LEASE, COMPACTION, MAINTENANCE].into_iter().flatten() {
        count += 1;
        let (expected, said) = (etcd_subject.run(*step)?, shim_subject.run(*step)?);
        if expected != said {
            let Step { line, stdin, .. } = step;
            differences.push(format!("{line} {stdin:?}\n--- etcd\n{expected}\n--- sluice-shim\n{said}\n"));
        }
    }
    ensure(differences.is_empty(), || {
        format!("{} of {count} calls differ:\n{}", differences.len(), differences.join("\n"))
    })?;
    shim.stop()?;
    etcd.stop()?;
    fs_err::remove_dir_all(folder)?;
    Ok(Verdict::Passed(format!("{count} calls")))
}
