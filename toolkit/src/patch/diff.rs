//! The text of one changed file in a patch: parsed, and written back byte for byte.
//!
//! Everything is bytes: a patch may cut a UTF-8 character in the function name of a hunk header. Renames and binary
//! changes are not part of the format: a rename would hide from a reader which upstream lines a patch depends on. git2
//! parses and applies diffs too, but writes none back as it was, and does not say which hunk failed, nor why.

use std::fmt;

/// Mode of a plain file in a git tree.
pub(super) const PLAIN: u32 = 0o100_644;
/// Mode of an executable file in a git tree.
pub(super) const EXECUTABLE: u32 = 0o100_755;

/// What a patch does to one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileDiff {
    /// Path from the root of the tree.
    pub(super) path: String,
    /// Mode before; none if the patch creates the file.
    pub(super) old_mode: Option<u32>,
    /// Mode after; none if the patch deletes the file.
    pub(super) new_mode: Option<u32>,
    /// Blob id before, 40 hex digits; all zero if there is none. Empty when only the mode changes.
    pub(super) old_id: String,
    /// Blob id after.
    pub(super) new_id: String,
    /// In the order of the file.
    pub(super) hunks: Vec<Hunk>,
}

/// A run of changed lines with its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hunk {
    /// First line before, counted from 1 (0 if the hunk has no lines before).
    pub(super) old_start: usize,
    /// First line after.
    pub(super) new_start: usize,
    /// Text after the second `@@`: the function that git thinks the hunk is in.
    pub(super) section: Vec<u8>,
    /// All lines, context included.
    pub(super) lines: Vec<Line>,
}

/// Whether a line is on both sides of a hunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// On both.
    Context,
    /// Before only.
    Removed,
    /// After only.
    Added,
}

/// One line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it stands.
    pub(super) side: Side,
    /// Its bytes with the line end; without one only at the end of a file that has none.
    pub(super) text: Vec<u8>,
}

/// The text is no patch of the form that we write.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct Malformed {
    /// Line of the patch file, from 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) what: String,
}

impl Hunk {
    /// The lines that must stand in the file (`Side::Added` left out), or that will stand there (`Side::Removed` left
    /// out).
    pub(super) fn image(&self, without: Side) -> Vec<&[u8]> {
        self.lines.iter().filter(|line| line.side != without).map(|line| line.text.as_slice()).collect()
    }

    /// Lines of one side.
    pub(super) fn count(&self, side: Side) -> usize {
        self.lines.iter().filter(|line| line.side == side).count()
    }

    /// Lines after the last changed one.
    pub(super) fn trailing_context(&self) -> usize {
        self.lines.iter().rev().take_while(|line| line.side == Side::Context).count()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let range =
            |start: usize, count: usize| if count == 1 { start.to_string() } else { format!("{start},{count}") };
        let (old, new) = (self.image(Side::Added).len(), self.image(Side::Removed).len());
        out.extend(format!("@@ -{} +{} @@", range(self.old_start, old), range(self.new_start, new)).bytes());
        if !self.section.is_empty() {
            out.push(b' ');
            out.extend(&self.section);
        }
        out.push(b'\n');
        for line in &self.lines {
            out.push(line.side.mark());
            out.extend(&line.text);
            if !line.text.ends_with(b"\n") {
                out.extend(b"\n\\ No newline at end of file\n");
            }
        }
    }
}

impl fmt::Display for Hunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        f.write_str(&String::from_utf8_lossy(&bytes))
    }
}

impl Side {
    /// First column of a line in a patch.
    pub(super) fn mark(self) -> u8 {
        match self {
            Self::Context => b' ',
            Self::Removed => b'-',
            Self::Added => b'+',
        }
    }
}

impl FileDiff {
    /// Added and removed lines.
    pub(super) fn churn(&self) -> (usize, usize) {
        let sum = |side| self.hunks.iter().map(|hunk| hunk.count(side)).sum();
        (sum(Side::Added), sum(Side::Removed))
    }

    /// Appends the text as git writes it with full blob ids and the prefixes a/ and b/.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let path = &self.path;
        let mut head = format!("diff --git a/{path} b/{path}\n");
        match (self.old_mode, self.new_mode) {
            (None, Some(mode)) => head += &format!("new file mode {mode:o}\n"),
            (Some(mode), None) => head += &format!("deleted file mode {mode:o}\n"),
            (Some(old), Some(new)) if old != new => head += &format!("old mode {old:o}\nnew mode {new:o}\n"),
            _ => {}
        }
        if !self.old_id.is_empty() {
            head += &format!("index {}..{}", self.old_id, self.new_id);
            match (self.old_mode, self.new_mode) {
                (Some(old), Some(new)) if old == new => head += &format!(" {old:o}\n"),
                _ => head.push('\n'),
            }
        }
        if !self.hunks.is_empty() {
            // git ends a name that has a blank with a tab, or other tools would take the rest for a date.
            let tab = if path.contains(' ') { "\t" } else { "" };
            let name = |mode: Option<u32>, side| mode.map_or("/dev/null".into(), |_| format!("{side}/{path}{tab}"));
            head += &format!("--- {}\n+++ {}\n", name(self.old_mode, 'a'), name(self.new_mode, 'b'));
        }
        out.extend(head.bytes());
        for hunk in &self.hunks {
            hunk.write(out);
        }
    }
}

/// The lines of a patch file with their numbers.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Reader<'a> {
    /// From the first line.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { rest: text, line: 0 }
    }

    /// The next line without its end, not consumed.
    pub(super) fn peek(&self) -> Option<&'a [u8]> {
        let line = self.rest.split(|&byte| byte == b'\n').next()?;
        (!self.rest.is_empty()).then_some(line)
    }

    /// Consumes a line.
    pub(super) fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.peek()?;
        self.rest = self.rest.get(line.len() + 1..).unwrap_or_default();
        self.line += 1;
        Some(line)
    }

    /// Consumes a line that starts with `prefix` and returns what follows.
    pub(super) fn after(&mut self, prefix: &str) -> Option<&'a [u8]> {
        let rest = self.peek()?.strip_prefix(prefix.as_bytes())?;
        self.next();
        Some(rest)
    }

    /// An error at the line consumed last.
    pub(super) fn wrong(&self, what: impl Into<String>) -> Malformed {
        Malformed { line: self.line, what: what.into() }
    }
}

/// Parses all that follows the message of a patch.
pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Vec<FileDiff>, Malformed> {
    let mut files = Vec::new();
    while let Some(line) = reader.next() {
        let Some(names) = line.strip_prefix(b"diff --git ") else {
            return Err(reader.wrong("expected `diff --git`: text after a hunk, or a hunk longer than its header says"));
        };
        files.push(file(reader, names)?);
    }
    Ok(files)
}

fn file(reader: &mut Reader<'_>, names: &[u8]) -> Result<FileDiff, Malformed> {
    let path = path(names).ok_or_else(|| reader.wrong("expected `a/PATH b/PATH` with the same plain path twice"))?;
    let mut file = FileDiff {
        path,
        old_mode: None,
        new_mode: None,
        old_id: String::new(),
        new_id: String::new(),
        hunks: Vec::new(),
    };
    while let Some(line) = reader.peek().filter(|line| !line.starts_with(b"diff --git ")) {
        if line.starts_with(b"@@ ") {
            let hunk = hunk(reader)?;
            file.hunks.push(hunk);
            continue;
        }
        reader.next();
        extended_header(reader, &mut file, &String::from_utf8_lossy(line))?;
    }
    if file.old_mode.is_none() && file.new_mode.is_none() {
        return Err(reader.wrong("the file has no mode: no `index`, `new file mode` or `deleted file mode` line"));
    }
    Ok(file)
}

fn extended_header(reader: &Reader<'_>, file: &mut FileDiff, line: &str) -> Result<(), Malformed> {
    let mode = |text: &str| match u32::from_str_radix(text, 8) {
        Ok(mode @ (PLAIN | EXECUTABLE)) => Ok(Some(mode)),
        _ => Err(reader.wrong(format!("mode {text} is neither 100644 nor 100755"))),
    };
    if let Some(text) = line.strip_prefix("new file mode ") {
        file.new_mode = mode(text)?;
    } else if let Some(text) = line.strip_prefix("deleted file mode ") {
        file.old_mode = mode(text)?;
    } else if let Some(text) = line.strip_prefix("old mode ") {
        file.old_mode = mode(text)?;
    } else if let Some(text) = line.strip_prefix("new mode ") {
        file.new_mode = mode(text)?;
    } else if let Some(text) = line.strip_prefix("index ") {
        let (ids, both) = text.split_once(' ').unwrap_or((text, ""));
        let full = |id: &str| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (old, new) = ids.split_once("..").filter(|(old, new)| full(old) && full(new)).ok_or_else(|| {
            reader.wrong("abbreviated blob ids: export with --full-index, short ids change when the repository grows")
        })?;
        (file.old_id, file.new_id) = (old.to_owned(), new.to_owned());
        if !both.is_empty() {
            (file.old_mode, file.new_mode) = (mode(both)?, mode(both)?);
        }
    } else if line.starts_with("rename ") || line.starts_with("copy ") || line.starts_with("similarity ") {
        return Err(reader.wrong("renames are not supported: export with --no-renames"));
    } else if line.starts_with("Binary ") || line.starts_with("GIT binary ") {
        return Err(reader.wrong("binary changes are not supported"));
    } else if !line.starts_with("--- ") && !line.starts_with("+++ ") {
        return Err(reader.wrong(format!("unknown line in the head of a file: {line}")));
    }
    Ok(())
}

fn path(names: &[u8]) -> Option<String> {
    let names = std::str::from_utf8(names).ok()?;
    let path = names.get(2..2 + names.len().checked_sub(5)? / 2)?;
    let inside = path.split('/').all(|part| !matches!(part, "" | "." | ".." | ".git"));
    (names == format!("a/{path} b/{path}") && inside && !path.contains('"')).then(|| path.to_owned())
}

/// Parses one hunk, its header included.
fn hunk(reader: &mut Reader<'_>) -> Result<Hunk, Malformed> {
    let header = reader.next().unwrap_or_default();
    let (mut hunk, mut old, mut new) =
        hunk_header(header).ok_or_else(|| reader.wrong("the hunk header is not `@@ -LINE,COUNT +LINE,COUNT @@`"))?;
    while old > 0 || new > 0 {
        let line = reader.next().ok_or_else(|| reader.wrong("the hunk is shorter than its header says"))?;
        let side = match line.first() {
            Some(b' ') => Side::Context,
            Some(b'-') => Side::Removed,
            Some(b'+') => Side::Added,
            _ => return Err(reader.wrong("a line of a hunk starts with neither blank, + nor -")),
        };
        let taken = |left: usize, by: bool| left.checked_sub(usize::from(by));
        (old, new) = taken(old, side != Side::Added)
            .zip(taken(new, side != Side::Removed))
            .ok_or_else(|| reader.wrong("the hunk is longer than its header says"))?;
        let mut text = line[1..].to_vec();
        if reader.after("\\ ").is_none() {
            text.push(b'\n');
        }
        hunk.lines.push(Line { side, text });
    }
    Ok(hunk)
}

fn hunk_header(line: &[u8]) -> Option<(Hunk, usize, usize)> {
    let rest = line.strip_prefix(b"@@ -")?;
    let end = rest.windows(3).position(|window| window == b" @@")?;
    let (old, new) = std::str::from_utf8(&rest[..end]).ok()?.split_once(" +")?;
    let range = |text: &str| -> Option<(usize, usize)> {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        Some((start.parse().ok()?, count.parse().ok()?))
    };
    let ((old_start, old), (new_start, new)) = (range(old)?, range(new)?);
    let section = rest[end + 3..].strip_prefix(b" ").unwrap_or_default().to_vec();
    Some((Hunk { old_start, new_start, section, lines: Vec::new() }, old, new))
}

/// The hunks between two contents: three lines of context, git's line matching and function names, no user
/// configuration.
pub(super) fn between(path: &str, old: &[u8], new: &[u8]) -> sluice_shell::error::Result<Vec<Hunk>> {
    let mut options = git2::DiffOptions::new();
    // git's default since 2.14; the user may turn it off (diff.indentHeuristic), and every hunk with a brace would
    // move. Buffers instead of blobs: diff.noprefix, diff.context, textconv and attributes don't reach them.
    options.context_lines(3).interhunk_lines(0).indent_heuristic(true).id_abbrev(40);
    let name = Some(std::path::Path::new(path));
    let mut patch = git2::Patch::from_buffers(old, name, new, name, Some(&mut options))?;
    let text = patch.to_buf()?;
    let mut reader = Reader::new(&text);
    while reader.peek().is_some_and(|line| !line.starts_with(b"@@ ")) {
        if reader.next().is_some_and(|line| line.starts_with(b"Binary ")) {
            return Err(sluice_shell::error::Error::input(format!("{path} is binary; a patch holds text only")));
        }
    }
    let mut hunks = Vec::new();
    while reader.peek().is_some() {
        let hunk = hunk(&mut reader).map_err(anyhow::Error::from)?;
        hunks.push(hunk);
    }
    Ok(hunks)
}
