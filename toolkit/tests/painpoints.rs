//! `docs/painpoints.md` names a test for each answer, and each test that it names exists.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

#[test]
fn the_named_tests_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = fs_err::read_to_string(root.join("docs/painpoints.md")).expect("the page");
    let sections: Vec<_> = page.split("\n### ").skip(1).collect();
    assert_eq!(sections.len(), 30, "{sections:#?}");
    let there = tests(root);
    for section in sections {
        let named = section.split_once("\nTests: ").map_or("", |(_, named)| named);
        let named: Vec<_> = named.split('`').skip(1).step_by(2).collect();
        let answered = !named.is_empty() || section.contains("**not yet**");
        assert!(answered, "no test and no \"not yet\": {section}");
        for test in named {
            assert!(there.contains(test), "there is no test {test}");
        }
    }
}

/// Names of functions that are tests, of cases of the end-to-end tests, and of rules of the soak.
fn tests(root: &Path) -> BTreeSet<String> {
    let test = Regex::new(r"#\[(?:tokio::)?test\b[^\n]*\n(?:[ \t]*(?:#\[|//)[^\n]*\n)*[ \t]*(?:async )?fn (\w+)")
        .expect("a regex");
    let case = Regex::new(r#"(?:Case|Rule)::new\("([^"]+)""#).expect("a regex");
    let mut names = BTreeSet::new();
    for folder in ["shim", "tests", "toolkit"] {
        for entry in walkdir::WalkDir::new(root.join(folder)) {
            let path = entry.expect("a source folder").into_path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs_err::read_to_string(&path).expect("a source file");
                for regex in [&test, &case] {
                    names.extend(regex.captures_iter(&text).map(|found| found[1].to_owned()));
                }
            }
        }
    }
    names
}
