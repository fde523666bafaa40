//! How long work in the background may hold up the writes that come meanwhile.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A turn of the background between two commits takes about as long as commits do lately: a write that comes in the
/// middle then waits for two of them and its own.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    bounds: RangeInclusive<Duration>,
    commit: Duration,
}

impl Turn {
    /// Within bounds: with less than the least it is mostly round trips and flushes. While nobody has written yet, it
    /// is the most.
    pub(super) const fn new(bounds: RangeInclusive<Duration>) -> Self {
        Self { commit: *bounds.end(), bounds }
    }

    /// Always as long.
    pub(super) const fn fixed(time: Duration) -> Self {
        Self::new(time..=time)
    }

    /// Notes how long a commit took.
    pub(super) fn committed(&mut self, took: Duration) {
        self.commit = (self.commit * 7 + took) / 8;
    }

    /// How long the next turn may take.
    pub(super) fn may_take(&self) -> Duration {
        self.commit.clamp(*self.bounds.start(), *self.bounds.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_background_takes_as_long_as_commits_do_lately() {
        let ms = Duration::from_millis;
        let mut turn = Turn::new(ms(3)..=ms(20));
        assert_eq!(turn.may_take(), ms(20));
        for (commits, least, most) in [(ms(5), ms(5), ms(8)), (ms(1), ms(3), ms(3)), (ms(900), ms(20), ms(20))] {
            for _ in 0..16 {
                turn.committed(commits);
            }
            assert!((least..=most).contains(&turn.may_take()), "{commits:?}: {:?}", turn.may_take());
        }
    }
}
