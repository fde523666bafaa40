//! Random graphs of owners and dependents, and what is done to them. The same seed gives the same ones.

use std::collections::BTreeSet;

/// A generator of numbers that look random (splitmix64, by Sebastiano Vigna).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of so many.
    pub(super) fn below(&mut self, many: usize) -> usize {
        usize::try_from(self.roll() % many.max(1) as u64).unwrap_or_default()
    }

    /// True so many times out of a hundred.
    pub(super) fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A custom resource that is hidden on ours.
    Hidden,
    /// A custom resource that is not.
    Visible,
    /// A built-in kind.
    BuiltIn,
}

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    /// The owner's place in the graph.
    pub(super) owner: usize,
    pub(super) blocks: bool,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Which of the two namespaces it is in.
    pub(super) elsewhere: bool,
    /// Whether it has a finalizer that the collectors know nothing of.
    pub(super) held: bool,
    /// Its owners; all made before it, but for one that closes a cycle.
    pub(super) owners: Vec<Edge>,
    /// An owner that is made after it, and so is added later.
    pub(super) cycle: Option<usize>,
}

/// What is done to one graph, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Background(usize),
    Foreground(usize),
    Orphan(usize),
    /// Lifts the finalizer.
    Lift(usize),
}

/// A graph with what is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) deeds: Vec<Deed>,
}

impl Graph {
    /// A graph with a few objects, in which every round of deeds has one.
    pub(super) fn random(dice: &mut Dice, deeds: usize) -> Self {
        let size = 3 + dice.below(8);
        // Whole graphs of hidden objects, since mixed ones take the controller manager's slow way more often.
        let mixed = dice.percent(40);
        let mut nodes: Vec<Node> = Vec::new();
        for place in 0..size {
            let node = node(dice, &nodes, place, mixed);
            nodes.push(node);
        }
        if dice.percent(30) {
            let (from, to) = (dice.below(size - 1), size - 1);
            nodes[from].cycle = (nodes[from].elsewhere == nodes[to].elsewhere).then_some(to);
        }
        let deeds = (0..deeds).map(|_| deed(dice, size)).collect();
        let mut graph = Self { nodes, deeds };
        if graph.mixes_owners() {
            graph.nodes.iter_mut().for_each(|node| node.held = false);
        }
        if graph.depends_on_luck() {
            graph.thin();
        }
        for place in graph.marked_for_good() {
            graph.nodes[place].held = false;
        }
        graph
    }

    /// Whether stock Kubernetes itself may come to one result or another. An owner in the foreground waits for
    /// dependents with blockOwnerDeletion alone; others are looked at while it waits or when it is gone, and then
    /// deleted in the background; and which of several owners waits when a dependent is looked at is luck as well. That
    /// shows for as long as a finalizer holds somebody below.
    fn depends_on_luck(&self) -> bool {
        let foreground = self.deeds.iter().any(|deed| matches!(deed, Deed::Foreground(_)));
        let sure =
            |node: &Node| node.owners.len() < 2 && node.owners.iter().all(|edge| edge.blocks) && node.cycle.is_none();
        foreground && self.nodes.iter().any(|node| node.held) && !self.nodes.iter().all(sure)
    }

    /// Leaves one owner to each object, which waits for it.
    fn thin(&mut self) {
        for node in &mut self.nodes {
            node.owners.truncate(1);
            node.owners.iter_mut().for_each(|edge| edge.blocks = true);
            node.cycle = None;
        }
    }

    /// The objects that are deleted in the foreground before something else is, and all that depends on them. The
    /// controller manager never forgets that (`markDeletingDependents`, pkg/controller/garbagecollector/graph.go). One
    /// that a finalizer holds, its own or one below it, the controller manager takes for a part of a cycle when the
    /// owner of its owner is deleted in the foreground later: it unblocks the owner, and luck decides whether that one
    /// goes in the foreground or in the background. The shim goes by what the object says.
    fn marked_for_good(&self) -> BTreeSet<usize> {
        let foreground = self.deeds.iter().filter_map(|deed| match deed {
            Deed::Foreground(place) => Some(*place),
            _ => None,
        });
        let mut first: Vec<usize> = foreground.collect();
        first.pop();
        let mut places: BTreeSet<usize> = first.into_iter().collect();
        // Owners come before their dependents.
        for (place, node) in self.nodes.iter().enumerate() {
            if node.owners.iter().any(|edge| places.contains(&edge.owner)) {
                places.insert(place);
            }
        }
        places
    }

    /// Whether an object is hidden and its owner is not, or the other way round. What is deleted for the sake of an
    /// owner that waits in the foreground waits for its own dependents as well, if the collector sees both. The
    /// controller manager sees no hidden dependents; and a hidden owner for which only visible objects without
    /// blockOwnerDeletion are left does not wait until it has looked at them. Either shows for as long as a finalizer
    /// holds one of them.
    fn mixes_owners(&self) -> bool {
        let is_hidden = |node: &Node| node.kind == Kind::Hidden;
        self.nodes.iter().any(|node| {
            let mut owners = node.owners.iter().map(|edge| edge.owner).chain(node.cycle);
            owners.any(|owner| is_hidden(&self.nodes[owner]) != is_hidden(node))
        })
    }
}

fn node(dice: &mut Dice, before: &[Node], place: usize, mixed: bool) -> Node {
    let kind = match (mixed, dice.below(10)) {
        (true, 0..3) => Kind::BuiltIn,
        (true, 3..5) => Kind::Visible,
        _ => Kind::Hidden,
    };
    let elsewhere = dice.percent(8);
    let many = if place == 0 { 0 } else { dice.below(4).min(place) };
    let mut owners: Vec<Edge> = Vec::new();
    for _ in 0..many {
        let owner = place - 1 - dice.below(place.min(4));
        // A reference into another namespace points to nothing; a few of them are enough.
        let across = before[owner].elsewhere != elsewhere && !dice.percent(25);
        if !across && owners.iter().all(|edge| edge.owner != owner) {
            owners.push(Edge { owner, blocks: dice.percent(50) });
        }
    }
    Node { kind, elsewhere, held: dice.percent(12), owners, cycle: None }
}

fn deed(dice: &mut Dice, size: usize) -> Deed {
    // Roots come first, and have the most to lose.
    let node = if dice.percent(60) { dice.below(size.min(3)) } else { dice.below(size) };
    match dice.below(10) {
        0..4 => Deed::Background(node),
        4..7 => Deed::Foreground(node),
        7..9 => Deed::Orphan(node),
        _ => Deed::Lift(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graphs(seed: u64) -> Vec<Graph> {
        let mut dice = Dice::new(seed);
        (0..200).map(|_| Graph::random(&mut dice, 3)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_graphs() {
        assert_eq!(graphs(7), graphs(7));
        assert_ne!(graphs(7), graphs(8));
    }

    #[test]
    fn what_waits_for_a_deletion_in_the_foreground_is_not_held() {
        let node = |owner: Option<usize>| Node {
            kind: Kind::Hidden,
            elsewhere: false,
            held: false,
            owners: owner.map(|owner| Edge { owner, blocks: true }).into_iter().collect(),
            cycle: None,
        };
        let nodes = [None, Some(0), Some(1), Some(2), Some(1), None].map(node).to_vec();
        let deeds = vec![Deed::Foreground(2), Deed::Foreground(0), Deed::Background(5)];
        let graph = Graph { nodes, deeds };
        assert_eq!(graph.marked_for_good(), BTreeSet::from([2, 3]), "the object and its dependent");
    }

    #[test]
    fn every_form_comes_up_and_owners_come_first() {
        let graphs = graphs(1);
        let nodes = || graphs.iter().flat_map(|graph| graph.nodes.iter().enumerate().map(move |place| (graph, place)));
        for (graph, (place, node)) in nodes() {
            assert!(node.owners.iter().all(|edge| edge.owner < place));
            assert!(node.cycle.is_none_or(|owner| owner > place && owner < graph.nodes.len()));
        }
        let has = |is: fn(&Graph, &Node) -> bool| nodes().any(|(graph, (_, node))| is(graph, node));
        assert!(has(|_, node| node.owners.len() > 1), "diamonds");
        assert!(has(|_, node| node.cycle.is_some()), "cycles");
        assert!(has(|_, node| node.held), "finalizers");
        let across = |graph: &Graph, node: &Node| {
            node.owners.iter().any(|edge| graph.nodes[edge.owner].elsewhere != node.elsewhere)
        };
        assert!(has(across), "references into another namespace");
        assert!(has(|_, node| node.held && node.kind != Kind::Hidden), "visible objects with finalizers");
        assert!(!has(|graph, node| node.held && graph.mixes_owners()), "finalizers where they show a known difference");
        let is_marked = |graph: &Graph| graph.marked_for_good().into_iter().any(|place| graph.nodes[place].held);
        assert!(!graphs.iter().any(is_marked), "a finalizer on what the controller manager never forgets");
        assert!(graphs.iter().any(|graph| !graph.marked_for_good().is_empty()), "several deletions in the foreground");
        for kind in [Kind::Hidden, Kind::Visible, Kind::BuiltIn] {
            assert!(nodes().any(|(_, (_, node))| node.kind == kind), "{kind:?}");
        }
    }
}
