//! The controller manager leaves labelled objects to the storage's collector, and says at its start whether there is
//! one.

use super::super::lab::{Lab, Wish};
use super::super::{Column, Suite, Verdict};
use super::side;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::settings::Store;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// What any authenticated user may read.
const PATH: &str = "/apis/storage-gc.sluice-project.github.io";

/// The controller manager's flag for the label; empty: it leaves nothing to the storage.
const FLAG: &str = "--metadata-caching-skip-label=";

const SEEN: &str = "The garbage collector of the storage collects objects with the label";
const MISSING: &str = "are left to the garbage collector of the storage, and none can be seen";

/// Where there is no collector.
pub(super) const WITHOUT: Column = Column { patched: true, store: Store::Etcd };

/// On the shim it is seen; the same shim without it is known at once, also by the same apiserver.
pub(super) fn seen(suite: &Suite) -> Result<Verdict> {
    let mut lab = Lab::start(suite, Wish::new(Column::OURS))?;
    says(&lab, 0, Some(SEEN))?;
    let label = lab.api.text(PATH)?;
    ensure(label.trim_end() == side::SKIP_LABEL, || format!("{PATH} says {label:?}"))?;

    lab.cluster.stop_one(Component::ControllerManager)?;
    restart(&mut lab, Component::Store, "--gc=off")?;
    let from = log(&lab)?.len();
    lab.cluster.start_one(Component::ControllerManager)?;
    says(&lab, from, Some(MISSING))?;
    let refused = lab.api.text(PATH);
    ensure(matches!(&refused, Err(error) if error.status() == Some(404)), || format!("{PATH} says {refused:?}"))?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// On etcd the toolkit sets no label, so there is nothing to say. Whoever sets one is warned.
pub(super) fn missing(suite: &Suite) -> Result<Verdict> {
    // When it collects it would have said something.
    let mut lab = super::start_one(suite, Wish::new(WITHOUT))?;
    says(&lab, 0, None)?;
    let from = log(&lab)?.len();
    restart(&mut lab, Component::ControllerManager, &format!("{FLAG}{}", side::SKIP_LABEL))?;
    says(&lab, from, Some(MISSING))?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// Starts a process anew with one more argument.
fn restart(lab: &mut Lab, component: Component, arg: &str) -> Result<()> {
    lab.cluster.stop_one(component)?;
    let settings = &mut lab.cluster.settings;
    let args = match component {
        Component::Store => &mut settings.store_args,
        Component::Apiserver => &mut settings.apiserver_args,
        Component::ControllerManager => &mut settings.controller_manager_args,
        Component::Database | Component::Shard(_) => {
            return Err(Error::input("the cluster's store is no database server"));
        }
    };
    args.push(arg.to_owned());
    lab.cluster.start_one(component)
}

/// Waits until the controller manager says this, in what it logged from there on, and not the contrary; or that it has
/// said neither.
fn says(lab: &Lab, from: usize, what: Option<&str>) -> Result<()> {
    let said = || -> Result<Vec<&str>> {
        let log = log(lab)?;
        let log = log.get(from..).unwrap_or_default();
        Ok([SEEN, MISSING].into_iter().filter(|text| log.contains(text)).collect())
    };
    if let Some(text) = what {
        until(&format!("the controller manager saying that {text:?}"), LIMIT, || {
            Ok((!said()?.is_empty()).then_some(()))
        })?;
    }
    let said = said()?;
    ensure(said == Vec::from_iter(what), || format!("the controller manager says {said:?}, not {what:?}"))
}

fn log(lab: &Lab) -> Result<String> {
    Ok(fs_err::read_to_string(lab.cluster.log(Component::ControllerManager))?)
}
