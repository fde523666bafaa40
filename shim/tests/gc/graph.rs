//! Random graphs of owners, random changes and restarts in between: the same objects are left as in a model of
//! Kubernetes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::model::{Cluster, Owner, Policy, Thing};
use crate::world::*;

/// How many names there are.
const NAMES: u64 = 10;
const HELD: &str = "example.com/x";

#[derive(Debug, Clone)]
enum Step {
    /// Creates the object of that name, unless it is there, with owners by name, each blocking or not.
    Create(u64, Vec<(u64, bool)>, bool),
    /// Gives an object an owner, by name.
    Adopt(u64, u64, bool),
    /// Takes an object's first owner away.
    Abandon(u64),
    Delete(u64, Policy),
    Lift(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES;
    let policy = prop_oneof![Just(Policy::Background), Just(Policy::Foreground), Just(Policy::Orphan)];
    prop_oneof![
        6 => (name(), prop::collection::vec((name(), any::<bool>()), 0..4), prop::bool::weighted(0.2))
            .prop_map(|(name, owners, held)| Step::Create(name, owners, held)),
        4 => (name(), name(), any::<bool>()).prop_map(|(of, owner, block)| Step::Adopt(of, owner, block)),
        1 => name().prop_map(Step::Abandon),
        4 => (name(), policy).prop_map(|(name, policy)| Step::Delete(name, policy)),
        2 => name().prop_map(Step::Lift),
    ]
}

/// Most are in one namespace, some in another, some in none.
fn namespace(name: u64) -> &'static str {
    ["a", "a", "a", "b", ""][name as usize % 5]
}

/// The store, the model, and the newest UID of each name.
struct Twins {
    world: World,
    model: Cluster,
    uids: BTreeMap<u64, u64>,
    next: u64,
}

impl Twins {
    async fn new() -> Self {
        Self { world: World::new().await, model: Cluster::default(), uids: BTreeMap::new(), next: 1 }
    }

    fn object(&self, name: u64, uid_of: u64) -> Object {
        Object { name: format!("n{name}"), uid: uid(uid_of), ..shirt(0).within(namespace(name)) }
    }

    /// The UID of a name whose object is there and not being deleted.
    fn alive(&self, name: u64) -> Option<u64> {
        let uid = *self.uids.get(&name)?;
        self.model.things.get(&uid).filter(|thing| thing.deletion.is_none()).map(|_| uid)
    }

    /// A reference to the newest object that had the name, there or not.
    fn reference(&self, name: u64, block: bool) -> Option<(Owner, Value)> {
        let uid = *self.uids.get(&name)?;
        let owner = Owner { uid, name: format!("n{name}"), block };
        Some((owner, self.object(name, uid).reference(block)))
    }

    async fn run(&mut self, step: &Step, restart: bool) {
        match step {
            Step::Create(name, owners, held) => {
                let (name, held) = (*name, *held);
                if self.uids.get(&name).is_some_and(|uid| self.model.things.contains_key(uid)) {
                    return;
                }
                let references: Vec<_> =
                    owners.iter().filter_map(|(owner, block)| self.reference(*owner, *block)).collect();
                let (owners, references): (Vec<_>, Vec<_>) = references.into_iter().unzip();
                let uid = self.next;
                self.next += 1;
                self.uids.insert(name, uid);
                let mut object = Object { owners: references, ..self.object(name, uid) };
                if held {
                    object = object.finalizer(HELD);
                }
                self.world.create(&object).await;
                let (namespace, name) = (namespace(name), object.name);
                self.model.things.insert(uid, Thing { namespace, name, owners, held, deletion: None });
                self.model.settle();
            }
            Step::Adopt(name, owner, block) => {
                let (Some(uid), Some((owner, value))) = (self.alive(*name), self.reference(*owner, *block)) else {
                    return;
                };
                let key = self.object(*name, uid).key();
                let add = |metadata: &mut Value| match metadata["ownerReferences"].as_array_mut() {
                    Some(owners) => owners.push(value.clone()),
                    None => metadata["ownerReferences"] = json!([value.clone()]),
                };
                self.world.update(&key, add).await;
                if let Some(thing) = self.model.things.get_mut(&uid) {
                    thing.owners.push(owner);
                }
                self.model.settle();
            }
            Step::Abandon(name) => {
                let Some(uid) = self.alive(*name) else { return };
                let Some(thing) = self.model.things.get_mut(&uid).filter(|thing| !thing.owners.is_empty()) else {
                    return;
                };
                let gone = thing.owners.remove(0).uid;
                thing.owners.retain(|owner| owner.uid != gone);
                let remove = |metadata: &mut Value| {
                    if let Some(owners) = metadata["ownerReferences"].as_array_mut() {
                        owners.retain(|owner| owner["uid"] != crate::world::uid(gone));
                    }
                };
                self.world.update(&self.object(*name, uid).key(), remove).await;
                self.model.settle();
            }
            Step::Delete(name, policy) => {
                let Some(uid) = self.alive(*name) else { return };
                let object = self.object(*name, uid);
                match policy {
                    Policy::Background => self.world.delete(&object).await,
                    Policy::Foreground => self.world.delete_with(&object, FOREGROUND).await,
                    Policy::Orphan => self.world.delete_with(&object, ORPHAN).await,
                }
                self.model.delete(uid, *policy);
            }
            Step::Lift(name) => {
                let Some(uid) = self.uids.get(name).copied() else { return };
                self.world.lift(&self.object(*name, uid), HELD).await;
                self.model.lift(uid);
            }
        }
        if restart {
            self.world.restart(None).await;
        }
        self.world.settle().await;
    }

    /// The keys of those that are not being deleted: whether one that is waits for this or for that may depend on the
    /// order of things, in Kubernetes too.
    async fn check(&self, step: &Step) {
        let mut living = Vec::new();
        for (name, uid) in &self.uids {
            let key = self.object(*name, *uid).key();
            if let Some(kv) = self.world.get(&key).await {
                let value: Value = serde_json::from_slice(&kv.value).unwrap();
                if value["metadata"].get("deletionTimestamp").is_none() {
                    living.push(*uid);
                }
            }
        }
        living.sort_unstable();
        let expected: Vec<_> =
            self.model.things.iter().filter(|(_, thing)| thing.deletion.is_none()).map(|(uid, _)| *uid).collect();
        assert_eq!(living, expected, "after {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_left_is_what_kubernetes_would_leave(steps in prop::collection::vec((step(), prop::bool::weighted(0.1)), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut twins = Twins::new().await;
            for (step, restart) in &steps {
                twins.run(step, *restart).await;
                twins.check(step).await;
            }
            for name in 0..NAMES {
                twins.run(&Step::Lift(name), false).await;
            }
            let expected = twins.model.things.len();
            assert_eq!(twins.world.keys().await.len(), expected, "{:?}", twins.model.things);
            twins.world.engine.shutdown().await;
        });
    }
}
