//! stdout is data, stderr is everything else.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::env;
use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Version of every `--json` report.
const SCHEMA: u32 = 1;

/// Where reports, notes and progress go.
pub struct Output {
    bars: MultiProgress,
    /// A person watches: draw bars. Otherwise one line at the start and one at the end of a step, and one a minute
    /// between them.
    live: bool,
}

/// How often a step says that it is still at work where no bar is drawn: CI systems end what is silent for long.
const PULSE: Duration = Duration::from_mins(1);

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
        let pulse = if self.live {
            bar.enable_steady_tick(Duration::from_millis(120));
            None
        } else {
            self.note(format!("{what} …"));
            let (bar, what) = (bar.clone(), what.clone());
            // A closed stderr must not stop the work.
            let say = move |since| drop(writeln!(io::stderr().lock(), "{}", alive(&what, since, &bar.message())));
            Some(Pulse::start(PULSE, say))
        };
        Progress { out: self, bar, what, started: Instant::now(), pulse }
    }
}

/// One running step. Dropping it removes the bar without a word, which is right when an error follows.
pub struct Progress<'a> {
    out: &'a Output,
    bar: ProgressBar,
    what: String,
    started: Instant,
    pulse: Option<Pulse>,
}

impl Progress<'_> {
    /// What is being worked on now; shown on a terminal, and elsewhere once a minute.
    pub fn now(&self, piece: impl Into<String>) {
        self.bar.set_message(piece.into());
    }

    /// `pieces` more are finished.
    pub fn advance(&self, pieces: u64) {
        self.bar.inc(pieces);
    }

    /// Ends the step with one line: what, the result, the time.
    pub fn done(mut self, result: impl AsRef<str>) {
        let time = in_words(self.started.elapsed());
        self.pulse = None;
        self.bar.finish_and_clear();
        let result = result.as_ref();
        let gap = if result.is_empty() { "" } else { ": " };
        self.out.note(format!("{}{gap}{result} ({time})", self.what));
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Calls a function at intervals, from a thread of its own, until it is dropped.
struct Pulse {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Pulse {
    /// `say` gets the time since now.
    fn start(every: Duration, say: impl Fn(Duration) + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel();
        let begun = Instant::now();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(begun.elapsed());
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn alive(what: &str, since: Duration, piece: &str) -> String {
    let gap = if piece.is_empty() { "" } else { ": " };
    format!("{what}, {} so far{gap}{piece}", in_words(since))
}

/// `0.4 s`, `12.0 s`, `3 min`, `3 min 20 s`.
pub fn in_words(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
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
    fn a_long_step_shows_life_until_it_ends() {
        let (said, lines) = mpsc::channel();
        let pulse =
            Pulse::start(Duration::from_millis(1), move |since| drop(said.send(alive("build x", since, "y/z"))));
        let line = lines.recv().unwrap();
        assert!(line.starts_with("build x, 0.0 s so far: y/z"), "{line}");
        drop(pulse);
        assert!(lines.iter().last().is_none_or(|line| line.contains("so far")), "it ends with the step");
    }

    #[test]
    fn times() {
        for (seconds, text) in [(0, "0.0 s"), (59, "59.0 s"), (60, "1 min"), (200, "3 min 20 s"), (7200, "120 min")] {
            assert_eq!(in_words(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn tables_align_without_trailing_blanks() {
        let rows = [vec!["a".into(), "bb".into(), "c".into()], vec!["long".into(), String::new(), String::new()]];
        assert_eq!(table(&rows), "a     bb  c\nlong");
    }
}
