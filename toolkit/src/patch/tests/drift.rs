//! What upstream did to the places of our patches.

use super::{STORE, Tiny};
use crate::patch::drift::{Report, compare};
use crate::source::Files;

/// Three patches of store.go and list.go, and what upstream does to these: `edit` of store.go.
fn drift(edit: impl Fn(&str) -> String) -> Report {
    let tiny = Tiny::with_three();
    let (old, new) = (tiny.dir.path().join("upstream"), tiny.dir.path().join("newer"));
    for name in ["list.go", "store.go"] {
        let text = fs_err::read_to_string(old.join("pkg/store").join(name)).unwrap();
        fs_err::create_dir_all(new.join("pkg/store")).unwrap();
        fs_err::write(new.join("pkg/store").join(name), text).unwrap();
    }
    fs_err::write(new.join("pkg/store/store.go"), edit(STORE)).unwrap();
    let (head, files) = (tiny.tree().head().unwrap(), tiny.files());
    let (old, new) = (Files::Folder(old), Files::Folder(new));
    let report = compare(("v1.37.2", &old), ("v1.38.0", &new), &tiny.series(), &tiny.folder()).unwrap();
    assert_eq!((tiny.tree().head().unwrap(), tiny.files()), (head, files), "nothing is written");
    report
}

#[test]
fn what_upstream_left_alone_is_no_drift() {
    let report = drift(str::to_owned);
    assert!(report.files.is_empty() && report.patches.iter().all(|patch| patch.how == "as it was"), "{report:?}");
}

#[test]
fn hunks_functions_and_new_functions_that_upstream_touched() {
    let report = drift(|text| {
        // At our line in Get; elsewhere in Put; and a new way to read.
        let text = text.replace("ok := s.keys[key]", "ok := s.find(key)");
        let text = text
            .replace("func (s *store) Put(key, value string) {", "func (s *store) Put(key, value string) {\n\t// New.");
        format!("{text}\n// Stream reads all.\nfunc (s *store) Stream() []string {{\n\treturn nil\n}}\n")
    });
    insta::assert_snapshot!(report.text());
}

#[test]
fn a_merge_without_a_conflict_still_names_what_moved_near_ours() {
    let report = drift(|text| text.replace("// Get returns one value.", "// Get returns a value."));
    assert_eq!(report.patches[1].how, "merged");
    let touched = &report.files[0].hunks[0];
    assert_eq!((touched.line, touched.upstream_lines), (15, 2), "{report:?}");
    assert_eq!(touched.symbol.as_deref(), Some("func (s *store) Get"));
    assert!(report.files[0].new_symbols.is_empty() && report.files[0].symbols.is_empty(), "{report:?}");
}
