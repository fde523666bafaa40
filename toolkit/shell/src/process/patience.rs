//! When a program has had enough time.

use std::time::{Duration, Instant};

use super::tree::Work;
use crate::output::in_words;

/// Multiplies all limits, for machines on which they are too short.
pub(super) const FACTOR: &str = "SLUICE_TIME_LIMIT_FACTOR";

/// What cargo prints while another one works in the same target folder. It does nothing then, however long that takes.
const CARGO_WAITS: &str = "Blocking waiting for file lock";

/// Bytes moved that count as progress: a download that is slow beyond use, but not dead.
const PROGRESS_BYTES: u64 = 64 << 10;

/// How long a program may take. A program that hangs is named, instead of using up the time that CI has for everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// By progress: a program hangs when it and all that it started printed nothing and used no processor time for so
    /// long. The clock is no measure of what compiles, downloads or tests: a busy machine takes ten times as long as a
    /// quiet one.
    Silence(Duration),
    /// By the clock: a question that a server may never answer, and what has a limit of its own.
    Clock(Duration),
}

impl Limit {
    /// Of everything that has no limit of its own: five minutes without any progress.
    pub const HUNG: Self = Self::Silence(Duration::from_mins(5));
    /// Of one question to a server: ten minutes by the clock.
    pub const ANSWER: Self = Self::Clock(Duration::from_mins(10));

    /// With the factor of the environment; one that is no positive number counts as 1.
    pub(super) fn here(self) -> Self {
        let factor = std::env::var(FACTOR).ok().and_then(|text| text.parse::<f64>().ok());
        self.times(factor.unwrap_or(1.0))
    }

    pub(super) fn times(self, factor: f64) -> Self {
        let sound = factor.is_finite() && factor > 0.0;
        // More than a hundred years is no limit, and overflows clocks.
        let longer =
            |time: Duration| Duration::from_secs_f64((time.as_secs_f64() * if sound { factor } else { 1.0 }).min(3e9));
        match self {
            Self::Silence(time) => Self::Silence(longer(time)),
            Self::Clock(time) => Self::Clock(longer(time)),
        }
    }

    /// What was observed of a program that reached the limit.
    pub(super) fn observation(self) -> String {
        match self {
            Self::Silence(time) => format!("no output and no processor time for {}", in_words(time)),
            Self::Clock(time) => format!("it did not end within {}", in_words(time)),
        }
    }
}

/// The limit of one program that runs.
pub(super) struct Patience {
    limit: Limit,
    started: Instant,
    looked: Instant,
    /// Without progress, as far as it was watched.
    idle: Duration,
    /// Since the last progress: too little to be one.
    work: Work,
    /// It printed something since it was last looked at.
    spoke: bool,
    /// It waits for another cargo.
    excused: bool,
}

impl Patience {
    /// A program starts.
    pub(super) fn new(limit: Limit, now: Instant) -> Self {
        let work = Work::default();
        Self { limit, started: now, looked: now, idle: Duration::ZERO, work, spoke: false, excused: false }
    }

    /// How long nobody needs to look at it, if it says nothing.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        match self.limit {
            Limit::Silence(_) => (self.looked + self.interval()).saturating_duration_since(now),
            Limit::Clock(limit) => (self.started + limit).saturating_duration_since(now),
        }
    }

    /// It printed a line.
    pub(super) fn heard(&mut self, line: &[u8]) {
        self.spoke = true;
        self.excused = String::from_utf8_lossy(line).contains(CARGO_WAITS);
    }

    /// Whether its time is up; `look` says what it did since the last look.
    pub(super) fn is_over(&mut self, now: Instant, look: impl FnOnce() -> Work) -> bool {
        let limit = match self.limit {
            Limit::Clock(limit) => return now >= self.started + limit,
            Limit::Silence(limit) => limit,
        };
        let interval = self.interval();
        let passed = now.saturating_duration_since(self.looked);
        if passed < interval {
            return false;
        }
        self.looked = now;
        // A machine that was halted for an hour halted the program as well.
        self.idle += passed.min(2 * interval);
        self.work += look();
        // A Go program that waits still tidies up every two minutes: progress is a thousandth of the time on one
        // processor.
        let enough = (limit.as_secs_f64() * 0.1) as u64;
        let worked = self.work.ticks >= enough.max(1) || self.work.bytes >= PROGRESS_BYTES;
        if std::mem::take(&mut self.spoke) || self.excused || worked {
            self.idle = Duration::ZERO;
            self.work = Work::default();
        }
        self.idle >= limit
    }

    fn interval(&self) -> Duration {
        let (Limit::Silence(limit) | Limit::Clock(limit)) = self.limit;
        (limit / 10).clamp(Duration::from_millis(10), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_mins(5);

    /// Seconds after which a program is taken for hung that does `work` in each second `t`, and prints where `says` has
    /// a line.
    fn hung_after(work: impl Fn(u64) -> Work, says: impl Fn(u64) -> Option<&'static str>) -> Option<u64> {
        let start = Instant::now();
        let mut patience = Patience::new(Limit::Silence(LIMIT), start);
        let mut since = Work::default();
        (1..=3600).find(|&second| {
            since += work(second);
            if let Some(line) = says(second) {
                patience.heard(line.as_bytes());
            }
            patience.is_over(start + Duration::from_secs(second), || std::mem::take(&mut since))
        })
    }

    fn ticks(ticks: u64) -> Work {
        Work { ticks, bytes: 0 }
    }

    #[test]
    fn only_what_makes_no_progress_hangs() {
        let silent = |_| None;
        assert_eq!(hung_after(|_| ticks(0), silent), Some(300), "it sleeps");
        assert_eq!(hung_after(|_| ticks(100), silent), None, "it computes in silence");
        assert_eq!(hung_after(|second| ticks(u64::from(second % 4 == 0)), silent), None, "the machine is busy");
        assert_eq!(hung_after(|second| ticks(u64::from(second % 60 == 0)), silent), Some(300), "it tidies up");
        assert_eq!(hung_after(|_| Work { ticks: 0, bytes: 1000 }, silent), None, "it downloads slowly");
        assert_eq!(
            hung_after(|second| ticks(100 * u64::from(second < 1000)), silent),
            Some(1300),
            "it computes, then hangs"
        );
        let hourly = |second| (second % 299 == 0).then_some("still here");
        assert_eq!(hung_after(|_| ticks(0), hourly), None, "it talks");
        let cargo = |second| (second == 1).then_some("    Blocking waiting for file lock on build directory");
        assert_eq!(hung_after(|_| ticks(0), cargo), None, "it waits for another cargo");
        let goes_on = |second| if second == 2 { Some("   Compiling a v1.0.0") } else { cargo(second) };
        assert_eq!(hung_after(|_| ticks(0), goes_on), Some(305), "it hangs after it waited");
    }

    #[test]
    fn a_machine_that_stood_still_does_not_count() {
        let start = Instant::now();
        let mut patience = Patience::new(Limit::Silence(LIMIT), start);
        assert!(!patience.is_over(start + Duration::from_hours(9), Work::default));
    }

    #[test]
    fn the_clock_alone_decides_where_it_is_asked_for() {
        let start = Instant::now();
        let mut patience = Patience::new(Limit::Clock(LIMIT), start);
        patience.heard(b"still here");
        assert!(!patience.is_over(start + Duration::from_secs(299), || ticks(100)));
        assert!(patience.is_over(start + LIMIT, || ticks(100)));
    }

    #[test]
    fn the_factor_of_the_environment() {
        let cases =
            [(1.0, 2.0), (2.5, 5.0), (0.0, 2.0), (-1.0, 2.0), (f64::NAN, 2.0), (f64::INFINITY, 2.0), (1e300, 3e9)];
        for (factor, seconds) in cases {
            for limit in [Limit::Silence, Limit::Clock] {
                let (limit, expected) = (limit(Duration::from_secs(2)), limit(Duration::from_secs_f64(seconds)));
                assert_eq!(limit.times(factor), expected, "{factor}");
            }
        }
    }
}
