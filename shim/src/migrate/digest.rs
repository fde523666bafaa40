//! How many there are of something, and a SHA-256 over all of it.

use sha2::{Digest as _, Sha256};

/// How many there are of something, and a digest of all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// The SHA-256 of them, as digits.
    pub sha256: String,
}

/// Makes a [`Summary`].
#[derive(Default)]
pub(super) struct Hasher {
    count: u64,
    sha256: Sha256,
}

impl Hasher {
    /// Adds one. What moves from one of its parts to another makes a difference.
    pub(super) fn add(&mut self, parts: &[&[u8]], numbers: &[i64]) {
        self.count += 1;
        for part in parts {
            self.sha256.update((part.len() as u64).to_be_bytes());
            self.sha256.update(part);
        }
        for number in numbers {
            self.sha256.update(number.to_be_bytes());
        }
    }

    /// How many there are so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The summary of all that was added.
    pub(super) fn finish(self) -> Summary {
        let sha256 = self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Summary { count: self.count, sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What moves between a key and its value is a difference.
    #[test]
    fn every_part_counts() {
        let sum = |parts: [&str; 2], numbers: [i64; 2]| {
            let mut hasher = Hasher::default();
            hasher.add(&parts.map(str::as_bytes), &numbers);
            hasher.finish()
        };
        let one = sum(["ab", "c"], [2, 3]);
        assert_eq!(one, sum(["ab", "c"], [2, 3]));
        for (parts, numbers) in
            [(["a", "bc"], [2, 3]), (["ab", "d"], [2, 3]), (["ab", "c"], [1, 3]), (["ab", "c"], [2, 4])]
        {
            assert_ne!(one, sum(parts, numbers));
        }
        assert_eq!(one.count, 1);
    }
}
