//! Times as text, to the second: RFC 3339 in UTC, and RFC 2822 as the headers of mails have it.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::{Offset, TimeZone};

/// Seconds since 1970 of `YYYY-MM-DDThh:mm:ssZ`; none for any other form.
pub(crate) fn seconds(time: &str) -> Option<i64> {
    let seconds = time.parse::<Timestamp>().ok()?.as_second();
    // RFC 3339 has other forms of the same moment.
    (rfc3339(seconds) == time).then_some(seconds)
}

/// `2026-10-27T12:01:04Z` of seconds since 1970.
pub(crate) fn rfc3339(seconds: i64) -> String {
    moment(seconds).to_string()
}

/// The moment; the first or the last one that has a name in four digits of a year, if there is none.
fn moment(seconds: i64) -> Timestamp {
    let end = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(end)
}

/// Seconds since 1970, and minutes east of UTC, of `Thu, 1 Jan 1970 00:00:00 +0000`.
pub(crate) fn mail(date: &str) -> Option<(i64, i32)> {
    let zoned = rfc2822::parse(date).ok()?;
    Some((zoned.timestamp().as_second(), zoned.offset().seconds() / 60))
}

/// `Thu, 1 Jan 1970 00:00:00 +0000` of seconds since 1970, as clocks show it so many minutes east of UTC. In UTC if no
/// clock is so far east.
pub(crate) fn mailed(seconds: i64, east: i32) -> String {
    let offset = east.checked_mul(60).and_then(|seconds| Offset::from_seconds(seconds).ok()).unwrap_or(Offset::UTC);
    let zoned = moment(seconds).to_zoned_datetime(TimeZone::fixed(offset));
    // The year of a moment has four digits, but for negative ones.
    rfc2822::to_string(&zoned).unwrap_or_else(|_| mailed(0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("2000-02-29T23:59:59Z", Some(951_868_799)),
            ("2026-10-27T12:01:04Z", Some(1_793_102_464)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-27T12:01:04Z", None),
            ("2026-10-27T24:00:00Z", None),
            ("2026-10-27 12:01:04Z", None),
            ("2026-10-27T12:01:04+01:00", None),
            ("2026-10-27T12:01:0\u{e9}", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn dates_of_mails() {
        for (text, expected) in [
            ("Thu, 1 Jan 1970 00:00:00 +0000", Some((0, 0))),
            ("Thu, 29 Feb 2024 23:59:59 -0330", Some((1_709_263_799, -210))),
            ("Sun, 22 Nov 2026 19:47:27 +0000", Some((1_795_376_847, 0))),
            ("Sun, 22 Nov 2026 19:47:27 +0200", Some((1_795_369_647, 120))),
            ("Fri, 31 Dec 2100 01:02:03 +0000", Some((4_133_898_123, 0))),
            ("", None),
            ("Thu, 1 Jan 1970", None),
            ("Thu, 1 Foo 1970 00:00:00 +0000", None),
            ("Thu, 99 Jan 1970 00:00:00 +0000", None),
        ] {
            let found = mail(text);
            assert_eq!(found, expected, "{text}");
            if let Some((seconds, east)) = found {
                assert_eq!(mailed(seconds, east), text);
            }
        }
        assert_eq!(mailed(0, i32::MAX), "Thu, 1 Jan 1970 00:00:00 +0000");
    }

    proptest::proptest! {
        #[test]
        fn there_and_back(time in -62_135_596_800_i64..253_402_300_800) {
            proptest::prop_assert_eq!(seconds(&rfc3339(time)), Some(time));
        }
    }
}
