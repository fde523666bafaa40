//! The hunks of a patch put into the content of a file.

use super::diff::{FileDiff, Hunk, Side};
use super::reject::{Reject, Why};

/// A file after its hunks went in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Applied {
    /// The new content.
    pub(super) content: Vec<u8>,
    /// Lines by which hunks were found away from where the patch says, as (hunk number from 1, lines).
    pub(super) moved: Vec<(usize, isize)>,
}

impl FileDiff {
    /// Puts the hunks into `old`. A hunk whose lines stand elsewhere in the file, at exactly one place after the hunk
    /// before it, is applied there and reported as moved; there is no fuzz.
    ///
    /// # Errors
    /// Every hunk that fits nowhere, or at several places of which none is the expected one.
    pub(super) fn apply(&self, old: &[u8]) -> Result<Applied, Vec<Reject>> {
        let lines: Vec<&[u8]> = old.split_inclusive(|&byte| byte == b'\n').collect();
        let (mut out, mut moved, mut rejects) = (Vec::with_capacity(old.len() + 1024), Vec::new(), Vec::new());
        let (mut next, mut drift) = (0_usize, 0_isize);
        for (index, hunk) in self.hunks.iter().enumerate() {
            let before = hunk.image(Side::Added);
            let written = if before.is_empty() { hunk.old_start } else { hunk.old_start.saturating_sub(1) };
            let expected = written.saturating_add_signed(drift);
            let at = match locate(&lines, next, expected, hunk, &before) {
                Ok(at) => at,
                Err(why) => {
                    rejects.push(Reject::new(self, index, expected, &lines, why));
                    continue;
                }
            };
            drift = at.cast_signed() - written.cast_signed();
            if drift != 0 {
                moved.push((index + 1, drift));
            }
            out.extend(lines[next..at].concat());
            out.extend(hunk.image(Side::Removed).concat());
            next = at + before.len();
        }
        out.extend(lines[next..].concat());
        if rejects.is_empty() { Ok(Applied { content: out, moved }) } else { Err(rejects) }
    }
}

/// Where (index of a line) a hunk goes.
fn locate(lines: &[&[u8]], from: usize, expected: usize, hunk: &Hunk, before: &[&[u8]]) -> Result<usize, Why> {
    let fits = |at: usize| at >= from && lines.get(at..at + before.len()) == Some(before);
    if before.is_empty() {
        return if lines.is_empty() { Ok(0) } else { Err(Why::Exists) };
    }
    if fits(expected) {
        return Ok(expected);
    }
    // Fewer context lines than usual mean that the hunk touches the start or the end of the file: there it must stay.
    let (first, last) = (hunk.old_start <= 1, hunk.trailing_context() == 0);
    let anchored = |at: &usize| (!first || *at == 0) && (!last || at + before.len() == lines.len());
    let places: Vec<usize> =
        (from..=lines.len().saturating_sub(before.len())).filter(|at| fits(*at)).filter(anchored).collect();
    match places[..] {
        [only] => Ok(only),
        [] => Err(if contains(lines, &hunk.image(Side::Removed)) { Why::Already } else { Why::Differs }),
        _ => Err(Why::Ambiguous(places.iter().map(|at| at + 1).collect())),
    }
}

/// Whether the lines a hunk would leave behind stand in the file.
fn contains(lines: &[&[u8]], after: &[&[u8]]) -> bool {
    !after.is_empty() && lines.windows(after.len()).any(|window| window == after)
}
