//! How much to do at once, so that nobody waits long.

use std::time::Duration;

/// How many things to do in a step. The number follows the speed of the machine: it is halved after a step that took
/// longer than it may, and doubled after one that took less than half of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    now: usize,
    least: usize,
    most: usize,
}

impl Pace {
    /// Begins with a number, and stays within bounds.
    pub(crate) const fn new(first: usize, least: usize, most: usize) -> Self {
        Self { now: first, least, most }
    }

    /// How many to do in the next step.
    pub(crate) fn size(self) -> usize {
        self.now
    }

    /// Notes how long a step took that may take so long.
    pub(crate) fn took(&mut self, time: Duration, may: Duration) {
        if time > may {
            self.now = (self.now / 2).max(self.least);
        } else if time < may / 2 {
            self.now = (self.now * 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_take_about_as_long_as_they_may() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(64, 16, 100);
        for (took, next) in [(5, 64), (9, 64), (11, 32), (100, 16), (100, 16), (4, 32), (0, 64), (0, 100), (0, 100)] {
            pace.took(ms(took), ms(10));
            assert_eq!(pace.size(), next, "after {took} ms");
        }
    }
}
