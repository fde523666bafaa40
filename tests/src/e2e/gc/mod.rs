//! Garbage collection: the same objects on two clusters, and the same ones must be left.
//!
//! One cluster is ours, patched Kubernetes over the shim, where objects have the label that hides them from the
//! controller manager. The other is stock Kubernetes over etcd, with the same objects without the label. A [`Scene`]
//! plays on both at once and returns what it saw; that must be equal. The cases' numbers are those of the collector's
//! table of cases.

mod background;
mod collector;
mod encrypted;
mod foreground;
mod graph;
mod label;
mod orphan;
mod procedures;
mod quota;
mod random;
mod refused;
mod side;
mod two_apiservers;
mod two_databases;
mod whole;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::thread;

use self::side::Side;
use super::lab::{Lab, Wish};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::settings::Store;
use sluice_toolkit::cluster::wait::ensure;

/// What was seen, by name. It must be the same on both clusters.
type Seen = BTreeMap<String, String>;

/// One case, played on each of the clusters in a namespace of its own.
type Scene = fn(&Side<'_>) -> Result<Seen>;

pub(super) fn cases() -> Vec<Case> {
    let shared = Rc::new(Shared::default());
    let scenes: [(&'static str, Scene); 17] = [
        ("t01", background::t01_a_tree_goes_from_its_root),
        ("t03", background::t03_owner_is_built_in),
        ("t04", background::t04_dependents_are_visible),
        ("t05", foreground::t05_a_chain_goes_from_its_end),
        ("t06", foreground::t06_owner_is_built_in),
        ("t07", orphan::t07_dependents_stay),
        ("t08", orphan::t08_owner_is_built_in),
        ("t16", background::t16_dependent_has_a_finalizer),
        ("t20", label::t20_label_comes),
        ("t21", label::t21_label_goes),
        ("t23", label::t23_leases_are_the_controller_managers),
        ("t24", label::t24_built_in_kinds_are_the_controller_managers),
        ("t33", whole::t33_a_namespace_ends),
        ("t34", whole::t34_a_definition_ends),
        ("t35", refused::t35_what_does_not_take_place_collects_nothing),
        ("t38", whole::t38_quotas_count),
        ("quota-freed", quota::each_deletion_frees_one),
    ];
    let scene = |name: &'static str, scene: Scene| {
        let shared = Rc::clone(&shared);
        Case::new(format!("gc/{name}"), move |suite| {
            shared.on_both(suite, |side| scene(&side.in_namespace(name)?))?;
            Ok(Verdict::PASSED)
        })
    };
    let mut cases: Vec<Case> = scenes.into_iter().map(|(name, play)| scene(name, play)).collect();
    let migrated = scene("t39", whole::t39_storage_versions_are_migrated);
    cases.push(migrated.since(37, "storage versions are migrated by an API that is served by default"));
    let twins = Rc::clone(&shared);
    cases.push(Case::new("gc/t29", move |suite| twins.with(suite, |twins| two_apiservers::run(&twins.sides()[0]))));
    cases.push(Case::new("gc/t26", two_databases::run).of(Column::OURS));
    cases.push(Case::new("gc/on-and-off", procedures::run).of(Column::OURS));
    cases.push(Case::new("gc/collector-seen", collector::seen).of(Column::OURS));
    cases.push(Case::new("gc/collector-missing", collector::missing).of(collector::WITHOUT));
    cases.push(Case::new("gc/encrypted", encrypted::run).of(Column::OURS));
    cases.push(Case::new("gc/random", move |suite| shared.with(suite, random::run)));
    cases
}

/// The two clusters.
struct Twins {
    ours: Lab,
    stock: Lab,
}

impl Twins {
    fn start(suite: &Suite) -> Result<Self> {
        let ours = Wish::new(Column::OURS).apiserver_arg(side::NO_WATCH_CACHE);
        let stock = Wish::new(Column { patched: false, store: Store::Etcd });
        let (ours, stock) = thread::scope(|scope| {
            let ours = scope.spawn(|| start_one(suite, ours));
            let stock = start_one(suite, stock);
            Ok::<_, Error>((ours.join().map_err(|_| Error::input("the start of a cluster broke"))??, stock?))
        })?;
        Ok(Self { ours, stock })
    }

    fn sides(&self) -> [Side<'_>; 2] {
        [Side::new(&self.ours, true), Side::new(&self.stock, false)]
    }
}

/// A controller manager finds new kinds every 30 s; one that starts after them knows them from the start.
fn start_one(suite: &Suite, wish: Wish) -> Result<Lab> {
    let mut lab = Lab::start(suite, wish)?;
    lab.cluster.settings.controller_manager_args.push(quota::SELDOM.to_owned());
    lab.cluster.stop_one(Component::ControllerManager)?;
    side::define(&lab.api)?;
    lab.cluster.start_one(Component::ControllerManager)?;
    Side::new(&lab, false).in_namespace("ready")?.barrier()?;
    Ok(lab)
}

/// The clusters that the cases share: started by the first one that needs them, removed with the last case if all went
/// well.
#[derive(Default)]
struct Shared {
    twins: RefCell<Option<Twins>>,
    failed: RefCell<bool>,
}

impl Shared {
    fn with<T>(&self, suite: &Suite, work: impl FnOnce(&Twins) -> Result<T>) -> Result<T> {
        let mut twins = self.twins.borrow_mut();
        let result = (|| {
            let twins = match &mut *twins {
                Some(twins) => twins,
                empty => empty.insert(Twins::start(suite)?),
            };
            work(twins)
        })();
        *self.failed.borrow_mut() |= result.is_err();
        result
    }

    /// Plays on both, and compares.
    fn on_both(&self, suite: &Suite, scene: impl Fn(&Side<'_>) -> Result<Seen> + Sync) -> Result<()> {
        let [ours, stock] = self.with(suite, |twins| {
            let [ours, stock] = twins.sides();
            thread::scope(|scope| {
                let theirs = scope.spawn(|| scene(&stock).map_err(|error| error.attempting("on stock Kubernetes")));
                let ours = scene(&ours).map_err(|error| error.attempting("on ours"));
                let stock = theirs.join().map_err(|_| Error::input("the scene broke"))?;
                Ok([ours?, stock?])
            })
        })?;
        ensure(ours == stock, || format!("ours:  {ours:?}\nstock: {stock:?}"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(twins) = self.twins.take().filter(|_| !*self.failed.borrow()) {
            // What is left behind is removed by the next run.
            let _ = twins.ours.finish();
            let _ = twins.stock.finish();
        }
    }
}
