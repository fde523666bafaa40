//! stdout is data, stderr is everything else.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::env;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Version of every `--json` report.
const SCHEMA: u32 = 1;

/// Where reports, notes and progress go.
pub struct Output {
    bars: MultiProgress,
    /// A person watches: draw bars. Otherwise one line at the start and one at the end of a step.
    live: bool,
}

impl Output {
    /// Bars on a terminal outside CI, plain lines elsewhere. Colours follow `NO_COLOR` and the terminal.
    pub fn from_env() -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "false");
        if set("NO_COLOR") {
            console::set_colors_enabled(false);
            console::set_colors_enabled_stderr(false);
        }
        let live = console::Term::stderr().is_term() && !set("CI");
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), live }
    }

    /// Plain lines, whatever the environment.
    pub fn plain() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), live: false }
    }

    /// One line (or more) of data to stdout. A reader that went away (`| head`) is not an error.
    pub fn data(&self, text: impl AsRef<str>) -> Result<()> {
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{}", text.as_ref().trim_end_matches('\n')).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(Error::from),
        }
    }

    /// A `--json` report: the fields of `report` and `"schema": 1`, one document on stdout.
    pub fn json(&self, report: &impl Serialize) -> Result<()> {
        self.data(json(report)?)
    }

    /// One line for the person, to stderr.
    pub fn note(&self, text: impl AsRef<str>) {
        self.bars.suspend(|| {
            // A closed stderr must not stop the work.
            let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
        });
    }

    /// Whether what we print to stderr is coloured.
    pub fn has_colours(&self) -> bool {
        console::colors_enabled_stderr()
    }

    /// A long step of unknown length.
    pub fn spinner(&self, what: impl Into<String>) -> Progress<'_> {
        self.start(what.into(), ProgressBar::new_spinner(), "{spinner} {prefix} {wide_msg} {elapsed}")
    }

    /// A long step of `total` pieces.
    pub fn bar(&self, what: impl Into<String>, total: u64) -> Progress<'_> {
        self.start(what.into(), ProgressBar::new(total), "{prefix} {bar:30} {pos}/{len} {wide_msg} {elapsed}")
    }

    fn start(&self, what: String, bar: ProgressBar, template: &str) -> Progress<'_> {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.bars.add(bar.with_style(style).with_prefix(what.clone()));
        if self.live {
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            self.note(format!("{what} …"));
        }
        Progress { out: self, bar, what, started: Instant::now() }
    }
}

/// One running step. Dropping it removes the bar without a word, which is right when an error follows.
pub struct Progress<'a> {
    out: &'a Output,
    bar: ProgressBar,
    what: String,
    started: Instant,
}

impl Progress<'_> {
    /// What is being worked on now; shown on a terminal only.
    pub fn now(&self, piece: impl Into<String>) {
        self.bar.set_message(piece.into());
    }

    /// `pieces` more are finished.
    pub fn advance(&self, pieces: u64) {
        self.bar.inc(pieces);
    }

    /// Ends the step with one line: what, the result, the time.
    pub fn done(self, result: impl AsRef<str>) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        let result = result.as_ref();
        let gap = if result.is_empty() { "" } else { ": " };
        self.out.note(format!("{}{gap}{result} ({seconds:.1} s)", self.what));
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Text of a `--json` report.
fn json(report: &impl Serialize) -> Result<String> {
    #[derive(Serialize)]
    struct Versioned<'a, T: Serialize> {
        schema: u32,
        #[serde(flatten)]
        report: &'a T,
    }
    Ok(serde_json::to_string_pretty(&Versioned { schema: SCHEMA, report })?)
}

/// The text without what colours it.
pub fn plain_text(text: &str) -> std::borrow::Cow<'_, str> {
    console::strip_ansi_codes(text)
}

/// Lays out rows in columns; the last column is not padded. The first row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| console::measure_text_width(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{:fill$}", "", fill = width - console::measure_text_width(cell)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_carry_the_schema() {
        let text = json(&serde_json::json!({"missing": []})).unwrap();
        assert_eq!(text, "{\n  \"schema\": 1,\n  \"missing\": []\n}");
    }

    #[test]
    fn tables_align_without_trailing_blanks() {
        let rows = [vec!["a".into(), "bb".into(), "c".into()], vec!["long".into(), String::new(), String::new()]];
        assert_eq!(table(&rows), "a     bb  c\nlong");
    }
}
