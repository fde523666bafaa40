//! A group of custom resources in a database of its own: `up --shard`, `--etcd-servers-overrides` and
//! `--definitions-from`.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lab::{Lab, Wish};
use super::raw::Raw;
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_shell::process::Run;
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::shirts::{self, NAMESPACE, PATH, SKIP_LABEL, names, shirt};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A group that stays in the main database.
const HATS: &str = "/apis/other.example.com/v1/namespaces/wardrobe/hats";
const CONFIG_MAPS: &str = "/api/v1/namespaces/wardrobe/configmaps";

/// Where kube-apiserver keeps the group.
const KEYS: &str = "/registry/stable.example.com/";

/// The shim of the group.
const SHARD: Component = Component::Shard(0);

const SHIRTS: usize = 400;
const GREEN: &str = "shirt-0 shirt-100 shirt-200 shirt-300";

/// Rows that a list of the green ones may read.
const ROWS: u64 = 20;

/// How long a request may wait for a database that is away.
const PATIENCE: &str = "timeout=5s";

/// kube-apiserver waits so long for a connection where it does wait.
const CONNECT: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("shards/shirts", shirts).of(Column::OURS),
        Case::new("shards/gc", collects).of(Column::OURS),
        Case::new("shards/move", moves).of(Column::OURS),
    ]
}

fn start(suite: &Suite) -> Result<Lab> {
    let wish = Wish::new(Column::OURS).shard("stable.example.com");
    let lab = Lab::start(suite, wish.apiserver_arg(shirts::NO_WATCH_CACHE_FOR_GROUP))?;
    shirts::prepare(&lab.api)?;
    Ok(lab)
}

/// All that a cluster does with custom resources it does with those elsewhere, and their absence is nobody else's.
fn shirts(suite: &Suite) -> Result<Verdict> {
    let lab = start(suite)?;
    let (main, shard) = (Raw::of(suite, &lab)?, Raw::at(suite, &lab, lab.cluster.ports.shards[0].store)?);
    let (Some(main), Some(shard)) = (main, shard) else {
        return Ok(Verdict::Skipped("needs an etcdctl beside etcd".to_owned()));
    };
    let api = &lab.api;
    define_hats(api)?;
    shirts::each(0..SHIRTS, |number| {
        let color = if number % 100 == 0 { "green" } else { "grey" };
        api.create(PATH, &shirt(&format!("shirt-{number}"), color, "M")).map(|_| ())
    })?;
    let (in_main, in_shard) = (main.keys(KEYS)?, shard.keys(KEYS)?);
    ensure(in_main.trim().is_empty(), || format!("the main database holds {in_main}"))?;
    let stored = in_shard.lines().filter(|line| !line.is_empty()).count();
    ensure(stored == SHIRTS, || format!("the shard holds {stored} of {SHIRTS} shirts"))?;
    let others = shard.keys("/registry/configmaps/")?;
    ensure(others.trim().is_empty(), || format!("the shard holds {others}"))?;

    indexes_of_the_shard(&lab)?;
    let by_label = rows_of_a_list(&lab, "labelSelector=color%3Dgreen")?;
    let by_field = rows_of_a_list(&lab, "fieldSelector=spec.color%3Dgreen")?;

    let mut watch = lab.kubectl().watch(&format!("shirts -n {NAMESPACE} -l color=green"))?;
    watch.wait_for("what is there", LIMIT, |event| event.name() == "shirt-300")?;
    crash(&lab)?;
    api.create(PATH, &shirt("grey-again", "grey", "S"))?;
    api.create(PATH, &shirt("green-again", "green", "S"))?;
    let seen = watch.wait_for("green-again", LIMIT, |event| event.name() == "green-again")?;
    let grey = seen.iter().find(|event| event.name() == "grey-again");
    ensure(grey.is_none(), || format!("the watch of the green ones showed {grey:?}"))?;

    let waited = start_without_the_shard(&lab)?;
    lab.finish()?;
    Ok(Verdict::Passed(format!(
        "rows read: {by_label} by label, {by_field} by field; without the shard the other group waited {} ms",
        waited.as_millis()
    )))
}

/// A custom resource of a group that is in no shard.
fn define_hats(api: &Client) -> Result<()> {
    let mut hats = shirts::definition();
    hats["metadata"]["name"] = "hats.other.example.com".into();
    hats["spec"]["group"] = "other.example.com".into();
    hats["spec"]["names"] = json!({"plural": "hats", "singular": "hat", "kind": "Hat"});
    api.create(DEFINITIONS, &hats)?;
    until("serving hats", LIMIT, || Ok(api.get(&format!("{HATS}?limit=1")).ok()))?;
    Ok(())
}

/// Waits until the shard's shim has an index of each field of both definitions, which are in the main database.
fn indexes_of_the_shard(lab: &Lab) -> Result<()> {
    until("indexes of the fields in the shard", LIMIT, || {
        let metrics = lab.cluster.shard_client(0).text("/metrics")?;
        Ok(metrics.lines().any(|line| line == "sluice_field_indexes{state=\"Ready\"} 4").then_some(()))
    })
}

/// Rows that the shard's shim reads for a list of the green ones; nobody else asks it for rows.
fn rows_of_a_list(lab: &Lab, selector: &str) -> Result<u64> {
    let rows = || -> Result<u64> {
        let metrics = lab.cluster.shard_client(0).text("/metrics")?;
        let counts = metrics.lines().filter(|line| line.starts_with("sluice_rows_read_total"));
        Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    };
    let mut least = u64::MAX;
    for _ in 0..5 {
        let before = rows()?;
        let found = names(&lab.api.get(&format!("{PATH}?{selector}"))?).join(" ");
        ensure(found == GREEN, || format!("the list by {selector} holds {found}"))?;
        least = least.min(rows()? - before);
    }
    ensure(least <= ROWS, || format!("a list by {selector} read {least} rows of the shard, more than {ROWS}"))?;
    Ok(least)
}

/// Kills the shard's shim: its group alone is gone until the shim is back.
fn crash(lab: &Lab) -> Result<()> {
    lab.cluster.process(SHARD).ok_or_else(|| Error::input("the shard's shim has ended"))?.kill()?;
    let away = lab.api.get(&format!("{PATH}?limit=1&{PATIENCE}"));
    ensure(away.is_err(), || "shirts are served without their database".to_owned())?;
    others_are_served(lab)?;
    for probe in ["/livez", "/readyz"] {
        lab.api.probe(probe)?;
    }
    lab.cluster.start_one(SHARD)?;
    back(&lab.api)
}

fn others_are_served(lab: &Lab) -> Result<()> {
    lab.api.get(HATS)?;
    let name = json!({"generateName": "map-"});
    lab.api.create(CONFIG_MAPS, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name}))?;
    Ok(())
}

fn back(api: &Client) -> Result<()> {
    until("serving the shirts again", LIMIT, || Ok(api.get(&format!("{PATH}?limit=1&{PATIENCE}")).ok()))?;
    Ok(())
}

/// An apiserver that starts while the shard is away serves all else, also while somebody asks for the shirts. Returns
/// how long the first request to the other group took.
fn start_without_the_shard(lab: &Lab) -> Result<Duration> {
    lab.cluster.stop_one(SHARD)?;
    lab.cluster.stop_one(Component::Apiserver)?;
    lab.cluster.start_one(Component::Apiserver)?;
    let waited = thread::scope(|scope| -> Result<Duration> {
        let asking: Vec<_> =
            (0..4).map(|_| scope.spawn(|| lab.api.get(&format!("{PATH}?limit=1&{PATIENCE}")).is_err())).collect();
        let clock = Instant::now();
        until("serving hats", LIMIT, || Ok(lab.api.get(&format!("{HATS}?limit=1")).ok()))?;
        let waited = clock.elapsed();
        let refused = asking.into_iter().all(|asked| asked.join().unwrap_or(false));
        ensure(refused, || "shirts are served without their database".to_owned())?;
        Ok(waited)
    })?;
    ensure(waited < CONNECT, || format!("the hats waited {waited:?} for the database of the shirts"))?;
    others_are_served(lab)?;
    lab.cluster.start_one(SHARD)?;
    back(&lab.api)?;
    Ok(waited)
}

/// Labelled owners and dependents that are both in the shard are collected there, by its shim.
fn collects(suite: &Suite) -> Result<Verdict> {
    let lab = start(suite)?;
    create_family(&lab.api)?;
    end_family(&lab.api)?;
    let collected = |client: &Client| -> Result<u64> {
        let metrics = client.text("/metrics")?;
        let counts = metrics.lines().filter(|line| line.starts_with("sluice_gc_actions_total"));
        Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    };
    let (by_main, by_shard) = (collected(&lab.cluster.store_client())?, collected(&lab.cluster.shard_client(0))?);
    ensure((by_main, by_shard) == (0, 1), || format!("the main shim collected {by_main}, the shard's {by_shard}"))?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// A labelled owner with a labelled dependent, and one without.
fn create_family(api: &Client) -> Result<()> {
    let labelled = |name: &str, owners: Value| {
        let mut labelled = shirt(name, "green", "M");
        labelled["metadata"]["labels"][SKIP_LABEL] = "true".into();
        labelled["metadata"]["ownerReferences"] = owners;
        labelled
    };
    let owner = api.create(PATH, &labelled("owner", json!([])))?;
    let reference =
        json!([{"apiVersion": owner["apiVersion"], "kind": "Shirt", "name": "owner", "uid": owner["metadata"]["uid"]}]);
    api.create(PATH, &labelled("dependent", reference))?;
    api.create(PATH, &labelled("bystander", json!([])))?;
    Ok(())
}

/// Deletes the owner, and waits until the dependent is collected.
fn end_family(api: &Client) -> Result<()> {
    api.delete(&format!("{PATH}/owner?propagationPolicy=Background"))?;
    until("the end of the dependent", LIMIT, || {
        let left = names(&api.get(PATH)?).join(" ");
        Ok((left == "bystander").then_some(()))
    })
}

/// Objects that are stored already go to a database of their own, and are the same there: with the same versions, and a
/// watch that goes on from before.
fn moves(suite: &Suite) -> Result<Verdict> {
    let wish = Wish::new(Column::OURS).apiserver_arg(shirts::NO_WATCH_CACHE_FOR_GROUP);
    let lab = Lab::start(suite, wish)?;
    shirts::prepare(&lab.api)?;
    create_family(&lab.api)?;
    let before = lab.api.get(PATH)?;
    let lab = lab.with_shard(suite, "stable.example.com", |cluster| {
        let run = Run::new(&cluster.settings.programs.store, &cluster.folder).args(["move-group", "--prefix", KEYS]);
        run.arg(cluster.shard_endpoint(0)).args(["--endpoint", &cluster.endpoint()?]).run()
    })?;
    back(&lab.api)?;
    let after = lab.api.get(PATH)?;
    ensure(after["items"] == before["items"], || format!("the shirts were {before}, and are {after}"))?;
    lab.api.create(PATH, &shirt("late", "green", "S"))?;
    let since = before["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let seen = lab.api.text(&format!("{PATH}?watch=true&timeoutSeconds=1&resourceVersion={since}"))?;
    ensure(seen.lines().count() == 1 && seen.contains("\"name\":\"late\""), || {
        format!("a watch from revision {since} on shows {seen}")
    })?;
    lab.api.delete(&format!("{PATH}/late"))?;
    end_family(&lab.api)?;
    if let Some(main) = Raw::of(suite, &lab)? {
        let in_main = main.keys(KEYS)?;
        ensure(in_main.trim().is_empty(), || format!("the main database holds {in_main}"))?;
    }
    lab.finish()?;
    Ok(Verdict::PASSED)
}
