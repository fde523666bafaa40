//! A patch file: who, when, why (the message), what (the diffs). Parsed and written back byte for byte.
//!
//! The form is that of `git format-patch --zero-commit --full-index --no-signature --no-stat -N` without a subject
//! prefix, so `git am`, `git apply`, `patch -p1` and quilt all read it.

use std::fmt::Write as _;

use super::diff::{self, FileDiff, Malformed, Reader, Side};
use crate::calendar;

/// The separator line of git's mail format. All zero instead of the commit's id: the id changes with every rebase of
/// the patch below.
pub(super) const SEPARATOR: &str = "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001";

/// Longest line of a mail header before git folds it.
const FOLD: usize = 78;

/// One patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    /// Who wrote it and when.
    pub(super) author: Author,
    /// First line of the message.
    pub(super) subject: String,
    /// The rest of the message: prose, then the trailers. No line end after the last line.
    pub(super) body: String,
    /// One per file.
    pub(super) files: Vec<FileDiff>,
}

/// Name, address and time of an author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Author {
    /// Full name.
    pub(super) name: String,
    /// Mail address.
    pub(super) email: String,
    /// Seconds since 1970, UTC.
    pub(super) seconds: i64,
    /// Minutes east of UTC.
    pub(super) offset: i32,
}

impl Author {
    /// The author of new patches: one name and the time zero, so that a patch written twice is the same file.
    pub(super) fn maintainers() -> Self {
        Self { name: "Sluice maintainers".into(), email: "maintainers@sluice.invalid".into(), seconds: 0, offset: 0 }
    }
}

impl Patch {
    /// Parses a patch file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        reader.after("From ").ok_or_else(|| reader.wrong("the file does not start with git's `From <commit>` line"))?;
        let (mut author, mut time, mut subject) = (None, None, None);
        while let Some(line) = reader.next().filter(|line| !line.is_empty()) {
            let mut field = utf8(&reader, line)?.to_owned();
            while let Some(folded) = reader.after(" ") {
                field = format!("{field} {}", utf8(&reader, folded)?);
            }
            match field.split_once(": ") {
                Some(("From", value)) => author = mailbox(value),
                Some(("Date", value)) => time = calendar::mail(value),
                Some(("Subject", value)) => subject = Some(value.strip_prefix("[PATCH] ").unwrap_or(value).to_owned()),
                Some(("MIME-Version" | "Content-Type" | "Content-Transfer-Encoding", _)) => {}
                _ => return Err(reader.wrong(format!("unknown line in the mail header: {field}"))),
            }
        }
        let (name, email) = author.ok_or_else(|| reader.wrong("no `From: NAME <ADDRESS>` in the mail header"))?;
        let (seconds, offset) = time.ok_or_else(|| {
            reader.wrong("no `Date: Thu, 1 Jan 1970 00:00:00 +0000` (in this form) in the mail header")
        })?;
        let subject = subject.ok_or_else(|| reader.wrong("no `Subject:` in the mail header"))?;
        let body = body(&mut reader)?;
        let files = diff::parse(&mut reader)?;
        Ok(Self { author: Author { name, email, seconds, offset }, subject, body, files })
    }

    /// The text of the patch file. The same patch gives the same bytes on every machine.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{SEPARATOR}\n{}", self.header()).into_bytes();
        for file in &self.files {
            file.write(&mut out);
        }
        out
    }

    /// The message of the commit.
    pub(super) fn message(&self) -> String {
        let gap = if self.body.is_empty() { "" } else { "\n\n" };
        format!("{}{gap}{}\n", self.subject, self.body)
    }

    /// From the message of a commit: git's rule, the first paragraph is the subject.
    pub(super) fn split_message(message: &str) -> (String, String) {
        let message = message.trim_matches('\n');
        let (subject, body) = message.split_once("\n\n").unwrap_or((message, ""));
        (subject.split_whitespace().collect::<Vec<_>>().join(" "), body.trim_matches('\n').to_owned())
    }

    /// Name of the patch's file: from the subject, without a number, since numbers collide and an insertion renames
    /// everything.
    pub(super) fn file_name(&self) -> String {
        file_name(&self.subject)
    }

    /// What the patch says and changes, without what follows from the lines around: positions, context, blob ids. Equal
    /// for two patches that do the same on two sources.
    pub(super) fn essence(&self) -> Vec<u8> {
        [self.message().into_bytes(), self.changes()].concat()
    }

    /// What the patch changes, without what follows from the lines around.
    pub(super) fn changes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for file in &self.files {
            out.extend(format!("{} {:?} {:?}\n", file.path, file.old_mode, file.new_mode).bytes());
            for line in file.hunks.iter().flat_map(|hunk| &hunk.lines).filter(|line| line.side != Side::Context) {
                out.push(line.side.mark());
                out.extend(&line.text);
            }
        }
        out
    }

    /// Added and removed lines.
    pub(super) fn churn(&self) -> (usize, usize) {
        self.files.iter().map(FileDiff::churn).fold((0, 0), |sum, file| (sum.0 + file.0, sum.1 + file.1))
    }

    fn header(&self) -> String {
        let Author { name, email, .. } = &self.author;
        let quoted = if name.contains(|c| "()<>[]:;@,.\"\\".contains(c)) {
            format!("\"{}\"", name.replace('\\', r"\\").replace('"', "\\\""))
        } else {
            name.clone()
        };
        let fold = if 6 + quoted.len() + email.len() + 3 > FOLD { "\n" } else { "" };
        let date = calendar::mailed(self.author.seconds, self.author.offset);
        let mut head = format!("From: {quoted}{fold} <{email}>\nDate: {date}\n");
        let _ = writeln!(head, "{}", folded("Subject:", &self.subject));
        if !self.body.is_ascii() {
            head += "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n";
        }
        // git puts one empty line between header and message, and one between message and diff.
        let gap = if self.body.is_empty() { "" } else { "\n" };
        format!("{head}\n{}{gap}\n", self.body)
    }
}

/// `apiserver: pass selectors to storage` → `apiserver-pass-selectors-to-storage.patch`.
pub(super) fn file_name(subject: &str) -> String {
    let lower = subject.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("{}.patch", words.join("-"))
}

fn utf8<'a>(reader: &Reader<'_>, line: &'a [u8]) -> Result<&'a str, Malformed> {
    std::str::from_utf8(line).map_err(|_| reader.wrong("the message is not UTF-8"))
}

/// Everything up to the first diff. A diffstat after `---` is for readers of mails, not part of the message.
fn body(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let (mut body, mut stat) = (String::new(), false);
    while let Some(line) = reader.peek().filter(|line| !line.starts_with(b"diff --git ")) {
        reader.next();
        stat |= line == b"---";
        if !stat {
            body += utf8(reader, line)?;
            body.push('\n');
        }
    }
    Ok(body.trim_matches('\n').to_owned())
}

fn mailbox(value: &str) -> Option<(String, String)> {
    let (name, email) = value.strip_suffix('>')?.rsplit_once(" <")?;
    let plain = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\\\"", "\"").replace(r"\\", "\\"),
        None => name.to_owned(),
    };
    Some((plain, email.to_owned()))
}

/// Wraps words as git does: 78 columns, following lines indented by one.
fn folded(field: &str, text: &str) -> String {
    let mut out = field.to_owned();
    let mut column = field.len();
    for word in text.split(' ') {
        if column + 1 + word.len() > FOLD && column > 1 {
            out.push('\n');
            column = 0;
        }
        let _ = write!(out, " {word}");
        column += 1 + word.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_subjects() {
        for (subject, name) in [
            ("apiserver: pass selectors to storage", "apiserver-pass-selectors-to-storage.patch"),
            ("  Take --watch-cache-sizes=`*.x#0` ", "take-watch-cache-sizes-x-0.patch"),
        ] {
            assert_eq!(file_name(subject), name);
        }
    }

    /// The text is git 2.39's own output for such a commit.
    #[test]
    fn long_headers_fold_as_in_git() {
        let text = "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n\
            From: Somebody with quite a long name\n <somebody@users.noreply.a-long-example-host.example>\n\
            Date: Sun, 22 Nov 2026 19:47:27 +0000\n\
            Subject: apiserver: a very long subject that goes on and on so that it must be\n \
            folded by git format-patch somewhere\n\
            \n\
            Body text\nwhy.\n\
            \n\
            Upstream: https://x\nDrop-When: a\n  b\n\
            \n\
            diff --git a/b.txt b/b.txt\n\
            new file mode 100644\n\
            index 0000000000000000000000000000000000000000..3e757656cf36eca53338e520d134963a44f793f8\n\
            --- /dev/null\n+++ b/b.txt\n@@ -0,0 +1 @@\n+new\n";
        let patch = Patch::parse(text.as_bytes()).unwrap();
        assert_eq!(patch.author.name, "Somebody with quite a long name");
        assert_eq!(patch.body, "Body text\nwhy.\n\nUpstream: https://x\nDrop-When: a\n  b");
        assert_eq!(String::from_utf8(patch.to_bytes()).unwrap(), text);
        assert_eq!(Patch::split_message(&patch.message()), (patch.subject.clone(), patch.body.clone()));
    }

    #[test]
    fn what_we_cannot_keep_is_refused_with_its_line() {
        let head =
            "From 0 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nSubject: x\n\n";
        for (rest, line, what) in [
            ("diff --git a/x b/y\n", 6, "same plain path"),
            ("diff --git a/../x b/../x\n", 6, "same plain path"),
            ("diff --git a/x b/x\nsimilarity index 90%\n", 7, "renames"),
            ("diff --git a/x b/x\nindex 12..34 100644\n", 7, "--full-index"),
            ("diff --git a/x b/x\nnew file mode 120000\n", 7, "120000"),
            ("diff --git a/x b/x\nnew file mode 100644\n@@ -0,0 +1,2 @@\n+a\n", 9, "shorter"),
            ("diff --git a/x b/x\nnew file mode 100644\n@@ -0,0 +1 @@\n a\n", 9, "longer"),
            ("diff --git a/x b/x\nnew file mode 100644\n@@ -0,0 +1 @@\n+a\n+b\n", 10, "unknown line"),
        ] {
            let error = Patch::parse(format!("{head}{rest}").as_bytes()).unwrap_err();
            assert!(error.line == line && error.what.contains(what), "{rest}: {error}");
        }
    }
}
