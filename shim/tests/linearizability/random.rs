//! Choices that a seed repeats.

use std::ops::Range;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for each number.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(Self(seed ^ Self(stream).next()).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.within(0..times) == 0
    }
}
