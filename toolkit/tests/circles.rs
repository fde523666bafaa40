//! No module of any crate depends on itself through others.
//!
//! A module and those that contain it are one house: a folder's `mod.rs` names its files, and they use what it defines.
//! Between all others a circle means that a concept has no room of its own yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

type Module = Vec<String>;

/// The modules that each module names.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_module_depends_on_itself_through_others() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut found = Vec::new();
    for member in members(root) {
        let uses = uses(&root.join(&member).join("src"));
        assert!(!uses.is_empty(), "{member} has no modules");
        found.extend(circles(&uses).iter().map(|circle| format!("{member}: {}", shown(circle))));
    }
    assert!(found.is_empty(), "circles of modules:\n{}", found.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let module = |path: &str| path.split("::").map(String::from).collect::<Module>();
    let sources = [
        ("a", "use crate::{b::inner, c}; fn f() { c::g(); }"),
        ("b", "pub(crate) mod inner; use crate::h;"),
        ("b::inner", "fn f() -> super::super::c::T { f() }"),
        ("c", "use super::{a::{self, X as Y}, g};"),
        ("d", "use crate::a; #[cfg(test)] mod tests { use crate::e; }"),
        ("e", "use crate::d; fn f() { log!(\"{}\", crate::f::WORD); }"),
        ("g", ""),
        ("h", "use crate::b::{inner as of_b};"),
        ("f", "pub(super) struct F<T>(T); impl F<super::e::E> { fn f(&self) { Self::g::<self::T>() } } // crate::d"),
    ];
    let files = sources.map(|(path, text)| (module(path), text.parse().expect("Rust")));
    let circles = circles(&uses_of(&files));
    let shown: Vec<String> = circles.iter().map(|circle| shown(circle)).collect();
    assert_eq!(shown, ["a, b::inner, c", "e, f"]);
}

/// The folders of the workspace's crates.
fn members(root: &Path) -> Vec<String> {
    let text = fs_err::read_to_string(root.join("Cargo.toml")).expect("the workspace's file");
    let workspace: toml::Table = text.parse().expect("TOML");
    workspace["workspace"]["members"].clone().try_into().expect("names of folders")
}

fn shown(circle: &[Module]) -> String {
    circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(", ")
}

/// What the modules below a source folder use.
fn uses(folder: &Path) -> Uses {
    let files: Vec<(Module, TokenStream)> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.expect("a source folder").into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = fs_err::read_to_string(&path).expect("a source file");
            let parts = path.strip_prefix(folder).expect("below the folder").with_extension("");
            let mut module: Module = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            module.pop_if(|name| ["mod", "lib", "main"].contains(&name.as_str()));
            (module, text.parse().expect("Rust"))
        })
        .collect();
    uses_of(&files)
}

fn uses_of(files: &[(Module, TokenStream)]) -> Uses {
    let known: BTreeSet<&Module> = files.iter().map(|(module, _)| module).collect();
    let of = |(module, tokens): &(Module, TokenStream)| {
        let mut names = Names { module, known: &known, found: BTreeSet::new() };
        names.read(tokens.clone(), &[]);
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
                "self" => {}
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

    /// Reads all paths. Those in the braces of a `use` go on from the path before the braces.
    fn read(&mut self, tokens: TokenStream, before: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at..] {
                // Tests may use what they test; modules in a file have another `super`.
                [TokenTree::Ident(word), TokenTree::Ident(_), TokenTree::Group(_), ..] if word == "mod" => at += 3,
                [TokenTree::Ident(word), TokenTree::Ident(_), ..] if word == "as" && !before.is_empty() => at += 2,
                [TokenTree::Ident(first), ..] => {
                    let mut path: Module = before.iter().cloned().chain([first.to_string()]).collect();
                    at += 1;
                    while let [TokenTree::Punct(one), TokenTree::Punct(two), next, ..] = &tokens[at..]
                        && (one.as_char(), two.as_char()) == (':', ':')
                    {
                        at += 3;
                        match next {
                            TokenTree::Ident(part) => path.push(part.to_string()),
                            TokenTree::Group(tree) => self.read(tree.stream(), &std::mem::take(&mut path)),
                            TokenTree::Punct(_) | TokenTree::Literal(_) => break,
                        }
                    }
                    self.note(&path);
                }
                [TokenTree::Group(group), ..] => {
                    self.read(group.stream(), before);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }
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
