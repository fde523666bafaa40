//! Latencies: a histogram that adds up, and what it is summed up to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets double every so many: each is 4.4% wide, so a quantile is right to 2.2%.
const PER_DOUBLING: f64 = 16.0;

/// How many latencies are in each bucket; a bucket's number is the logarithm of its microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Histogram(BTreeMap<i32, u64>);

/// The quantiles that are reported, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p95_ms: f64,
}

impl Histogram {
    pub(super) fn add(&mut self, latency: Duration) {
        let micros = latency.as_secs_f64().max(1e-6) * 1e6;
        #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a number of microseconds is small")]
        let bucket = (micros.log2() * PER_DOUBLING).floor() as i32;
        *self.0.entry(bucket).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    pub(super) fn latency(&self) -> Latency {
        let count: u64 = self.0.values().sum();
        Latency {
            count,
            p50_ms: self.quantile(count, 0.5),
            p90_ms: self.quantile(count, 0.9),
            p95_ms: self.quantile(count, 0.95),
        }
    }

    /// The middle of the bucket that the quantile is in, in milliseconds.
    fn quantile(&self, count: u64, share: f64) -> f64 {
        let mut left = share * count as f64;
        for (bucket, count) in &self.0 {
            left -= *count as f64;
            if left < 0.0 {
                return ((f64::from(*bucket) + 0.5) / PER_DOUBLING).exp2() / 1e3;
            }
        }
        self.0.keys().next_back().map_or(0.0, |bucket| ((f64::from(*bucket) + 0.5) / PER_DOUBLING).exp2() / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_few_hundredths_and_add_up() {
        let (mut all, mut half) = (Histogram::default(), Histogram::default());
        for number in 1..=1000 {
            if number % 2 == 0 { &mut all } else { &mut half }.add(Duration::from_micros(number * 100));
        }
        all.merge(&half);
        let latency = all.latency();
        assert_eq!(latency.count, 1000);
        for (found, right) in [(latency.p50_ms, 50.0), (latency.p90_ms, 90.0), (latency.p95_ms, 95.0)] {
            assert!((found / right - 1.0).abs() < 0.05, "{found} for {right}");
        }
        assert_eq!(Histogram::default().latency(), Latency::default());
    }
}
