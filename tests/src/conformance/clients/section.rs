//! The results as a section of docs/conformance.md.

use std::fmt::Write as _;

use super::list::List;
use crate::conformance::report::{self, CLIENTS, Row};

/// The document with this section anew. What `previous`, the file as it is, says of client programs that did not run
/// stays.
pub(super) fn document(rows: &[Row], lists: &[List], previous: &str) -> String {
    let [before, old, after] = report::around(previous, CLIENTS);
    let mut text = format!("{before}{CLIENTS}");
    text.push_str(concat!(
        "`cargo xtask test clients --write-docs` writes this section. The programs are those of others, unchanged, against\n",
        "patched Kubernetes on the shim, with its data in SQLite.\n\n",
        "- *listed*: tests that can't pass, and why stands below; if one passes, that is an error\n",
        "- *skipped*: the program's own code skips them\n\n",
        "| Program | Version | Passed | Listed | Failed | Skipped |\n|---|---|---:|---:|---:|---:|\n",
    ));
    for list in lists {
        let start = format!("| {} | ", list.name);
        let line = match rows.iter().find(|row| row.name == list.name) {
            Some(row) => Some(line(row)),
            None => old.lines().find(|line| line.starts_with(&start)).map(str::to_owned),
        };
        line.into_iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    for list in lists {
        let _ = write!(text, "\n### {}\n{}\n", list.name, list.about);
        report::entries(&mut text, "Can't pass:", &list.cannot);
        report::entries(&mut text, "Not run, or not counted:", &list.outside);
    }
    text + after
}

fn line(row: &Row) -> String {
    let verdict = &row.verdict;
    let failed = verdict.problems().count();
    let Row { name, version, .. } = row;
    format!("| {name} | {version} | {} | {} | {failed} | {} |", verdict.passed, verdict.listed, verdict.skipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::report::DIFFERENCES;
    use crate::conformance::suite::Store;
    use crate::conformance::verdict::Verdict;

    #[test]
    fn the_rest_of_the_document_and_what_did_not_run_stay() {
        let list = |name: &str| List {
            name: name.to_owned(),
            about: format!("About {name}."),
            packages: vec![],
            outside: vec![],
            cannot: vec![],
        };
        let row = |name: &str, passed| {
            let verdict = Verdict { passed, ..Verdict::default() };
            Row { name: name.to_owned(), version: "v1".to_owned(), store: Store::Sqlite, verdict, seconds: 1.0 }
        };
        let lists = [list("a"), list("b")];
        let by_hand = format!("# Suites\n{DIFFERENCES}Written by hand.\n");
        let first = document(&[row("a", 1), row("b", 2)], &lists, &by_hand);
        let second = document(&[row("b", 3)], &lists, &first);
        assert!(second.contains("| a | v1 | 1 | 0 | 0 | 0 |\n| b | v1 | 3 | 0 | 0 | 0 |\n"), "{second}");
        assert!(second.starts_with("# Suites\n") && second.ends_with(&format!("{DIFFERENCES}Written by hand.\n")));
        assert_eq!(document(&[row("b", 3)], &lists, &second), second);
    }
}
