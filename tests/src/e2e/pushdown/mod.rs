//! What must not be pushed: where the stored bytes and the object that a selector means can differ, nothing may be left
//! out.
//!
//! Each check gets the API into one of these situations and asks with selectors. What must come back is upstream's
//! behaviour: the same checks run on stock Kubernetes and etcd. On ours they also fix how many objects the store handed
//! out, so that a guard that is too careful is noticed as well as one that is missing.

mod builtin;
mod bytes;
mod conversion;
mod documented;
mod encryption;
mod probe;
mod resource;
mod schema;
mod webhook;

use std::thread;

use serde_json::json;

use self::probe::Probe;
use super::at_rest::{Keys, Plugin};
use super::lab::{Lab, Wish};
use super::raw::Raw;
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::settings::Store;
use sluice_toolkit::cluster::shirts::NAMESPACE;
use sluice_toolkit::cluster::wait::ensure;

/// Custom resources of the checks; none has a watch cache.
const RESOURCES: [&str; 12] = [
    "plains",
    "defaulteds",
    "nesteds",
    "retypeds",
    "latelies",
    "editions",
    "hookeds",
    "ciphereds",
    "boxeds",
    "sealeds",
    "odds",
    "brokens",
];

/// One situation: makes it, and asks. Those that write behind the apiserver's back need a [`Raw`].
type Check = fn(&mut Probe<'_>, Option<&Raw>) -> Result<()>;

/// Those that don't mind others beside them.
const CHECKS: [Check; 10] = [
    schema::plain,
    schema::defaulted,
    schema::defaulted_ancestor,
    schema::retyped,
    conversion::editions,
    conversion::webhook,
    encryption::encrypted,
    bytes::odd,
    bytes::undecodable,
    builtin::builtin,
];

pub(super) fn cases() -> Vec<Case> {
    let stock = Column { patched: false, store: Store::Etcd };
    vec![
        Case::new("pushdown/stock-etcd", move |suite| run(suite, stock, false)).of(stock),
        Case::new("pushdown/patched-shim", |suite| run(suite, Column::OURS, false)).of(Column::OURS),
        Case::new("pushdown/patched-shim/cbor", |suite| run(suite, Column::OURS, true)).of(Column::OURS),
        Case::new("pushdown/documented", documented::run).of(Column::OURS),
    ]
}

/// All checks in one cluster, each on resources of its own.
fn run(suite: &Suite, column: Column, cbor: bool) -> Result<Verdict> {
    // Before the cluster, which ends first.
    let plugin = Plugin::start(suite)?;
    let keys = Keys::write(&suite.scratch, &encryption::resources(plugin.as_ref()))?;
    let custom = RESOURCES.map(|plural| format!("{plural}.{}#0", resource::GROUP)).join(",");
    let builtin = builtin::RESOURCES.map(|resource| format!("{resource}#0")).join(",");
    let mut wish =
        Wish::new(column).apiserver_arg(format!("--watch-cache-sizes={custom},{builtin}")).apiserver_arg(keys.flag());
    if cbor {
        wish = wish.apiserver_arg("--feature-gates=CBORServingAndStorage=true");
    }
    let lab = Lab::start(suite, wish)?;
    lab.api.create("/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}}))?;
    let raw = Raw::of(suite, &lab)?;

    let sealed: Option<Check> = plugin.as_ref().map(|_| encryption::sealed as Check);
    let (mut asked, mut wrong) = (0, Vec::new());
    // Most of a check's time is waiting for the apiserver to take up a definition, so they wait together.
    let probes: Vec<Result<Probe<'_>>> = thread::scope(|scope| {
        let (lab, raw) = (&lab, raw.as_ref());
        let checks = CHECKS.into_iter().chain(sealed).map(|check| {
            scope.spawn(move || {
                let mut probe = Probe::new(lab, column == Column::OURS);
                check(&mut probe, raw).map(|()| probe)
            })
        });
        // All are started before the first is waited for.
        let checks: Vec<_> = checks.collect();
        checks.into_iter().map(|check| check.join().unwrap_or_else(|_| Err(Error::input("a check panicked")))).collect()
    });
    let mut crashed = Probe::new(&lab, column == Column::OURS);
    let last = schema::made_selectable_later(&mut crashed, raw.as_ref()).map(|()| crashed);
    for probe in probes.into_iter().chain([last]) {
        match probe {
            Ok(probe) => {
                asked += probe.asked();
                wrong.extend(probe.into_wrong());
            }
            Err(error) => wrong.push(format!("{error:?}")),
        }
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))?;
    lab.finish()?;
    Ok(Verdict::Passed(format!("{asked} selectors")))
}
