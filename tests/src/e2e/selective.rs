//! Twenty thousand shirts, twenty of them green: what it costs to find those, and to have the others.

use serde_json::json;

use super::lab::{Lab, Wish};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::shirts::{self, NAMESPACE, PATH, SKIP_LABEL, names, shirt};
use sluice_toolkit::cluster::wait::ensure;

const FEW: usize = 2_000;
const MANY: usize = 20_000;
const GREEN: usize = 20;

/// Rows that the shim may read to list the green ones.
const ROWS: u64 = 40;

/// How much larger the apiserver may be with the many than with the few. Bytes.
const GROWTH: u64 = 40 << 20;

/// Rounds of the load under which memory is measured.
const ROUNDS: usize = 15;

/// Changes in each round.
const CHANGES: usize = 200;

/// A shirt takes about 600 bytes.
const NOTE_BYTES: usize = 200;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("selective/20000-shirts", run).of(Column::OURS)]
}

fn run(suite: &Suite) -> Result<Verdict> {
    let lab = Lab::start(suite, Wish::new(Column::OURS).apiserver_arg(shirts::NO_WATCH_CACHE_FOR_GROUP))?;
    shirts::prepare(&lab.api)?;
    load(&lab, 0..FEW)?;
    let few = memory_under_load(&lab)?;
    load(&lab, FEW..MANY)?;
    let many = memory_under_load(&lab)?;
    let rows = rows_of_a_list(&lab)?;

    let (server, manager) = (growth(few.apiserver, many.apiserver), growth(few.manager, many.manager));
    let shown = format!(
        "rows read {rows}; apiserver {} → {} MiB, controller manager {} → {} MiB",
        few.apiserver >> 20,
        many.apiserver >> 20,
        few.manager >> 20,
        many.manager >> 20
    );
    ensure(rows >= GREEN as u64, || format!("the shim can't have found {GREEN} shirts in {rows} rows; {shown}"))?;
    ensure(rows <= ROWS, || {
        format!("the list of the {GREEN} green shirts read {rows} rows, more than {ROWS}; {shown}")
    })?;
    ensure(server <= GROWTH, || format!("the apiserver grew by more than {} MiB: {shown}", GROWTH >> 20))?;
    ensure(manager <= GROWTH, || format!("the controller manager grew by more than {} MiB: {shown}", GROWTH >> 20))?;
    lab.finish()?;
    Ok(Verdict::Passed(shown))
}

fn growth(before: u64, after: u64) -> u64 {
    after.saturating_sub(before)
}

/// The green ones are spread over the first [`FEW`], so that both measurements list the same.
fn load(lab: &Lab, numbers: std::ops::Range<usize>) -> Result<()> {
    shirts::each(numbers, |number| {
        let color = if number % (FEW / GREEN) == 7 && number < FEW { "green" } else { "grey" };
        let mut shirt = shirt(&name(number), color, "M");
        shirt["metadata"]["labels"][SKIP_LABEL] = json!("true");
        shirt["spec"]["note"] = json!("n".repeat(NOTE_BYTES));
        lab.api.create(PATH, &shirt).map(|_| ())
    })
}

fn name(number: usize) -> String {
    format!("shirt-{number:05}")
}

/// Resident memory, in bytes.
struct Memory {
    apiserver: u64,
    manager: u64,
}

/// The median over some rounds of changes and selective lists: a single look would show where in its cycle the
/// collector is.
fn memory_under_load(lab: &Lab) -> Result<Memory> {
    let (mut apiserver, mut manager) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        shirts::each(0..CHANGES, |number| {
            let path = format!("{PATH}/{}", name(number * (FEW / CHANGES)));
            lab.api.merge(&path, &json!({"spec": {"size": format!("{round}")}})).map(|_| ())
        })?;
        let found = names(&lab.api.get(&green())?).len();
        ensure(found == GREEN, || format!("the list of the green shirts holds {found}"))?;
        apiserver.push(resident(lab, Component::Apiserver)?);
        manager.push(resident(lab, Component::ControllerManager)?);
    }
    Ok(Memory { apiserver: median(apiserver), manager: median(manager) })
}

fn resident(lab: &Lab, component: Component) -> Result<u64> {
    let process = lab.cluster.process(component);
    process
        .and_then(|process| process.resident_bytes())
        .ok_or_else(|| Error::input(format!("{} has ended", component.title(&lab.cluster))))
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn green() -> String {
    format!("{PATH}?labelSelector=color%3Dgreen")
}

/// Rows that the shim read for a `kubectl get -l color=green`. Others read meanwhile (leases, events), so the smallest
/// of some tries.
fn rows_of_a_list(lab: &Lab) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..5 {
        let before = rows_read(lab)?;
        let found = lab.kubectl().run(&format!("get shirts -n {NAMESPACE} -l color=green -o name"))?.lines().count();
        ensure(found == GREEN, || format!("kubectl shows {found} green shirts"))?;
        least = least.min(rows_read(lab)? - before);
    }
    Ok(least)
}

fn rows_read(lab: &Lab) -> Result<u64> {
    let metrics = lab.cluster.store_client().text("/metrics")?;
    let rows = metrics.lines().filter(|line| line.starts_with("sluice_rows_read_total"));
    let values: Vec<f64> = rows.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    ensure(!values.is_empty(), || "the shim has no metric sluice_rows_read_total".to_owned())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of rows is a whole number")]
    Ok(values.iter().sum::<f64>() as u64)
}
