//! The manifests of virtual clusters, one for each database, and the values for vCluster's own chart, from
//! `images/vcluster.yaml`, which has all lines of all of them. Lines that begin with `#: ` say what becomes of the
//! others:
//!
//! - `#: of NAME…`: what follows is for the manifests of these databases, or for the `chart`; `manifests` stands for
//!   every database, `all` for the chart as well.
//! - `#: include FILE`: here are the lines of a file of the workspace, without its comments, as far to the right as
//!   this line.
//! - `#: config` and `#: end`: what stands between is what the Pod reads when it starts. Its digest stands for
//!   `CONFIG-DIGEST` in the Pod's template, so that another configuration starts another Pod.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::images::Digest;
use sluice_shell::error::{Attempt as _, Error, Result};

/// Where all lines are.
const SOURCE: &str = "images/vcluster.yaml";

/// Where the manifests are.
const FOLDER: &str = "images/manifests/vcluster";

const DATABASES: [&str; 3] = ["sqlite", "postgres", "mysql"];

/// The values for vCluster's chart. They are vCluster's configuration, with what the chart alone needs.
const CHART: &str = "chart";

/// Every manifest with its text, and the values.
pub(super) fn manifests(workspace: &Path) -> Result<Vec<(PathBuf, String)>> {
    let source = fs::read_to_string(workspace.join(SOURCE))?;
    let include = |file: &str| Ok(fs::read_to_string(workspace.join(file))?);
    let rendered = |name: &str| render(&source, name, include).attempting(|| format!("cannot render {SOURCE}"));
    let file = |name: &str| workspace.join(FOLDER).join(name);
    let manifest = |database: &str| Ok((file(&format!("vcluster-{database}.yaml")), rendered(database)?));
    let mut all: Vec<_> = DATABASES.into_iter().map(manifest).collect::<Result<_>>()?;
    all.push((file("chart-values.yaml"), at_the_left(&rendered(CHART)?)));
    Ok(all)
}

/// The text of a configuration that stands in a manifest as a file of its own.
fn at_the_left(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
}

/// The lines of `source` that are for `name`, a database or the chart.
fn render(source: &str, name: &str, include: impl Fn(&str) -> Result<String>) -> Result<String> {
    let (mut out, mut config) = (String::new(), None);
    let mut digest = String::new();
    let mut chosen = true;
    for line in source.lines() {
        let words: Vec<&str> = line.trim_start().strip_prefix("#: ").into_iter().flat_map(|it| it.split(' ')).collect();
        let indent = &line[..line.len() - line.trim_start().len()];
        match words[..] {
            [] if chosen => out.push_str(&format!("{line}\n")),
            [] => {}
            ["of", ref names @ ..] => chosen = of(names, name)?,
            _ if !chosen => {}
            ["include", file] => out.push_str(&indented(&include(file)?, indent)),
            ["config"] => config = Some(out.len()),
            ["end"] => {
                let start = config.take().ok_or_else(|| Error::input("`#: end` without `#: config`"))?;
                digest = Digest::of(&out.as_bytes()[start..]).to_string();
            }
            _ => return Err(Error::input(format!("{line:?} says nothing"))),
        }
    }
    Ok(out.replace("CONFIG-DIGEST", &digest))
}

/// Whether one of `names` is this one, or stands for it.
fn of(names: &[&str], this: &str) -> Result<bool> {
    let many = if this == CHART { "all" } else { "manifests" };
    match names.iter().find(|name| !["all", "manifests", CHART].contains(name) && !DATABASES.contains(name)) {
        Some(other) => Err(Error::input(format!("there is no database {other:?}"))),
        None => Ok(names.iter().any(|name| ["all", many, this].contains(name))),
    }
}

fn indented(text: &str, indent: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{indent}{line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str, database: &str) -> Result<String> {
        render(source, database, |file| Ok(format!("# Of people.\nfile: {file}\n\nlist:\n- 1\n")))
    }

    #[test]
    fn each_database_has_its_lines() {
        let source = "a\n#: of sqlite\nb\n  #: of postgres mysql\n  c\n#: of all\nd\n";
        let texts = DATABASES.map(|database| rendered(source, database).unwrap());
        assert_eq!(texts, ["a\nb\nd\n", "a\n  c\nd\n", "a\n  c\nd\n"]);
    }

    #[test]
    fn values_are_the_configuration_without_the_manifest() {
        let source =
            "#: of manifests\na: |\n#: of all\n    b:\n      c: 1\n#: of chart\n      d: 2\n#: of sqlite\n      e: 3\n";
        assert_eq!(at_the_left(&rendered(source, CHART).unwrap()), "b:\n  c: 1\n  d: 2\n");
        assert_eq!(rendered(source, "sqlite").unwrap(), "a: |\n    b:\n      c: 1\n      e: 3\n");
    }

    #[test]
    fn a_file_is_taken_in_without_comments() {
        let text = rendered("a: |\n  #: include b.yaml\nc:\n", "mysql").unwrap();
        assert_eq!(text, "a: |\n  file: b.yaml\n\n  list:\n  - 1\nc:\n");
    }

    #[test]
    fn the_digest_is_of_what_the_pod_reads() {
        let source = |config: &str, other: &str| format!("{other}\n#: config\n{config}\n#: end\nCONFIG-DIGEST\n");
        let digest = |config: &str, other: &str| {
            let text = rendered(&source(config, other), "mysql").unwrap();
            text.lines().last().unwrap().to_owned()
        };
        assert_eq!(digest("a", "b"), Digest::of(b"a\n").to_string());
        assert_eq!(digest("a", "b"), digest("a", "c"));
        assert_ne!(digest("a", "b"), digest("c", "b"));
    }

    #[test]
    fn what_says_nothing_is_an_error() {
        for (source, error) in [
            ("#: of oracle\n", "there is no database \"oracle\""),
            ("#: end\n", "`#: end` without `#: config`"),
            ("  #: include\n", "\"  #: include\" says nothing"),
        ] {
            assert_eq!(rendered(source, "mysql").unwrap_err().to_string(), error);
        }
    }
}
