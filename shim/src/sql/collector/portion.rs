//! How many values to ask for at a time.

/// The first portion and the largest one. A value has at most some megabytes, and a portion of the largest values must
/// fit into memory.
const FIRST: usize = 16;
const MOST: usize = 64;
/// About how many bytes the values of a portion shall have.
const BYTES: usize = 4 << 20;

/// How many values to ask for at a time: as many as a database at the end of a network should give in one answer, and
/// few if they are large.
#[derive(Debug)]
pub(super) struct Portion(usize);

impl Portion {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// The last answer had so many values with so many bytes.
    pub(super) fn had(&mut self, values: usize, bytes: usize) {
        let average = (bytes / values.max(1)).max(1);
        self.0 = (BYTES / average).clamp(1, MOST);
    }

    /// The next portion of a list; the list is then the rest.
    pub(super) fn of<'l, T>(&self, list: &mut &'l [T]) -> &'l [T] {
        let (portion, rest) = list.split_at(self.0.min(list.len()));
        *list = rest;
        portion
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_small_where_values_are_large() {
        let mut portion = Portion::new();
        let numbers: Vec<usize> = (0..100).collect();
        let mut list = &numbers[..];
        assert_eq!(portion.of(&mut list), &numbers[..FIRST]);
        for (values, bytes, size) in
            [(16, 16 << 10, MOST), (64, 64 << 20, 4), (4, 40 << 20, 1), (1, 0, MOST), (0, 0, MOST)]
        {
            portion.had(values, bytes);
            assert_eq!(portion.0, size, "{values} values of {bytes} bytes");
        }
        assert_eq!(portion.of(&mut list), &numbers[FIRST..FIRST + MOST]);
        assert_eq!(portion.of(&mut list), &numbers[FIRST + MOST..]);
        assert_eq!(portion.of(&mut list), &[0; 0]);
    }
}
