//! What Rust's test programs print.

use crate::runner::Tally;

/// How many lines of failed tests are kept at most.
const MOST: usize = 200;

/// How the tests of a run went, by what they print.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) tally: Tally,
    /// What failed tests said, without the frames of backtraces.
    said: Vec<String>,
    /// Whether the lines are those of failed tests.
    fails: bool,
}

impl Results {
    /// Takes the next line.
    pub(crate) fn take(&mut self, line: &str) {
        if let Some(found) = result_line(line) {
            self.tally += found;
            self.fails = false;
        }
        self.fails |= line == "failures:";
        if self.fails && !line.is_empty() && !is_frame(line) && self.said.len() < MOST {
            self.said.push(line.to_owned());
        }
    }

    /// What failed tests said, with their names at the end; nothing if none failed.
    pub(crate) fn said(&self) -> Option<String> {
        (!self.said.is_empty()).then(|| self.said.join("\n"))
    }
}

/// `  12: core::panicking::panic` and `       at /rustc/…/panicking.rs:80:14`.
fn is_frame(line: &str) -> bool {
    let trimmed = line.trim_start();
    let numbered = trimmed.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    trimmed.len() < line.len() && (numbered || trimmed.starts_with("at "))
}

/// `test result: ok. 3 passed; 1 failed; …`, the line that ends each of Rust's test programs.
fn result_line(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(word));
        part.and_then(|number| number.trim().parse().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_rust_tests_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.1s";
        assert_eq!(result_line(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(result_line("test a::b ... ok"), None);
    }

    #[test]
    fn what_failed_tests_said_is_kept_whatever_comes_after() {
        let mut results = Results::default();
        let output = "running 2 tests\ntest a::b ... FAILED\ntest a::c ... ok\n\nfailures:\n\n---- a::b stdout ----\n\n\
            thread 'a::b' panicked at src/a.rs:1:2:\nit is not so\nstack backtrace:\n   0: std::panicking\n             at \
            /rustc/b.rs:1:2\n\nfailures:\n    a::b\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n\n\
            running 1 test\ntest d ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        output.lines().for_each(|line| results.take(line));
        assert_eq!(results.tally, Tally { passed: 2, failed: 1 });
        let said = "failures:\n---- a::b stdout ----\nthread 'a::b' panicked at src/a.rs:1:2:\nit is not so\n\
            stack backtrace:\nfailures:\n    a::b";
        assert_eq!(results.said().as_deref(), Some(said));
        assert_eq!(Results::default().said(), None);
    }
}
