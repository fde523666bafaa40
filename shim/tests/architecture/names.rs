//! What the source files of the shim name, in code: paths in `use`, in expressions, types, and in the text of macros.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser as _};
use syn::visit::{self, Visit};

/// The place of a module, from the crate on.
pub(crate) type Module = Vec<String>;

/// A path from its beginning: `crate` or the name of another crate.
pub(crate) type Name = Vec<String>;

/// How often one name may stand for another.
const DEPTH: usize = 8;

/// The modules of a crate that have a file each.
pub(crate) struct Sources {
    files: BTreeMap<Module, syn::File>,
}

impl Sources {
    /// Those of the shim.
    pub(crate) fn of_the_shim() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = files(&folder).into_iter().map(|path| {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let parts = path.strip_prefix(&folder).expect("below the folder").with_extension("");
            let mut module: Module = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            module.pop_if(|name| name == "mod" || name == "lib");
            (module, syn::parse_file(&text).expect("Rust"))
        });
        let sources = Self { files: files.collect() };
        assert!(sources.files.len() > 100, "only {} modules were found", sources.files.len());
        sources
    }

    /// Modules with these texts.
    pub(crate) fn of<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let file = |(path, text): (&str, &str)| (module(path), syn::parse_file(text).expect("Rust"));
        Self { files: texts.into_iter().map(file).collect() }
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.files.keys()
    }

    pub(crate) fn has(&self, module: &[String]) -> bool {
        self.files.contains_key(module)
    }

    /// What a module names.
    pub(crate) fn names(&self, module: &Module) -> BTreeSet<Name> {
        let mut found = Found { module: module.clone(), ..Found::default() };
        found.visit_file(&self.files[module]);
        let resolved = found.paths.iter().flat_map(|written| found.resolve(self, written, DEPTH));
        resolved.collect()
    }
}

/// A module by its path.
pub(crate) fn module(path: &str) -> Module {
    path.split("::").filter(|part| !part.is_empty()).map(String::from).collect()
}

/// The Rust files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("a source folder").into_path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// A path as it is written, and in which module. One that begins with `::` begins with an empty part.
type Written = (Module, Vec<String>);

/// What stands in a file.
#[derive(Default)]
struct Found {
    module: Module,
    paths: Vec<Written>,
    /// What `use` gives a name here.
    named: BTreeMap<String, Vec<Written>>,
    /// What `use` takes all of.
    globs: Vec<Written>,
}

impl Found {
    /// The full paths that one may stand for: more than one only if two modules of the file differ.
    fn resolve(&self, sources: &Sources, (module, path): &Written, depth: usize) -> Vec<Name> {
        let Some(first) = path.first() else { return Vec::new() };
        let own = |module: &[String], rest: &[String]| [&["crate".to_owned()][..], module, rest].concat();
        match first.as_str() {
            "" => return vec![path[1..].to_vec()],
            "crate" => return vec![path.clone()],
            "self" | "super" => {
                let rest = path.iter().skip_while(|part| matches!(part.as_str(), "self" | "super")).cloned();
                let up = path.iter().filter(|part| *part == "super").count();
                return vec![own(&module[..module.len().saturating_sub(up)], &rest.collect::<Vec<_>>())];
            }
            _ => {}
        }
        if sources.has(&[&module[..], &path[..1]].concat()) {
            return vec![own(module, path)];
        }
        let mut full = Vec::new();
        let others = self.named.get(first).into_iter().flatten().filter(|(_, other)| other.first() != Some(first));
        for written in others.filter(|_| depth > 0) {
            let begins = self.resolve(sources, written, depth - 1).into_iter();
            full.extend(begins.map(|begin| [&begin, &path[1..]].concat()));
        }
        for begin in self.globs.iter().filter(|_| depth > 0).flat_map(|glob| self.resolve(sources, glob, depth - 1)) {
            let name = [&begin, &path[..]].concat();
            if begin[0] == "crate" && sources.has(&name[1..begin.len() + 1]) {
                full.push(name);
            }
        }
        if full.is_empty() { vec![path.clone()] } else { full }
    }

    fn tree(&mut self, path: &[String], tree: &syn::UseTree) {
        let and = |ident: &syn::Ident| [path, &[ident.unraw().to_string()]].concat();
        match tree {
            syn::UseTree::Path(inner) => self.tree(&and(&inner.ident), &inner.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(path, item)),
            syn::UseTree::Name(syn::UseName { ident, .. }) => self.use_as(and(ident), None),
            syn::UseTree::Rename(syn::UseRename { ident, rename, .. }) => {
                self.use_as(and(ident), Some(rename.unraw().to_string()));
            }
            syn::UseTree::Glob(_) => {
                self.globs.push((self.module.clone(), path.to_vec()));
                self.note(path.to_vec());
            }
        }
    }

    fn use_as(&mut self, mut path: Vec<String>, name: Option<String>) {
        // `a::{self}` is `a`.
        path.pop_if(|last| last == "self");
        if let Some(name) = name.or_else(|| path.last().cloned()) {
            self.named.entry(name).or_default().push((self.module.clone(), path.clone()));
        }
        self.note(path);
    }

    fn note(&mut self, path: Vec<String>) {
        self.paths.push((self.module.clone(), path));
    }

    /// The paths among tokens that are not parsed.
    fn scan(&mut self, tokens: ParseStream<'_>) -> syn::Result<()> {
        let mut path: Vec<String> = Vec::new();
        loop {
            if tokens.peek(syn::Ident::peek_any) {
                path.push(tokens.call(syn::Ident::parse_any)?.unraw().to_string());
                if tokens.peek(syn::Token![::]) {
                    tokens.parse::<syn::Token![::]>()?;
                    continue;
                }
            }
            let path = std::mem::take(&mut path);
            if path.len() > 1 {
                self.note(path);
            }
            let content;
            if tokens.is_empty() {
                return Ok(());
            } else if tokens.peek(syn::token::Paren) {
                syn::parenthesized!(content in tokens);
                self.scan(&content)?;
            } else if tokens.peek(syn::token::Bracket) {
                syn::bracketed!(content in tokens);
                self.scan(&content)?;
            } else if tokens.peek(syn::token::Brace) {
                syn::braced!(content in tokens);
                self.scan(&content)?;
            } else if !tokens.peek(syn::Ident::peek_any) {
                tokens.step(|cursor| cursor.token_tree().map(|(_, rest)| ((), rest)).ok_or(cursor.error("the end")))?;
            }
        }
    }
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let begin: &[String] = if item.leading_colon.is_some() { &[String::new()] } else { &[] };
        self.tree(begin, &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let name = item.rename.as_ref().map(|(_, name)| name.unraw().to_string());
        self.use_as(vec![String::new(), item.ident.unraw().to_string()], name);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // What has one part only is a variable, or was named by `use`.
        if path.segments.len() > 1 {
            let begin = path.leading_colon.as_ref().map(|_| String::new());
            let parts = path.segments.iter().map(|segment| segment.ident.unraw().to_string());
            self.note(begin.into_iter().chain(parts).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        let scan = |tokens: ParseStream<'_>| self.scan(tokens);
        scan.parse2(call.tokens.clone()).expect("tokens");
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.unraw().to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }
}
