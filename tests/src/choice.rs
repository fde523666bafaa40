//! What a person asks for: tests by their names, and for how long.

use sluice_shell::error::{Error, Result};

/// Those of `all` whose name holds `filter`. `what`: what each of them is, for people.
///
/// # Errors
/// When there is none: with the names that there are.
pub(crate) fn chosen<T>(
    what: &str,
    filter: Option<&str>,
    all: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<T>> {
    let text = filter.unwrap_or_default();
    let (chosen, others): (Vec<T>, Vec<T>) = all.into_iter().partition(|one| name(one).contains(text));
    if chosen.is_empty() {
        let names: Vec<&str> = others.iter().map(name).collect();
        return Err(Error::input(format!("no {what} has {text:?} in its name; there are:\n{}", names.join("\n"))));
    }
    Ok(chosen)
}

/// How many seconds something takes: as a variable says, and as `usual` without one.
///
/// # Errors
/// When the variable is no number, or less than `least`.
pub(crate) fn seconds(variable: &str, usual: u64, least: u64) -> Result<u64> {
    seconds_of(variable, std::env::var(variable).ok().as_deref(), usual, least)
}

fn seconds_of(variable: &str, value: Option<&str>, usual: u64, least: u64) -> Result<u64> {
    let Some(value) = value else { return Ok(usual) };
    let seconds = value.parse().ok().filter(|seconds| *seconds >= least);
    seconds.ok_or_else(|| Error::input(format!("{variable} must be a number, {least} or more, not {value:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_that_is_large_enough() {
        let seconds = |value| seconds_of("X", value, 120, 60);
        assert_eq!((seconds(None).unwrap(), seconds(Some("5400")).unwrap()), (120, 5400));
        for wrong in ["", "59", "1h", "-60"] {
            let error = seconds(Some(wrong)).unwrap_err().to_string();
            assert_eq!(error, format!("X must be a number, 60 or more, not {wrong:?}"));
        }
    }

    #[test]
    fn names_are_chosen_by_a_text_in_them() {
        let chosen = |filter| chosen("test", filter, ["a/b", "b/c"], |name| name);
        assert_eq!(chosen(None).unwrap(), ["a/b", "b/c"]);
        assert_eq!(chosen(Some("/c")).unwrap(), ["b/c"]);
        let error = chosen(Some("d")).unwrap_err().to_string();
        assert_eq!(error, "no test has \"d\" in its name; there are:\na/b\nb/c");
    }
}
