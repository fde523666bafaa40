//! Durations as Go writes them, since etcd's flags take them so.

use std::time::Duration;

/// The longest, in seconds: Go knows no longer one (2562047h, 292 years).
const LONGEST: u128 = 2_562_047 * 3600;

const NANOS: u128 = 1_000_000_000;

/// A duration of at least 1 ms.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let form = "needs a duration of at least 1ms, as in 500ms, 5s, 1m30s, 2h";
    checked(text, form).and_then(|parsed| if parsed.is_zero() { Err(form.to_owned()) } else { Ok(parsed) })
}

/// The same, or 0.
pub(super) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    checked(text, "needs 0 or a duration of at least 1ms, as in 500ms, 5s, 1m30s, 2h")
}

fn checked(text: &str, form: &str) -> Result<Duration, String> {
    let nanos = nanoseconds(text).ok_or(form)?;
    if nanos > LONGEST * NANOS {
        return Err("is too long: at most 2562047h".to_owned());
    }
    let seconds = u64::try_from(nanos / NANOS).map_err(|_| form)?;
    let parsed = Duration::from_secs(seconds) + Duration::from_nanos((nanos % NANOS) as u64);
    if !parsed.is_zero() && parsed < Duration::from_millis(1) { Err(form.to_owned()) } else { Ok(parsed) }
}

/// `None` if it is no duration. More than a number holds becomes the greatest that it holds.
fn nanoseconds(text: &str) -> Option<u128> {
    if text == "0" {
        return Some(0);
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (mut total, mut rest) = (None, text);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => NANOS,
            "m" => 60 * NANOS,
            "h" => 3600 * NANOS,
            _ => return None,
        };
        total = Some(part(number, unit)?.saturating_add(total.unwrap_or(0)));
        rest = tail;
    }
    total
}

/// So many units, such as `1`, `1.5`, `.5` or `1.`.
fn part(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u128::MAX) };
    let (mut share, mut sum) = (unit, whole.saturating_mul(unit));
    for digit in fraction.bytes() {
        share /= 10;
        sum = sum.saturating_add(share * u128::from(digit - b'0'));
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        let table = [
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1000),
            ("5s3ms", 5003),
            ("2000us", 2),
            ("2000µs", 2),
            ("3000000ns", 3),
        ];
        for (text, milliseconds) in table {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "s", "5x", "-5s", "5s3", "1..5s", ".s", "5 s", "999ns", "1e3s"] {
            assert!(duration(bad).unwrap_err().starts_with("needs a duration"), "{bad}");
            assert!(duration_or_zero(bad).unwrap_err().starts_with("needs 0 or a duration"), "{bad}");
        }
        for long in ["99999999999999999999s", "18446744073709551615h", "2562048h", &format!("{}h", "9".repeat(100))] {
            assert!(duration(long).unwrap_err().starts_with("is too long"), "{long}");
        }
    }

    #[test]
    fn nothing_is_only_allowed_where_it_says_so() {
        for zero in ["0", "0s", "0h0m"] {
            assert!(duration(zero).is_err());
            assert_eq!(duration_or_zero(zero), Ok(Duration::ZERO));
        }
    }
}
