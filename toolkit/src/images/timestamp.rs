//! The one moment that every file and document of an image carries.

use std::fmt;

use super::Error;
use crate::calendar;

/// Seconds since 1970-01-01T00:00:00Z. Displayed as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    /// `seconds` since 1970. The upper bound is what a tar header can hold in octal.
    pub(crate) fn new(seconds: i64) -> Result<Self, Error> {
        match u64::try_from(seconds) {
            Ok(seconds) if seconds < 1 << 33 => Ok(Self(seconds)),
            _ => Err(Error::Name {
                what: "SOURCE_DATE_EPOCH",
                value: seconds.to_string(),
                reason: "it must be a number of seconds since 1970",
            }),
        }
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&calendar::rfc3339(self.0.cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp::new(seconds).unwrap().to_string(), text);
        }
    }

    #[test]
    fn times_that_no_archive_can_hold_are_refused() {
        for seconds in [-1, 1 << 33, i64::MAX] {
            assert!(Timestamp::new(seconds).is_err(), "{seconds}");
        }
    }
}
