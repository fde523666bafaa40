//! Whole numbers within bounds.

use std::ops::RangeInclusive;

/// Reads a number of the range. The error names the range.
pub(crate) fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number: u64| T::try_from(number).ok());
        number.ok_or_else(|| format!("needs a whole number from {} to {}", range.start(), range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_range() {
        let read = whole::<u32>(1..=7);
        assert_eq!((read("1"), read("7")), (Ok(1), Ok(7)));
        for bad in ["", "0", "8", "-1", "1.0", "one", "99999999999999999999"] {
            assert_eq!(read(bad), Err("needs a whole number from 1 to 7".to_owned()), "{bad}");
        }
    }
}
