//! No module of the shim depends on itself through others.
//!
//! A module and those that contain it are one house: a folder's `mod.rs` names its files, and they use what it defines. Between all
//! others a circle means that a concept has no room of its own yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};

type Module = Vec<String>;

/// The modules that each module names.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_module_depends_on_itself_through_others() {
    let uses = uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(uses.len() > 100, "only {} modules were found", uses.len());
    let circles: Vec<String> = circles(&uses).iter().map(|circle| shown(circle)).collect();
    assert!(circles.is_empty(), "circles of modules:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let module = |path: &str| path.split("::").map(String::from).collect::<Module>();
    let sources = [
        ("a", "use crate::{b::inner, c}; fn f() { c::g(); }"),
        ("b", "pub(crate) mod inner;"),
        ("b::inner", "fn f() -> super::super::c::T { todo() }"),
        ("c", "use super::a::{self, X};"),
        ("d", "use crate::a; #[cfg(test)] mod tests { use crate::e; }"),
        ("e", "use crate::d;"),
    ];
    let files = sources.map(|(path, text)| (module(path), syn::parse_file(text).expect("Rust")));
    let circles = circles(&uses_of(&files));
    assert_eq!(circles.len(), 1, "{circles:?}");
    assert_eq!(shown(&circles[0]), "a, b::inner, c");
}

fn shown(circle: &[Module]) -> String {
    circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(", ")
}

/// What the modules below a source folder use.
fn uses(folder: &Path) -> Uses {
    let files: Vec<(Module, syn::File)> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.expect("a source folder").into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let parts = path.strip_prefix(folder).expect("below the folder").with_extension("");
            let mut module: Module = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            module.pop_if(|name| name == "mod" || name == "lib");
            (module, syn::parse_file(&text).expect("Rust"))
        })
        .collect();
    uses_of(&files)
}

fn uses_of(files: &[(Module, syn::File)]) -> Uses {
    let known: BTreeSet<&Module> = files.iter().map(|(module, _)| module).collect();
    let of = |(module, file): &(Module, syn::File)| {
        let mut names = Names { module, known: &known, found: BTreeSet::new() };
        names.visit_file(file);
        (module.clone(), names.found)
    };
    files.iter().map(of).collect()
}

/// Gathers the modules that a file names.
struct Names<'a> {
    module: &'a Module,
    known: &'a BTreeSet<&'a Module>,
    found: BTreeSet<Module>,
}

impl Names<'_> {
    /// Notes the innermost module on a path, unless it contains this one or lies in it.
    fn note(&mut self, path: &[String]) {
        let mut full: Module = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            _ => return,
        };
        for part in path.iter().skip(usize::from(path[0] != "super")) {
            match part.as_str() {
                "super" => drop(full.pop()),
                name => full.push(name.to_owned()),
            }
        }
        while !self.known.contains(&full) {
            if full.pop().is_none() {
                return;
            }
        }
        if !full.starts_with(self.module) && !self.module.starts_with(&full) {
            self.found.insert(full);
        }
    }

    fn tree(&mut self, path: &mut Module, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.tree(path, &inner.tree);
                path.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(path, item)),
            syn::UseTree::Name(syn::UseName { ident, .. }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                path.push(ident.to_string());
                self.note(path);
                path.pop();
            }
            syn::UseTree::Glob(_) => self.note(path),
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&parts);
        visit::visit_path(self, path);
    }

    /// Tests may use what they test; modules in a file have another `super`.
    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}
}

/// The groups of modules that reach each other, each sorted.
fn circles(uses: &Uses) -> Vec<Vec<Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = uses.keys().map(|from| (from, reach(uses, from))).collect();
    let mut circles: BTreeSet<Vec<Module>> = BTreeSet::new();
    for (from, to) in &reached {
        let group: Vec<Module> =
            to.iter().filter(|other| reached[*other].contains(from)).map(|other| (*other).clone()).collect();
        if !group.is_empty() {
            circles.insert(group);
        }
    }
    circles.into_iter().collect()
}

/// What is used by a module, and by what it uses.
fn reach<'a>(uses: &'a Uses, from: &Module) -> BTreeSet<&'a Module> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        for used in uses.get(module).into_iter().flatten() {
            if found.insert(used) {
                next.push(used);
            }
        }
    }
    found
}
