//! Times as text: RFC 3339, in UTC, to the second.

/// Days from 0000-03-01 to 1970-01-01. Both directions count years from March, so that the leap day comes last.
const EPOCH: i64 = 719_468;

/// Seconds since 1970 of `YYYY-MM-DDThh:mm:ssZ`; none for any other form.
pub(crate) fn seconds(time: &str) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let part = time.get(from..to)?;
        if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse::<i64>().ok() } else { None }
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if time.len() != 20 || marks.iter().any(|&(at, mark)| time.as_bytes()[at] != mark) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * years + years.div_euclid(4) - years.div_euclid(100)
        + years.div_euclid(400)
        + (153 * months + 2) / 5
        + day
        - 1;
    let seconds = (days - EPOCH) * 86_400 + hour * 3_600 + minute * 60 + second;
    // A date that does not exist, such as February 30, comes back as another one.
    (rfc3339(seconds) == time).then_some(seconds)
}

/// `2026-10-27T12:01:04Z` of seconds since 1970.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400) + EPOCH, seconds.rem_euclid(86_400));
    // Eras of 400 years have the same number of days.
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
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

    proptest::proptest! {
        #[test]
        fn there_and_back(time in -62_135_596_800_i64..253_402_300_800) {
            proptest::prop_assert_eq!(seconds(&rfc3339(time)), Some(time));
        }
    }
}
