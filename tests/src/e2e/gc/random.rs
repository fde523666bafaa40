//! Random graphs on both clusters, random deletions, and the shim killed in between: the same objects must be left.
//!
//! `SLUICE_GC_SEED` plays a run again, `SLUICE_GC_SECONDS` makes it longer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::super::Verdict;
use super::Twins;
use super::graph::{Deed, Dice, Edge, Graph, Kind, Node};
use super::side::{HOLD, Policy, Side, is_deleting, owners, reference};
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::HttpError;
use sluice_toolkit::cluster::shirts::each;
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// Graphs that are at work at the same time.
const GRAPHS: usize = 24;

/// Deeds of each.
const DEEDS: usize = 3;

/// How long a run is unless `SLUICE_GC_SECONDS` says otherwise.
const SECONDS: u64 = 45;

/// How long the clusters may take to agree. Stock Kubernetes collects twenty objects a second.
const AGREE: Duration = Duration::from_secs(120);

/// What is said of an object whose deletion has begun.
const DELETING: &str = "being deleted";

/// What is left of a graph's objects: by name, whether it is being deleted, else its owners.
type State = BTreeMap<String, String>;

pub(super) fn run(twins: &Twins) -> Result<Verdict> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(anyhow::Error::from)?;
    let seed = number("SLUICE_GC_SEED").unwrap_or(now.as_secs());
    let limit = Duration::from_secs(number("SLUICE_GC_SECONDS").unwrap_or(SECONDS));
    let mut dice = Dice::new(seed);
    let (clock, mut batches, mut crashes) = (Instant::now(), 0, 0);
    while batches == 0 || clock.elapsed() < limit {
        let batch = Batch::random(&mut dice, twins, batches)?;
        crashes += batch
            .play(&mut dice)
            .map_err(|error| error.attempting(format!("with SLUICE_GC_SEED={seed}, batch {batches}")))?;
        batches += 1;
    }
    Ok(Verdict::Passed(format!("seed {seed}: {} graphs, {crashes} crashes", batches * GRAPHS)))
}

/// Graphs that are played together, in namespaces of their own.
struct Batch<'a> {
    graphs: Vec<Graph>,
    /// Ours and stock, in both namespaces each.
    sides: [[Side<'a>; 2]; 2],
}

impl<'a> Batch<'a> {
    fn random(dice: &mut Dice, twins: &'a Twins, number: usize) -> Result<Self> {
        let graphs = (0..GRAPHS).map(|_| Graph::random(dice, DEEDS)).collect();
        let namespaces = |side: Side<'a>| -> Result<[Side<'a>; 2]> {
            Ok([side.in_namespace(&format!("random-{number}-a"))?, side.in_namespace(&format!("random-{number}-b"))?])
        };
        let [ours, stock] = twins.sides();
        Ok(Self { graphs, sides: [namespaces(ours)?, namespaces(stock)?] })
    }

    /// Returns how often the shim was killed.
    fn play(&self, dice: &mut Dice) -> Result<usize> {
        self.on_both(|sides| self.create(sides))?;
        self.agree("after the creation")?;
        self.on_both(|sides| self.close_cycles(sides))?;
        self.agree("after the cycles")?;
        let mut crashes = 0;
        for round in 0..DEEDS {
            let crash = dice.percent(60);
            crashes += usize::from(crash);
            self.on_both(|sides| {
                thread::scope(|scope| {
                    let crash = (crash && sides[0].ours).then(|| scope.spawn(|| sides[0].crash()));
                    self.deeds(sides, round)?;
                    crash.map_or(Ok(()), |crash| crash.join().map_err(|_| Error::input("the crash broke"))?)
                })
            })?;
            self.agree(&format!("after deed {round}"))?;
        }
        self.on_both(|sides| self.lift_all(sides))?;
        self.agree("after all finalizers were lifted")?;
        Ok(crashes)
    }

    fn on_both(&self, work: impl Fn(&[Side<'a>; 2]) -> Result<()> + Sync) -> Result<()> {
        let [ours, stock] = &self.sides;
        thread::scope(|scope| {
            let theirs = scope.spawn(|| work(stock).map_err(|error| error.attempting("on stock Kubernetes")));
            work(ours).map_err(|error| error.attempting("on ours"))?;
            theirs.join().map_err(|_| Error::input("a thread broke"))?
        })
    }

    fn create(&self, sides: &[Side<'a>; 2]) -> Result<()> {
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        each(0..self.graphs.len(), |number| {
            if let Err(error) = create_graph(sides, number, &self.graphs[number]) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
            Ok(())
        })?;
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Gives objects the owner that was made after them. One that is gone by now has had an owner that is none.
    fn close_cycles(&self, sides: &[Side<'a>; 2]) -> Result<()> {
        for (number, graph) in self.graphs.iter().enumerate() {
            for (place, node) in graph.nodes.iter().enumerate() {
                let Some(owner) = node.cycle else { continue };
                let side = &sides[usize::from(node.elsewhere)];
                let (plural, owner_plural) = (plural(node.kind), plural(graph.nodes[owner].kind));
                let (Some(object), Some(owner)) =
                    (side.get(plural, &name(number, place))?, side.get(owner_plural, &name(number, owner))?)
                else {
                    continue;
                };
                let mut owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                owners.push(reference(&owner));
                side.merge(plural, &name(number, place), &json!({"metadata": {"ownerReferences": owners}}))?;
            }
        }
        Ok(())
    }

    fn deeds(&self, sides: &[Side<'a>; 2], round: usize) -> Result<()> {
        each(0..self.graphs.len(), |number| {
            let graph = &self.graphs[number];
            let (place, policy) = match graph.deeds[round] {
                Deed::Background(place) => (place, Some(Policy::Background)),
                Deed::Foreground(place) => (place, Some(Policy::Foreground)),
                Deed::Orphan(place) => (place, Some(Policy::Orphan)),
                Deed::Lift(place) => (place, None),
            };
            let node = &graph.nodes[place];
            let side = &sides[usize::from(node.elsewhere)];
            let path = format!("{}/{}", side.path(plural(node.kind)), name(number, place));
            insist(|| match policy {
                Some(policy) => side.api.delete(&format!("{path}?propagationPolicy={policy:?}")).map(|_| ()),
                None => lift(side, &path),
            })
        })
    }

    /// Waits until both clusters show the same, and have nothing to do any more.
    fn agree(&self, when: &str) -> Result<()> {
        let mut difference = String::new();
        let result = until("showing the same objects", AGREE, || {
            difference = self.difference()?;
            if difference.is_empty() {
                self.on_both(|sides| sides[0].in_namespace("random")?.barrier())?;
                difference = self.difference()?;
            }
            Ok(difference.is_empty().then_some(()))
        });
        result.map_err(|error| {
            let graphs: Vec<String> = self
                .graphs
                .iter()
                .enumerate()
                .filter(|(number, _)| difference.contains(&format!("g{number:02}-")))
                .map(|(number, graph)| format!("g{number:02} {graph:?}"))
                .collect();
            error.attempting(format!("{when}:\n{difference}\n{}", graphs.join("\n")))
        })
    }

    fn difference(&self) -> Result<String> {
        let [ours, stock] = &self.sides;
        Ok(differences(&state(ours)?, &state(stock)?))
    }

    fn lift_all(&self, sides: &[Side<'a>; 2]) -> Result<()> {
        each(0..self.graphs.len(), |number| {
            for (place, node) in self.graphs[number].nodes.iter().enumerate().filter(|(_, node)| node.held) {
                let side = &sides[usize::from(node.elsewhere)];
                let path = format!("{}/{}", side.path(plural(node.kind)), name(number, place));
                insist(|| lift(side, &path))?;
            }
            Ok(())
        })
    }
}

fn create_graph(sides: &[Side<'_>; 2], number: usize, graph: &Graph) -> Result<()> {
    let mut made: Vec<Value> = Vec::new();
    for (place, node) in graph.nodes.iter().enumerate() {
        let reference = |edge: &Edge| {
            let mut reference = reference(&made[edge.owner]);
            reference["blockOwnerDeletion"] = edge.blocks.into();
            reference
        };
        let references: Vec<Value> = node.owners.iter().map(reference).collect();
        made.push(create_node(&sides[usize::from(node.elsewhere)], &name(number, place), node, &references)?);
    }
    Ok(())
}

fn create_node(side: &Side<'_>, name: &str, node: &Node, owners: &[Value]) -> Result<Value> {
    let finalizers: &[&str] = if node.held { &[HOLD] } else { &[] };
    match node.kind {
        Kind::Hidden => side.hidden("shirts", name, owners, finalizers),
        Kind::Visible => {
            side.custom("shirts", json!({"name": name, "ownerReferences": owners, "finalizers": finalizers}))
        }
        Kind::BuiltIn => side.config_map(name, owners, finalizers),
    }
}

/// Does it again while the server is away; fine if the object is gone.
fn insist(work: impl Fn() -> Result<(), HttpError>) -> Result<(), HttpError> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match work() {
            Err(error) if error.status() == Some(404) => return Ok(()),
            Err(error)
                if Instant::now() < deadline
                    && error.status().is_none_or(|status| status == 409 || status == 429 || status >= 500) =>
            {
                thread::sleep(sluice_toolkit::cluster::pid::POLL);
            }
            other => return other,
        }
    }
}

/// Takes our finalizer off an object, and no other.
fn lift(side: &Side<'_>, path: &str) -> Result<(), HttpError> {
    let object = side.api.get(path)?;
    let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != HOLD);
    let version = &object["metadata"]["resourceVersion"];
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
    side.api.merge(path, &patch).map(|_| ())
}

fn name(graph: usize, node: usize) -> String {
    format!("g{graph:02}-n{node:02}")
}

fn plural(kind: Kind) -> &'static str {
    if kind == Kind::BuiltIn { "configmaps" } else { "shirts" }
}

fn state(sides: &[Side<'_>; 2]) -> Result<State> {
    let mut state = State::new();
    for side in sides {
        for plural in ["shirts", "configmaps"] {
            let list = side.api.get(&side.path(plural))?;
            for object in list["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let what = if is_deleting(object) { DELETING.to_owned() } else { format!("of [{}]", owners(object)) };
                if name.starts_with('g') {
                    state.insert(name.to_owned(), what);
                }
            }
        }
    }
    Ok(state)
}

/// What is not the same, a line for each object.
fn differences(ours: &State, stock: &State) -> String {
    let names: BTreeSet<&String> = ours.keys().chain(stock.keys()).collect();
    let shown = |state: &State, name: &str| state.get(name).cloned().unwrap_or_else(|| "gone".to_owned());
    let differ = names.into_iter().filter(|name| ours.get(*name) != stock.get(*name));
    differ.map(|name| format!("{name}: ours {}, stock {}\n", shown(ours, name), shown(stock, name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let state = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, what)| (name.to_string(), what.to_string())).collect::<State>()
        };
        let ours = state(&[("a", "of []"), ("b", "of [a]")]);
        assert_eq!(differences(&ours, &ours), "");
        let stock = state(&[("b", "being deleted"), ("c", "of []")]);
        let lines = ["a: ours of [], stock gone", "b: ours of [a], stock being deleted", "c: ours gone, stock of []"];
        assert_eq!(differences(&ours, &stock), lines.map(|line| format!("{line}\n")).concat());
    }
}
