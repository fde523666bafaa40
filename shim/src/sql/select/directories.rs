//! What the counts of directories say of a range.

use crate::engine::store::Facets;
use crate::engine::{KeyRange, RangeEnd};
use crate::sql::directory;
use crate::sql::failure::Result;
use crate::sql::session::{Odd, Probe};

/// What a key adds to the counts of its directory: live keys, opaque ones, misplaced ones.
pub(in crate::sql) fn counts(facets: Option<&Facets>) -> [i64; 3] {
    facets.map_or([0; 3], |facets| [1, i64::from(facets.opaque), i64::from(facets.misplaced)])
}

/// Whether all keys of the range begin with this directory.
pub(super) fn is_within(range: &KeyRange, directory: &[u8]) -> bool {
    range.start.starts_with(directory)
        && match &range.end {
            RangeEnd::Single => true,
            RangeEnd::Before(end) => directory.is_empty() || **end <= *end_of(directory),
            RangeEnd::Unbounded => directory.is_empty(),
        }
}

/// The directories that hold keys of the range and begin before it: that of its start, and those around it as far as
/// the range goes on in them. The innermost is first.
fn around(range: &KeyRange) -> impl Iterator<Item = &[u8]> {
    let first = directory(&range.start);
    std::iter::successors(Some(first), move |inner| outer(range, inner)).filter(|path| **path != *range.start)
}

/// The directory around one, if the range goes on in it.
fn outer<'a>(range: &KeyRange, inner: &'a [u8]) -> Option<&'a [u8]> {
    if is_within(range, inner) { None } else { Some(directory(&inner[..inner.len().checked_sub(1)?])) }
}

/// How many keys of that sort the directories count that the range touches.
pub(super) fn count(probe: &mut dyn Probe, range: &KeyRange, odd: Odd) -> Result<i64> {
    let around: Vec<&[u8]> = around(range).collect();
    probe.odd(range, &around, odd)
}

/// The directories that may hold keys of the range, in no order; at most `limit` of them and those around.
pub(super) fn paths(probe: &mut dyn Probe, range: &KeyRange, limit: usize) -> Result<Vec<Vec<u8>>> {
    let mut paths: Vec<Vec<u8>> = around(range).map(<[u8]>::to_vec).collect();
    paths.extend(probe.directories(range, limit)?);
    Ok(paths)
}

/// The end of the keys that begin with a prefix, which ends in a slash.
pub(in crate::sql) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_around_a_range_are_those_with_keys_of_it() {
        let range = |start: &'static str, end: &'static str| KeyRange::from_wire(start.into(), end.into());
        let table: [(KeyRange, &[&str]); 6] = [
            // A prefix has none around it: what lies there begins otherwise.
            (range("/r/g/p/", "/r/g/p0"), &[]),
            (range("/r/g/p/s", "/r/g/p0"), &["/r/g/p/"]),
            (range("/r/g/p/ns/s", "/r/g/p0"), &["/r/g/p/ns/", "/r/g/p/"]),
            (range("/r/g/p/ns/s", "/r/g/p/ns0"), &["/r/g/p/ns/"]),
            (range("/r/g/p/s", ""), &["/r/g/p/"]),
            (range("a", "z"), &[""]),
        ];
        for (range, expected) in table {
            let around: Vec<_> = around(&range).map(|path| std::str::from_utf8(path).unwrap()).collect();
            assert_eq!(around, expected, "{range:?}");
        }
    }
}
