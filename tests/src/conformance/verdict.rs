//! What the results of a suite mean beside its list of tests that can't run.

use std::collections::BTreeMap;

use super::suite::Entry;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It passed.
    Passed,
    /// It failed, hung, or took its process with it.
    Failed,
    /// Upstream's own code skipped it.
    Skipped,
}

/// One top-level test: the outcomes of itself and its subtests.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    /// Import path.
    pub(super) package: String,
    /// Outcomes by full name (`TestA/b/c`), the top-level test among them.
    pub(super) outcomes: BTreeMap<String, Outcome>,
    /// Whether it started a server.
    pub(super) asked: bool,
    /// Whether it failed first and passed when run alone.
    pub(super) repeated: bool,
}

/// The numbers of a suite, and what is wrong. All numbers count leaves: tests without subtests.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// Passed, and not listed.
    pub(super) passed: usize,
    /// Of these, those of tests that start no server.
    pub(super) without_server: usize,
    /// Skipped by upstream's own code.
    pub(super) skipped: usize,
    /// Failed, as the list says.
    pub(super) listed: usize,
    /// Top-level tests that passed at the second try only.
    pub(super) repeated: Vec<String>,
    /// Failed, and not listed.
    pub(super) failed: Vec<String>,
    /// Listed, and passed.
    pub(super) unexpected: Vec<String>,
    /// Entries of the list that cover no test.
    pub(super) stale: Vec<String>,
}

impl Verdict {
    /// `complete`: all tests ran, so that an entry without a test is one too many.
    pub(super) fn new(runs: &[Ran], cannot: &[&Entry], complete: bool) -> Self {
        let mut verdict = Self::default();
        let mut used: Vec<Vec<bool>> = cannot.iter().map(|entry| vec![false; entry.tests.len()]).collect();
        for run in runs {
            if run.repeated {
                verdict.repeated.extend(run.outcomes.keys().next().cloned());
            }
            for (test, outcome) in leaves(&run.outcomes) {
                let mut entries = cannot.iter().enumerate();
                let covered = entries.find_map(|(entry, list)| Some((entry, list.covering(&run.package, test)?)));
                if let Some((entry, name)) = covered {
                    used[entry][name] = true;
                }
                verdict.add(run, test, outcome, covered.is_some());
            }
        }
        if complete {
            let names = cannot.iter().zip(&used).flat_map(|(entry, used)| entry.tests.iter().zip(used));
            verdict.stale = names.filter(|(_, used)| !**used).map(|(name, _)| name.clone()).collect();
        }
        verdict
    }

    fn add(&mut self, run: &Ran, test: &str, outcome: Outcome, listed: bool) {
        let name = || format!("{} {test}", run.package);
        match (outcome, listed) {
            (Outcome::Passed, true) => self.unexpected.push(name()),
            (Outcome::Passed, false) => {
                self.passed += 1;
                self.without_server += usize::from(!run.asked);
            }
            (Outcome::Failed, true) => self.listed += 1,
            (Outcome::Failed, false) => self.failed.push(name()),
            (Outcome::Skipped, _) => self.skipped += 1,
        }
    }

    /// One line for each thing that is wrong.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> + '_ {
        let failed = self.failed.iter().cloned();
        let unexpected =
            self.unexpected.iter().map(|test| format!("{test} is listed as one that can't run, and passes"));
        let stale = self.stale.iter().map(|test| format!("{test} is listed, and there is no such test"));
        failed.chain(unexpected).chain(stale)
    }
}

/// The tests without subtests. The map is in order of names, but a subtest need not follow its parent directly.
fn leaves(outcomes: &BTreeMap<String, Outcome>) -> impl Iterator<Item = (&str, Outcome)> {
    let parent = |test: &str| {
        let below = format!("{test}/");
        outcomes.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
    };
    outcomes.iter().filter(move |(test, _)| !parent(test)).map(|(test, outcome)| (test.as_str(), *outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Failed, Passed, Skipped};

    fn ran(outcomes: &[(&str, Outcome)]) -> Ran {
        Ran {
            package: "x/y".to_owned(),
            outcomes: outcomes.iter().map(|(name, outcome)| ((*name).to_owned(), *outcome)).collect(),
            asked: true,
            repeated: false,
        }
    }

    fn cannot(tests: &[&str]) -> Entry {
        let tests = tests.iter().map(|test| (*test).to_owned()).collect();
        Entry { package: None, tests, only: vec![], reason: "because".to_owned() }
    }

    #[test]
    fn leaves_are_counted_and_parents_are_not() {
        let runs = [
            ran(&[("TestA", Failed), ("TestA/b", Failed), ("TestA/b#01", Passed), ("TestA/b/c", Failed)]),
            ran(&[("TestD", Skipped)]),
        ];
        let verdict = Verdict::new(&runs, &[], true);
        assert_eq!((verdict.passed, verdict.skipped, verdict.listed), (1, 1, 0));
        assert_eq!(verdict.failed, ["x/y TestA/b/c"]);
    }

    #[test]
    fn the_list_is_checked_in_both_directions() {
        let runs = [ran(&[("TestA", Failed), ("TestA/b", Failed), ("TestA/c", Passed)]), ran(&[("TestD", Passed)])];
        let verdict = Verdict::new(&runs, &[&cannot(&["TestA/b", "TestD", "TestGone"])], true);
        assert_eq!((verdict.passed, verdict.listed), (1, 1));
        assert_eq!(verdict.unexpected, ["x/y TestD"]);
        assert_eq!(verdict.stale, ["TestGone"]);
        assert_eq!(verdict.problems().count(), 2);
        assert_eq!(Verdict::new(&runs, &[&cannot(&["TestGone"])], false).problems().count(), 1);
    }
}
