//! The part of a patch's message that tools read: whether upstream may take it, how it differs, when it can go, what to
//! test, and what must be true of the whole source.

use super::file::Patch;
use super::invariant::Invariant;

/// The trailers of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Link to the upstream change or discussion, or `not upstreamable: REASON`.
    pub(super) upstream: String,
    /// How the patch differs from what upstream has or would take.
    pub(super) differs: String,
    /// The version or condition that makes the patch superfluous.
    pub(super) drop_when: String,
    /// Go package patterns from the root of the tree, whose tests show that the patch works.
    pub(super) tests: Vec<String>,
    /// What must be true of the whole patched source; see [`Invariant`].
    pub(super) invariants: Vec<String>,
}

/// What `patch new` puts under the subject. Nothing in angle brackets passes `patch verify`.
pub(super) const TEMPLATE: &str = "<Why: what hurts without this patch, and why the change is made here.>

Upstream: <https://github.com/kubernetes/kubernetes/..., or: Not upstreamable: REASON>
Differs-From-Upstream: <how>
Drop-When: <version or condition>
Test: <./pkg/... ./staging/src/k8s.io/NAME/pkg/...>";

const UPSTREAM: &str = "Upstream";
const NOT_UPSTREAMABLE: &str = "Not upstreamable";
const DIFFERS: &str = "Differs-From-Upstream";
const DROP_WHEN: &str = "Drop-When";
const TEST: &str = "Test";
const INVARIANT: &str = "Invariant";

/// The trailers of a message, complete or not. A line that starts with two blanks continues the one above.
pub(super) fn parse(body: &str) -> Header {
    let mut header = Header::default();
    let mut fields: Vec<(&str, String)> = Vec::new();
    for line in body.lines() {
        let known = [UPSTREAM, NOT_UPSTREAMABLE, DIFFERS, DROP_WHEN, TEST, INVARIANT];
        let field = line.split_once(':').filter(|(name, _)| known.contains(name));
        match (field, fields.last_mut()) {
            (Some((name, value)), _) => fields.push((name, value.trim().to_owned())),
            (None, Some((_, value))) if line.starts_with("  ") => {
                value.push(' ');
                value.push_str(line.trim());
            }
            _ => {}
        }
    }
    for (name, value) in fields {
        match name {
            UPSTREAM => header.upstream = value,
            NOT_UPSTREAMABLE => header.upstream = format!("{NOT_UPSTREAMABLE}: {value}"),
            DIFFERS => header.differs = value,
            DROP_WHEN => header.drop_when = value,
            INVARIANT => header.invariants.push(value),
            _ => header.tests.extend(value.split_whitespace().map(str::to_owned)),
        }
    }
    header
}

/// What is missing or wrong in the message of a patch, one sentence each.
pub(super) fn problems(patch: &Patch) -> Vec<String> {
    let header = parse(&patch.body);
    let mut problems = Vec::new();
    let mut demand = |ok: bool, problem: String| {
        if !ok {
            problems.push(problem);
        }
    };
    let first = patch.body.split("\n\n").next().unwrap_or_default();
    let prose = !first.trim().is_empty() && parse(first) == Header::default();
    demand(prose, "the message does not start with a paragraph that says why".into());
    demand(!patch.body.contains('<') || !patch.body.lines().any(placeholder), "the message has a <placeholder>".into());
    let cut = patch.body.lines().find(|line| line.starts_with("---") || line.starts_with("diff -"));
    demand(cut.is_none(), format!("`git am` would end the message at the line {:?}", cut.unwrap_or_default()));
    let reason =
        header.upstream.get(..NOT_UPSTREAMABLE.len()).is_some_and(|text| text.eq_ignore_ascii_case(NOT_UPSTREAMABLE))
            && header.upstream.len() > NOT_UPSTREAMABLE.len() + 10;
    demand(
        header.upstream.starts_with("https://") || reason,
        format!("`{UPSTREAM}:` must be a https link, or `{NOT_UPSTREAMABLE}:` with a reason"),
    );
    for (name, value) in [(DIFFERS, &header.differs), (DROP_WHEN, &header.drop_when)] {
        demand(!value.is_empty(), format!("`{name}:` is missing"));
    }
    demand(!header.tests.is_empty(), format!("`{TEST}:` is missing: name the Go packages whose tests cover the patch"));
    for invariant in &header.invariants {
        if let Err(why) = invariant.parse::<Invariant>() {
            demand(false, format!("`{INVARIANT}: {invariant}` {why}"));
        }
    }
    for pattern in &header.tests {
        let plain = pattern.starts_with("./") && !pattern.contains("/../");
        demand(
            plain,
            format!("`{TEST}: {pattern}` is not a package pattern from the root of the tree, such as ./pkg/quota/..."),
        );
    }
    problems
}

fn placeholder(line: &str) -> bool {
    TEMPLATE.lines().any(|template| template == line)
        || line.split_once(": <").is_some_and(|(_, rest)| rest.ends_with('>'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::file::Author;

    fn patch(body: &str) -> Patch {
        Patch { author: Author::maintainers(), subject: "x".into(), body: body.into(), files: Vec::new() }
    }

    const GOOD: &str = "Because.\n\nMore of why.\n\nUpstream: https://github.com/kubernetes/kubernetes/pull/1\n\
        Differs-From-Upstream: it\n  does\nDrop-When: v1.99\nTest: ./pkg/a/...\n  ./staging/src/k8s.io/api/...";

    #[test]
    fn a_complete_header() {
        let header = parse(GOOD);
        assert_eq!(header.differs, "it does");
        assert_eq!(header.tests, ["./pkg/a/...", "./staging/src/k8s.io/api/..."]);
        assert_eq!(problems(&patch(GOOD)), [""; 0]);
        for line in ["Not upstreamable: the header is ours", "Upstream: not upstreamable: the header is ours"] {
            let body = GOOD.replace("Upstream: https://github.com/kubernetes/kubernetes/pull/1", line);
            assert_eq!(problems(&patch(&body)), [""; 0], "{line}");
        }
    }

    #[test]
    fn each_rule_has_its_sentence() {
        let without = |start: &str| GOOD.lines().filter(|line| !line.starts_with(start)).collect::<Vec<_>>().join("\n");
        for (body, problem) in [
            (GOOD.replace("Because.\n\nMore of why.\n\n", ""), "says why"),
            (without("Upstream"), "https link"),
            (GOOD.replace("https://", "http://"), "https link"),
            (GOOD.replace("https://github.com/kubernetes/kubernetes/pull/1", "Not upstreamable:"), "https link"),
            (without("Differs"), "Differs-From-Upstream"),
            (without("Drop"), "Drop-When"),
            (GOOD.replace("Test:", "Tests:"), "`Test:` is missing"),
            (GOOD.replace("./pkg/a", "pkg/a"), "not a package pattern"),
            (GOOD.replace("More of why.", "--- a"), "git am"),
            (GOOD.replace("v1.99", "<version>"), "placeholder"),
            (format!("{GOOD}\nInvariant: everything is well"), "is neither"),
        ] {
            let found = problems(&patch(&body));
            assert!(found.len() == 1 && found[0].contains(problem), "{problem}: {found:?}");
        }
        assert!(problems(&patch(TEMPLATE)).iter().any(|found| found.contains("placeholder")));
    }
}
