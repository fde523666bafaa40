//! How long to go on trying.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

/// The first pause and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// The pauses between tries: each is twice as long as the one before, up to a limit, and as chance has it between half
/// of that and all of it, so that two that are in each other's way do not stay there.
#[derive(Debug)]
pub(super) struct Retry {
    next: Duration,
    /// How long all pauses together may still be.
    left: Duration,
    until: Instant,
    sleep: fn(Duration),
}

impl Retry {
    /// Goes on for a time, with something that sleeps.
    pub(super) fn new(time: Duration, sleep: fn(Duration)) -> Self {
        Self { next: PAUSES.0, left: time, until: Instant::now() + time, sleep }
    }

    /// Waits before the next try; false if there is to be none.
    pub(super) fn wait(&mut self) -> bool {
        if self.left.is_zero() || Instant::now() >= self.until {
            return false;
        }
        let pause = self.next.min(self.left);
        (self.sleep)(pause / 2 + (pause / 2).mul_f64(chance()));
        self.left -= pause;
        self.next = (self.next * 2).min(PAUSES.1);
        true
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    f64::from(RandomState::new().build_hasher().finish() as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        static SLEPT: RefCell<Vec<Duration>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn pauses_grow_until_the_time_is_over() {
        let mut retry = Retry::new(Duration::from_secs(1), |pause| SLEPT.with_borrow_mut(|slept| slept.push(pause)));
        while retry.wait() {}
        let slept = SLEPT.take();
        let longest = [5, 10, 20, 40, 80, 160, 200, 200, 200, 85].map(Duration::from_millis);
        assert_eq!(slept.len(), longest.len(), "{slept:?}");
        for (pause, longest) in slept.iter().zip(longest) {
            assert!((longest / 2..=longest).contains(pause), "{slept:?}");
        }
    }
}
