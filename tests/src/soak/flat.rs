//! Whether something grows that should stay.

use sluice_shell::error::{Error, Result};

/// Fewer values say nothing.
const LEAST: usize = 30;

/// By how much the last third may be above the middle one: the greater of a share and a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) share: f64,
    pub(super) number: f64,
    /// Up to this the last third may be however it came there.
    pub(super) usual: f64,
}

/// The medians of the middle and of the last third of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Thirds {
    pub(super) middle: f64,
    pub(super) last: f64,
}

impl Thirds {
    /// Of values in the order of time. The first third is the time to get warm.
    ///
    /// # Errors
    /// When there are too few.
    pub(super) fn of(values: &[f64]) -> Result<Self> {
        if values.len() < LEAST {
            return Err(Error::input(format!("{} samples are too few", values.len())));
        }
        let third = values.len() / 3;
        let (middle, last) = (&values[third..values.len() - third], &values[values.len() - third..]);
        Ok(Self { middle: median(middle), last: median(last) })
    }

    /// Whether the last third is no more than that above the middle one. Less is flat as well.
    pub(super) fn are_flat(self, tolerance: Tolerance) -> bool {
        self.last <= tolerance.usual || self.last - self.middle <= (self.middle * tolerance.share).max(tolerance.number)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[half - 1], sorted[half]) } else { sorted[half] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 300 samples, the value of each.
    fn series(value: impl Fn(f64) -> f64) -> Vec<f64> {
        (0..300).map(|at| value(f64::from(at))).collect()
    }

    /// From -1 to 1, without a pattern.
    fn noise(at: f64) -> f64 {
        (at * 12.9898).sin() * 43_758.545_3 % 1.0
    }

    #[test]
    fn a_leak_is_no_flat_series_and_noise_is_one() {
        let tolerance = Tolerance { share: 0.1, number: 4.0, usual: 20.0 };
        let table = [
            ("the same value", series(|_| 50.0), true),
            ("noise of a third", series(|at| 50.0 + 16.0 * noise(at)), true),
            ("growth until it is warm", series(|at| 50.0 + at.min(90.0)), true),
            ("a saw", series(|at| 50.0 + at % 30.0), true),
            ("peaks", series(|at| if at % 20.0 < 3.0 { 500.0 } else { 50.0 }), true),
            ("less and less", series(|at| 400.0 - at), true),
            ("one step of the tolerance", series(|at| if at < 250.0 { 50.0 } else { 54.0 }), true),
            ("growth to what is usual", series(|at| at * 0.07), true),
            ("a leak", series(|at| 50.0 + at * 0.1), false),
            ("a leak below noise", series(|at| 50.0 + at * 0.2 + 16.0 * noise(at)), false),
            ("a leak below a saw", series(|at| 50.0 + at * 0.2 + at % 30.0), false),
            ("a leak that begins late", series(|at| 50.0 + (at - 180.0).max(0.0) * 0.2), false),
            ("few that become more", series(|at| 6.0 + (at * 0.1).floor()), false),
        ];
        for (name, values, flat) in table {
            let thirds = Thirds::of(&values).unwrap();
            assert_eq!(thirds.are_flat(tolerance), flat, "{name}: {thirds:?}");
        }
    }

    #[test]
    fn few_samples_say_nothing() {
        assert!(Thirds::of(&[1.0; LEAST - 1]).is_err());
        assert_eq!(Thirds::of(&[1.0; LEAST]).unwrap(), Thirds { middle: 1.0, last: 1.0 });
    }
}
