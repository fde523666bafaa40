//! What a person needs to see when a patch does not apply: the hunk, the nearest lines that upstream has now, the
//! symbol around them.

use similar::{Algorithm, ChangeTag, DiffOp};
use std::collections::HashMap;
use std::fmt::{self, Write as _};

use super::diff::{FileDiff, Hunk, Side};

/// Why a file of a patch can't be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The lines that the hunk expects stand nowhere in the file.
    Differs,
    /// The lines stand at several places (line numbers), none of them the expected one.
    Ambiguous(Vec<usize>),
    /// The lines that the hunk would make are already there.
    Already,
    /// The patch creates a file that is already there.
    Exists,
    /// The file is not in the tree; a file of the same name may be elsewhere.
    Gone(Vec<String>),
    /// The patch deletes a file, but its content differs from what the patch says.
    NotEmptied,
}

/// One hunk (or file) that does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reject {
    /// File in the tree.
    pub(super) path: String,
    /// Why.
    pub(super) why: Why,
    /// Line of the file, from 1: of the nearest lines, or where the patch expects its own.
    pub(super) line: usize,
    /// The declaration around that line, such as `func (s *store) GetList`.
    pub(super) symbol: Option<String>,
    /// The hunk, its number from 1, and how many there are.
    hunk: Option<(Hunk, usize, usize)>,
    /// The lines of the file that are most like what the hunk expects.
    nearest: Option<Nearest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Nearest {
    /// Index of the first line.
    start: usize,
    lines: Vec<String>,
}

/// Below this part of equal lines, each counted by how rare it is, the nearest lines are noise.
const ALIKE: f32 = 0.3;

impl Reject {
    /// A hunk that does not fit into `lines`; `expected` is the index of the line where it should be.
    pub(super) fn new(file: &FileDiff, index: usize, expected: usize, lines: &[&[u8]], why: Why) -> Self {
        let hunk = &file.hunks[index];
        let image = if why == Why::Already { hunk.image(Side::Removed) } else { hunk.image(Side::Added) };
        let nearest = matches!(why, Why::Differs | Why::Already).then(|| nearest(lines, &image, expected)).flatten();
        // The first changed line says better than the context above it where the change belongs.
        let lead = hunk.lines.iter().take_while(|line| line.side == Side::Context).count();
        let start = match (&why, &nearest) {
            (Why::Ambiguous(places), _) => places[0] - 1,
            (_, Some(nearest)) => nearest.start,
            // The declaration that git noted in the hunk, if the file has it still.
            (Why::Differs, None) => section(lines, &hunk.section).unwrap_or(expected),
            _ => expected,
        };
        let line = (start + lead + 1).clamp(1, lines.len().max(1));
        let lost = why == Why::Differs && nearest.is_none() && section(lines, &hunk.section).is_none();
        let symbol = if lost { None } else { symbol(lines, line) };
        let hunk = Some((hunk.clone(), index + 1, file.hunks.len()));
        Self { path: file.path.clone(), why, line, symbol, hunk, nearest }
    }

    /// A file that can't be changed at all.
    pub(super) fn file(path: &str, why: Why) -> Self {
        Self { path: path.to_owned(), why, line: 1, symbol: None, hunk: None, nearest: None }
    }

    /// What to do next, in one or more sentences.
    pub(super) fn advice(&self) -> String {
        match &self.why {
            Why::Already => {
                "upstream has this change now: if that is all the patch does, drop it from the series".into()
            }
            Why::Exists => {
                "the tree has a file of this name: rename ours, or see whether upstream took the patch".into()
            }
            Why::Gone(found) if !found.is_empty() => "change the path in the patch, or drop the patch".into(),
            Why::Gone(_) => "see where upstream moved this code, and move the hunk there".into(),
            Why::Ambiguous(_) => "add context lines until the place is unique".into(),
            Why::Differs | Why::NotEmptied => {
                "edit the hunk so that its context is what upstream has; if the meaning changed, rework the patch"
                    .into()
            }
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path, self.line)?;
        if let Some(symbol) = &self.symbol {
            write!(f, " in `{symbol}`")?;
        }
        write!(f, ": ")?;
        match &self.why {
            Why::Differs => write!(f, "upstream's lines are not what the patch expects")?,
            Why::Already => write!(f, "the change is already there")?,
            Why::Exists => write!(f, "the patch creates this file, but it exists")?,
            Why::NotEmptied => write!(f, "the patch deletes this file, but its content is not what the patch expects")?,
            Why::Ambiguous(places) => write!(f, "the lines stand at {} places: lines {}", places.len(), join(places))?,
            Why::Gone(found) if found.is_empty() => write!(f, "no such file in the tree")?,
            Why::Gone(found) => write!(f, "no such file in the tree; of the same name: {}", found.join(", "))?,
        }
        let Some((hunk, number, of)) = &self.hunk else { return Ok(()) };
        write!(f, "\n\nhunk {number} of {of}:\n")?;
        for line in hunk.to_string().lines() {
            writeln!(f, "  | {}", line.trim_end())?;
        }
        match (&self.nearest, &self.why) {
            (Some(nearest), Why::Differs) => f.write_str(&beside(hunk, nearest)),
            (None, Why::Differs) => {
                let section = String::from_utf8_lossy(&hunk.section);
                write!(f, "\nno lines of the file are like these")?;
                if self.symbol.is_none() && !section.is_empty() {
                    write!(f, ", nor is there `{section}`")
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }
}

fn join(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// The lines that the hunk expects beside those that the file has: numbers of both, `-` expected only, `+` in the file
/// only.
fn beside(hunk: &Hunk, nearest: &Nearest) -> String {
    let expected: Vec<String> = hunk.image(Side::Added).iter().map(|line| text(line)).collect();
    let width = (nearest.start + nearest.lines.len()).max(hunk.old_start + expected.len()).to_string().len().max(5);
    let mut out = format!("\n{:>width$} {:>width$}\n", "patch", "tree");
    let number = |index: Option<usize>, first: usize| index.map_or(String::new(), |index| (first + index).to_string());
    let diff = similar::TextDiff::configure().algorithm(Algorithm::Patience).diff_slices(
        &expected.iter().map(String::as_str).collect::<Vec<_>>(),
        &nearest.lines.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    for change in diff.iter_all_changes() {
        let (old, new) = (change.old_index(), change.new_index());
        let (old, new) = (number(old, hunk.old_start), number(new, nearest.start + 1));
        let (mark, note) = match change.tag() {
            ChangeTag::Equal => (' ', ""),
            ChangeTag::Delete => ('-', "   <- the patch expects"),
            ChangeTag::Insert => ('+', "   <- upstream has"),
        };
        let line = format!("{old:>width$} {new:>width$} {mark} {}{note}", change.value());
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

/// The window of `lines` that is most like `image`; of equals the one closest to `expected`.
fn nearest(lines: &[&[u8]], image: &[&[u8]], expected: usize) -> Option<Nearest> {
    let trim = |line: &&[u8]| text(line).trim_start().to_owned();
    let (all, wanted): (Vec<_>, Vec<_>) = (lines.iter().map(trim).collect(), image.iter().map(trim).collect());
    // A brace or `if err != nil {` is everywhere and says nothing about the place; a line that stands once says much.
    let mut times: HashMap<&str, u16> = HashMap::new();
    for line in &all {
        let count = times.entry(line).or_default();
        *count = count.saturating_add(1);
    }
    let weights: Vec<f32> =
        wanted.iter().map(|line| 1.0 / (1.0 + f32::from(*times.get(line.as_str()).unwrap_or(&0)))).collect();
    let total: f32 = weights.iter().sum();
    let mut best: Option<(f32, usize, usize)> = None;
    for start in 0..all.len() {
        let window = &all[start..(start + wanted.len()).min(all.len())];
        if !window.iter().any(|line| line.len() > 3 && wanted.contains(line)) {
            continue;
        }
        let mut equal = 0.0;
        for op in similar::capture_diff_slices(Algorithm::Lcs, &wanted, window) {
            if let DiffOp::Equal { old_index, len, .. } = op {
                equal += weights[old_index..old_index + len].iter().sum::<f32>();
            }
        }
        let (ratio, distance) = (equal / total, start.abs_diff(expected));
        if best.is_none_or(|(most, closest, _)| ratio > most || (ratio == most && distance < closest)) {
            best = Some((ratio, distance, start));
        }
    }
    let (_, _, start) = best.filter(|(ratio, ..)| *ratio >= ALIKE)?;
    let end = (start + wanted.len()).min(lines.len());
    Some(Nearest { start, lines: lines[start..end].iter().map(|line| text(line)).collect() })
}

/// Index of the line that a hunk header names. git cuts it off after 80 bytes.
fn section(lines: &[&[u8]], section: &[u8]) -> Option<usize> {
    lines.iter().position(|line| !section.is_empty() && line.starts_with(section))
}

/// The Go declaration at or above a line (from 1): its first line up to the parameters or the body.
pub(super) fn symbol(lines: &[&[u8]], line: usize) -> Option<String> {
    let above = &lines[..line.min(lines.len())];
    for text in above.iter().rev().map(|line| text(line)) {
        for keyword in ["func ", "type ", "var ", "const "] {
            if let Some(rest) = text.strip_prefix(keyword) {
                return Some(format!("{keyword}{}", name(rest)).trim_end().to_owned());
            }
        }
    }
    None
}

/// Receiver and name of what follows the keyword of a declaration.
fn name(rest: &str) -> String {
    let receiver = if rest.starts_with('(') { rest.find(')').map_or(0, |end| end + 1) } else { 0 };
    let tail = rest[receiver..].trim_start();
    let end = tail.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tail.len());
    format!("{} {}", &rest[..receiver], &tail[..end]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<&[u8]> {
        text.split_inclusive('\n').map(str::as_bytes).collect()
    }

    #[test]
    fn lines_that_are_everywhere_do_not_make_a_place() {
        let everywhere = "\tif err != nil {\n\t\treturn err\n\t}\n";
        let file = format!("{}func list() error {{\n\tread()\n{everywhere}}}\n", everywhere.repeat(5));
        let gone = format!("\tstream()\n{everywhere}");
        assert_eq!(nearest(&lines(&file), &lines(&gone), 0), None);
        let changed = format!("func list() error {{\n\tstream()\n{everywhere}");
        assert_eq!(nearest(&lines(&file), &lines(&changed), 0).unwrap().start, 15);
    }

    #[test]
    fn symbols() {
        let file = "package x\n\ntype a struct {\n\tb int\n}\n\nfunc (s *store[K]) Get(k K) {\n\tx()\n}\n\nvar (\n\ty = 1\n)\n";
        for (line, expected) in
            [(1, None), (4, Some("type a")), (8, Some("func (s *store[K]) Get")), (12, Some("var")), (99, Some("var"))]
        {
            assert_eq!(symbol(&lines(file), line).as_deref(), expected, "{line}");
        }
    }
}
