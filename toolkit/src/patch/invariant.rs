//! What a patch says about the patched source as a whole: that its own lines are there is not enough where upstream may
//! add a place that the patch should have changed as well.
//!
//! Two forms, on one line of the header (continued by lines that start with two blanks):
//!
//! ```text
//! Invariant: ./pkg/store/watch.go: each `client\.\w+\(` with `selectorContext\(\)`
//! Invariant: ./pkg/store/: `client\.Get\(` 3 times
//! ```
//!
//! The path is a file, or, with / at the end, all Go files of a folder but its tests. Lines are compared one by one;
//! comments are passed over. Something must match: a check of nothing would say nothing.

use git2::{Repository, Tree};
use regex::Regex;
use std::str::FromStr;

use super::engine;
use sluice_shell::error::Result;

/// A rule about lines of the patched source.
#[derive(Debug)]
pub(super) struct Invariant {
    path: String,
    pattern: Regex,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    /// The same line matches this as well.
    With(Regex),
    /// So many lines match.
    Times(usize),
}

impl FromStr for Invariant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "is neither ./PATH: each `PATTERN` with `PATTERN` nor ./PATH: `PATTERN` 3 times";
        let parts: Vec<&str> = text.split('`').collect();
        let regex = |pattern: &str| Regex::new(pattern).map_err(|error| format!("has a wrong pattern: {error}"));
        let (head, pattern, rule) = match parts[..] {
            [head, pattern, between, with, ""] if between.trim() == "with" => {
                (head.trim_end().strip_suffix("each").ok_or(form)?, pattern, Rule::With(regex(with)?))
            }
            [head, pattern, times] => {
                let count = times.trim().strip_suffix("times").and_then(|count| count.trim().parse().ok());
                (head, pattern, Rule::Times(count.filter(|count| *count > 0).ok_or(form)?))
            }
            _ => return Err(form.into()),
        };
        let path = head.trim().strip_suffix(':').and_then(|path| path.strip_prefix("./")).ok_or(form)?;
        Ok(Self { path: path.to_owned(), pattern: regex(pattern)?, rule })
    }
}

impl Invariant {
    /// Where the tree breaks the rule, one sentence each.
    pub(super) fn check(&self, repo: &Repository, tree: &Tree<'_>) -> Result<Vec<String>> {
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        for path in self.files(repo, tree)? {
            let Some((content, _)) = engine::content(repo, tree, &path)? else { continue };
            for (index, line) in String::from_utf8_lossy(&content).lines().map(str::trim).enumerate() {
                if line.starts_with("//") || !self.pattern.is_match(line) {
                    continue;
                }
                let place = format!("{path}:{}: {line}", index + 1);
                match &self.rule {
                    Rule::With(with) if !with.is_match(line) => {
                        broken.push(format!("the line does not have `{with}`: {place}"));
                    }
                    _ => {}
                }
                found.push(place);
            }
        }
        let Self { path, pattern, .. } = self;
        match self.rule {
            _ if found.is_empty() => {
                broken.push(format!("no line of {path} matches `{pattern}`: what the rule is about is gone, or moved"));
            }
            Rule::Times(times) if times != found.len() => {
                let lines: String = found.iter().map(|place| format!("\n    {place}")).collect();
                broken.push(format!("`{pattern}` matches {} lines of {path} instead of {times}:{lines}", found.len()));
            }
            _ => {}
        }
        Ok(broken)
    }

    fn files(&self, repo: &Repository, tree: &Tree<'_>) -> Result<Vec<String>> {
        let Some(folder) = self.path.strip_suffix('/') else { return Ok(vec![self.path.clone()]) };
        let entry = match tree.get_path(folder.as_ref()) {
            Ok(entry) => entry,
            Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let names = entry.to_object(repo)?.peel_to_tree()?;
        let code = |name: &&str| name.ends_with(".go") && !name.ends_with("_test.go");
        let names =
            names.iter().filter_map(|entry| entry.name().ok().filter(code).map(|name| format!("{}{name}", self.path)));
        Ok(names.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for good in ["./a.go: each `x` with `y`", "./a/b/:  `x\\(` 12 times", "./a b.go: each `a: \"x\"` with `each`"] {
            assert!(good.parse::<Invariant>().is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "is neither"),
            ("a.go: each `x` with `y`", "is neither"),
            ("./a.go each `x` with `y`", "is neither"),
            ("./a.go: `x` with `y`", "is neither"),
            ("./a.go: each `x`", "is neither"),
            ("./a.go: `x` 0 times", "is neither"),
            ("./a.go: `x` many times", "is neither"),
            ("./a.go: each `x` without `y`", "is neither"),
            ("./a.go: each `(` with `y`", "wrong pattern"),
            ("./a.go: each `x` with `[`", "wrong pattern"),
        ] {
            let error = bad.parse::<Invariant>().unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
