//! What is written is read back, and what differs is brought about.

use proptest::prelude::*;

use crate::patch::diff::{self, FileDiff, PLAIN};
use crate::patch::file::{Author, Patch};

/// Few different lines, so that they repeat; some look like the marks of a patch; the last may have no end.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("\n"),
        Just("}\n"),
        Just("func f() {\n"),
        Just("\tx++\n"),
        Just("--- a\n"),
        Just("@@ -1 +1 @@\n"),
        Just("\\ No newline at end of file\n"),
        Just("crlf\r\n"),
        Just("Binary files\n"),
        Just("ü\n"),
    ];
    (prop::collection::vec(line, 0..40), any::<bool>()).prop_map(|(lines, open)| {
        let text = lines.concat() + if open { "open end" } else { "" };
        text.into_bytes()
    })
}

fn patch(old: &[u8], new: &[u8]) -> Patch {
    let id = |bytes: &[u8]| git2::Oid::hash_object(git2::ObjectType::Blob, bytes).unwrap().to_string();
    let file = FileDiff {
        path: "a b/c.go".into(),
        old_mode: Some(PLAIN),
        new_mode: Some(PLAIN),
        old_id: id(old),
        new_id: id(new),
        hunks: diff::between("a b/c.go", old, new).unwrap(),
    };
    let (author, subject, body) = (Author::maintainers(), "subject: ü".into(), "Why.\n\nTest: ./a".into());
    Patch { author, subject, body, files: vec![file] }
}

proptest! {
    #[test]
    fn a_difference_survives_the_file_and_brings_about_the_new_content(old in content(), new in content()) {
        let patch = patch(&old, &new);
        let read = Patch::parse(&patch.to_bytes()).unwrap();
        prop_assert_eq!(&read, &patch);
        let applied = read.files[0].apply(&old).unwrap();
        prop_assert_eq!(applied.content, new);
        prop_assert_eq!(applied.moved, []);
    }

    /// Lines that are nowhere in the patch come in above: every hunk moves by as many lines, and the result is the new
    /// content below them; or the patch is refused (start of the file, several places). It never does something else.
    #[test]
    fn lines_above_move_a_hunk_or_refuse_it(old in content(), new in content(), count in 1..9_usize) {
        let above = "other\n".repeat(count).into_bytes();
        let patch = patch(&old, &new);
        if let Ok(applied) = patch.files[0].apply(&[above.clone(), old].concat()) {
            // A file of repeated lines may fit where the patch says although everything moved.
            let exact = applied.moved.is_empty();
            prop_assert!(exact || applied.content == [above, new].concat());
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "(From 0\n|From: a <b>\n|Subject: x\n|Date: Thu, 1 Jan 1970 00:00:00 \\+0000\n|\n|diff --git a/x b/x\n|@@ -1 \\+1 @@\n|-a\n|\\+b\n| c\n|new file mode 100644\n|--- ){0,12}") {
        let _ = Patch::parse(text.as_bytes());
    }
}
