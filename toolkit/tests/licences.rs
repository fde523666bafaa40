//! `deny.toml`, without cargo-deny, which few machines have: the licence of each crate is one that it allows, and each
//! crate comes from the one registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{Metadata, MetadataCommand, Package, Source};
use serde::Deserialize;
use sluice_shell::process::Run;
use spdx::{Expression, Licensee, ParseMode};

/// What is read of `deny.toml`.
#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licences,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
    #[serde(default)]
    clarify: Vec<Clarified>,
}

/// A crate that does not say its licence in the form of SPDX.
#[derive(Deserialize)]
struct Clarified {
    #[serde(rename = "crate")]
    name: String,
    expression: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn rules() -> Rules {
    let text = fs_err::read_to_string(root().join("deny.toml")).expect("deny.toml");
    toml::from_str(&text).expect("rules of cargo-deny")
}

/// All crates that are compiled for the targets of the rules.
fn packages(rules: &Rules) -> Vec<Package> {
    let targets = rules.graph.targets.iter().flat_map(|target| ["--filter-platform", target]);
    let run = Run::cargo(root()).args(["metadata", "--locked", "--format-version", "1"]).args(targets);
    let text = run.read().expect("what cargo knows of the crates");
    let Metadata { packages, .. } = MetadataCommand::parse(text).expect("what cargo says of them");
    packages
}

/// Why the rules refuse the crate `name`, with what it says of its licence and of where it comes from.
fn refused(name: &str, licence: Option<&str>, source: Option<&Source>, rules: &Licences) -> Option<String> {
    let clarified = rules.clarify.iter().find(|it| it.name == name).map(|it| it.expression.as_str());
    let Some(licence) = clarified.or(licence) else {
        return Some("it says no licence".to_owned());
    };
    // Old crates write `MIT/Apache-2.0`.
    let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("{licence:?} is no licence: {}", error.reason)),
    };
    let allowed = |name: &String| Licensee::parse(name).expect("a licence of SPDX");
    let allowed: Vec<_> = rules.allow.iter().map(allowed).collect();
    let fits = expression.evaluate(|wanted| allowed.iter().any(|licensee| licensee.satisfies(wanted)));
    if !fits {
        return Some(format!("{licence} is not allowed"));
    }
    let other = source.filter(|source| !source.is_crates_io());
    other.map(|source| format!("it comes from {source}"))
}

#[test]
fn the_licence_of_every_crate_is_one_that_deny_toml_allows() {
    let rules = rules();
    let packages = packages(&rules);
    assert!(packages.len() > 300, "{}", packages.len());
    let wrong: BTreeMap<_, _> = packages
        .iter()
        .filter_map(|package| {
            let (name, licence, source) = (&package.name, package.license.as_deref(), package.source.as_ref());
            Some((format!("{name} {}", package.version), refused(name, licence, source, &rules.licenses)?))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for clarified in &rules.licenses.clarify {
        let named: Vec<_> = packages.iter().filter(|package| package.name == clarified.name).collect();
        assert!(named.iter().any(|package| package.license.is_none()), "{} needs no clarification", clarified.name);
    }
}

#[test]
fn a_licence_or_a_source_that_is_not_allowed_is_found() {
    const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
    let rules = rules().licenses;
    for (licence, source, expected) in [
        (Some("MIT/Apache-2.0"), REGISTRY, None),
        (Some("GPL-3.0-only OR MIT"), REGISTRY, None),
        (Some("Apache-2.0 WITH LLVM-exception"), REGISTRY, None),
        (Some("GPL-3.0-only"), REGISTRY, Some("GPL-3.0-only is not allowed")),
        (Some("MIT AND AGPL-3.0-only"), REGISTRY, Some("MIT AND AGPL-3.0-only is not allowed")),
        (Some("do as you like"), REGISTRY, Some("\"do as you like\" is no licence: unknown term")),
        (None, REGISTRY, Some("it says no licence")),
        (Some("MIT"), "git+https://example.org/x", Some("it comes from git+https://example.org/x")),
    ] {
        let from: Source = serde_json::from_value(source.into()).expect("a source");
        assert_eq!(refused("x", licence, Some(&from), &rules).as_deref(), expected, "{licence:?} of {source}");
    }
}
