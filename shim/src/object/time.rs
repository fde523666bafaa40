//! RFC 3339 times, the form in which Kubernetes writes them to JSON and CBOR.

/// Go's zero time (year 1), which an empty protobuf `Time` stands for; seconds since 1970.
pub(super) const ZERO: i64 = -62_135_596_800;

/// Seconds since 1970 of a time such as `2026-07-01T12:00:00Z` or `2026-07-01T14:00:00.5+02:00`; a fraction is cut off.
///
/// Stricter than Go's `time.Parse(time.RFC3339, …)`, which lets some malformed times pass: those are `None` here.
pub(super) fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date_time, rest) = text.as_bytes().split_at_checked("2026-07-01T12:00:00".len())?;
    let [y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':', s1, s2] = *date_time else {
        return None;
    };
    let year = number(&[y1, y2, y3, y4])?;
    let month = within(number(&[mo1, mo2])?, 1, 12)?;
    let day = within(number(&[d1, d2])?, 1, days_in_month(year, month))?;
    let hour = within(number(&[h1, h2])?, 0, 23)?;
    let minute = within(number(&[mi1, mi2])?, 0, 59)?;
    let second = within(number(&[s1, s2])?, 0, 59)?;
    let offset = parse_offset(skip_fraction(rest)?)?;
    Some(days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset)
}

/// The time as `2026-07-01T12:00:00Z`, the form in which Kubernetes stores it; `None` outside of the years 0 to 9999.
pub(crate) fn format_rfc3339(seconds: i64) -> Option<String> {
    let years_0_to_9999 = ZERO - 366 * 86_400..=253_402_300_799;
    if !years_0_to_9999.contains(&seconds) {
        return None;
    }
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // 400 years have 146,097 days. By their average the year is right or, around New Year, one off.
    let mut year = 1970 + (days * 400).div_euclid(146_097);
    while days_since_epoch(year, 1, 1) > days {
        year -= 1;
    }
    while days_since_epoch(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut day = days - days_since_epoch(year, 1, 1);
    let mut month = 1;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    let (hour, minute, second, day) = (second / 3_600, second / 60 % 60, second % 60, day + 1);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// What follows a fraction of a second, if there is one.
fn skip_fraction(rest: &[u8]) -> Option<&[u8]> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some(rest) };
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    (end > 0).then(|| &digits[end..])
}

/// The seconds that a zone is ahead of UTC.
fn parse_offset(zone: &[u8]) -> Option<i64> {
    let (sign, h1, h2, m1, m2) = match *zone {
        [b'Z'] => return Some(0),
        [b'+', h1, h2, b':', m1, m2] => (1, h1, h2, m1, m2),
        [b'-', h1, h2, b':', m1, m2] => (-1, h1, h2, m1, m2),
        _ => return None,
    };
    let hours = within(number(&[h1, h2])?, 0, 23)?;
    let minutes = within(number(&[m1, m2])?, 0, 59)?;
    Some(sign * (hours * 3_600 + minutes * 60))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

fn within(number: i64, least: i64, greatest: i64) -> Option<i64> {
    (least..=greatest).contains(&number).then_some(number)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Leap days before the year, counted from the year 0, which is one itself.
    let leap_days = |year: i64| if year == 0 { 0 } else { (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 + 1 };
    let before_year = (year - 1970) * 365 + leap_days(year) - leap_days(1970);
    let before_month: i64 = (1..month).map(|earlier| days_in_month(year, earlier)).sum();
    before_year + before_month + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-07-01T12:00:00Z", Some(1_782_907_200)),
            ("2026-07-01T12:00:00.999Z", Some(1_782_907_200)),
            ("2026-07-01T14:00:00+02:00", Some(1_782_907_200)),
            ("2026-07-01T09:30:00-02:30", Some(1_782_907_200)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("0001-01-01T00:00:00Z", Some(ZERO)),
            ("0000-01-01T00:00:00Z", Some(ZERO - 366 * 86_400)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("2025-02-29T00:00:00Z", None),
            ("2026-07-01T24:00:00Z", None),
            ("2026-07-01T12:00:60Z", None),
            ("2026-13-01T12:00:00Z", None),
            ("2026-07-01T12:00:00", None),
            ("2026-07-01T12:00:00.Z", None),
            ("2026-07-01T12:00:00.5", None),
            ("2026-07-01 12:00:00Z", None),
            ("2026-07-01T12:00:00Zx", None),
            ("2026-07-01T12:00:00+0200", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(parse_rfc3339(text), seconds, "{text:?}");
            if let Some(seconds) = seconds
                && text.len() == "2026-07-01T12:00:00Z".len()
            {
                assert_eq!(format_rfc3339(seconds).as_deref(), Some(text));
            }
        }
    }

    #[test]
    fn every_day_is_written_as_it_is_read() {
        let day = 86_400;
        for seconds in (ZERO - 366 * day..=253_402_300_799).step_by(86_399) {
            let text = format_rfc3339(seconds).expect("a year of four digits");
            assert_eq!(parse_rfc3339(&text), Some(seconds), "{text}");
        }
        for outside in [ZERO - 366 * day - 1, 253_402_300_800, i64::MIN, i64::MAX] {
            assert_eq!(format_rfc3339(outside), None);
        }
    }
}
