//! The two kinds of time: the store's clock, by which things last, and the calendar, which people read.
//!
//! The calendar of a machine is set forward and back: by people, by NTP, with a virtual machine that was paused. A
//! lease that followed it would end at once or live for hours. So whatever lasts (leases, tombstones, the collector's
//! pauses) is counted in [`StoreTime`]. In a SQLite file that is the time that the store has been served: each commit
//! keeps the time in the file, and the clock goes on from there at the next start, so downtime does not count. On a
//! database server it is that server's clock. [`WallTime`] is for what people and Kubernetes read. The types do not
//! mix.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;
use futures::future::BoxFuture;

/// A moment on the clock of a store, in milliseconds. The clock begins at 0; what is older than it has negative
/// moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StoreTime(i64);

impl StoreTime {
    /// The moment of so many milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Its milliseconds.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The moment so much later. The last one there is, where that is later still.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(millis(time)))
    }

    /// The moment so much earlier.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(millis(time)))
    }

    /// How long after another moment it is; nothing if it is before that one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A moment of the calendar, in milliseconds since 1970. How long something lasts does not follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// What the machine's calendar says.
    pub fn now() -> Self {
        Self(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    /// The moment of so many milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Its milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Its whole seconds since 1970.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// What drives a clock. Tests have one of their own, which stands still until they say otherwise.
pub trait Ticker: fmt::Debug + Send + Sync {
    /// The time since some moment that is always the same. It never goes back.
    fn elapsed(&self) -> Duration;

    /// Returns when [`Self::elapsed`] has come so far.
    fn sleep_until(&self, elapsed: Duration) -> BoxFuture<'static, ()>;
}

/// The system's monotonic clock, which nobody can set.
#[derive(Debug)]
pub struct Steady(Instant);

impl Default for Steady {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Ticker for Steady {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, elapsed: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(elapsed.saturating_sub(self.elapsed())).boxed()
    }
}

/// The clock of a store that is open. Clones share it.
#[derive(Debug, Clone)]
pub struct StoreClock {
    base: StoreTime,
    /// What the ticker said then.
    begin: Duration,
    ticker: Arc<dyn Ticker>,
    /// How much later it is on the database server's clock than by the ticker, in milliseconds; `None` where the
    /// database has no clock.
    ahead: Option<Arc<AtomicI64>>,
}

impl StoreClock {
    /// A clock that goes on from a moment.
    pub fn from(base: StoreTime, ticker: Arc<dyn Ticker>) -> Self {
        Self { base, begin: ticker.elapsed(), ticker, ahead: None }
    }

    /// One that is the clock of a database server, on which it is so late. Between two looks at that clock the ticker
    /// drives it on.
    pub fn of_server(now: StoreTime, ticker: Arc<dyn Ticker>) -> Self {
        Self { ahead: Some(Arc::default()), ..Self::from(now, ticker) }
    }

    /// Goes by what the database server's clock says. That one may have been set, may be another server's, or went on
    /// while this machine was asleep. Nothing for a clock that is no server's.
    pub fn heed(&self, now: StoreTime) {
        if let Some(ahead) = &self.ahead {
            ahead.store(now.0.saturating_sub(self.ticked().0), Ordering::Relaxed);
        }
    }

    /// How late it is.
    pub fn now(&self) -> StoreTime {
        StoreTime(self.ticked().0.saturating_add(self.ahead()))
    }

    /// Returns when it is that late, as far as that can be told now.
    pub fn sleep_until(&self, moment: StoreTime) -> BoxFuture<'static, ()> {
        let moment = StoreTime(moment.0.saturating_sub(self.ahead()));
        self.ticker.sleep_until(self.begin.saturating_add(moment.since(self.base)))
    }

    /// How late it is by the ticker alone.
    fn ticked(&self) -> StoreTime {
        self.base.after(self.ticker.elapsed().saturating_sub(self.begin))
    }

    fn ahead(&self) -> i64 {
        self.ahead.as_ref().map_or(0, |ahead| ahead.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_stay_within_what_there_is() {
        let (at, second) = (StoreTime::from_millis, Duration::from_secs(1));
        for (moment, after, before) in [
            (0, 1000, -1000),
            (-500, 500, -1500),
            (i64::MAX, i64::MAX, i64::MAX - 1000),
            (i64::MIN, i64::MIN + 1000, i64::MIN),
        ] {
            let moment = at(moment);
            assert_eq!((moment.after(second), moment.before(second)), (at(after), at(before)));
            assert_eq!(moment.since(moment.after(second)), Duration::ZERO, "nothing is after what comes later");
        }
        assert_eq!(at(0).after(Duration::MAX), at(i64::MAX));
        assert_eq!(at(2500).since(at(-500)), Duration::from_secs(3));
        assert_eq!(at(i64::MAX).since(at(i64::MIN)), Duration::from_millis(i64::MAX as u64));
        assert_eq!(WallTime::from_millis(-1).seconds(), -1);
    }

    #[test]
    fn a_clock_goes_on_from_where_it_was() {
        #[derive(Debug)]
        struct Fixed(u64, std::sync::atomic::AtomicU64);
        impl Ticker for Fixed {
            fn elapsed(&self) -> Duration {
                Duration::from_secs(self.0 + self.1.load(std::sync::atomic::Ordering::Relaxed))
            }
            fn sleep_until(&self, _: Duration) -> BoxFuture<'static, ()> {
                std::future::ready(()).boxed()
            }
        }
        let ticker = Arc::new(Fixed(77, 0.into()));
        let clock = StoreClock::from(StoreTime::from_millis(5), Arc::clone(&ticker) as Arc<dyn Ticker>);
        assert_eq!(clock.now(), StoreTime::from_millis(5), "what the ticker said before does not count");
        ticker.1.store(2, std::sync::atomic::Ordering::Relaxed);
        assert_eq!((clock.now(), clock.clone().now()), (StoreTime::from_millis(2005), StoreTime::from_millis(2005)));
        clock.heed(StoreTime::from_millis(9));
        assert_eq!(clock.now(), StoreTime::from_millis(2005), "there is no other clock");
        let clock = StoreClock::of_server(StoreTime::from_millis(5), Arc::clone(&ticker) as Arc<dyn Ticker>);
        let other = clock.clone();
        for said in [9000, 3] {
            clock.heed(StoreTime::from_millis(said));
            assert_eq!((clock.now(), other.now()), (StoreTime::from_millis(said), StoreTime::from_millis(said)));
        }
        ticker.1.store(3, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(clock.now(), StoreTime::from_millis(1003), "it goes on from there");
    }
}
