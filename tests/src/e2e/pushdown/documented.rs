//! What docs/pushdown.md shows works: its manifests, its selectors, and its metrics.

use serde_json::json;

use crate::e2e::lab::{Lab, Wish};
use crate::e2e::{Column, Suite, Verdict};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::shirts::{self, NAMESPACE, PATH};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// A selector of the page on fields that only its policy fills.
const SELECTOR: &str = "spec.color=green,spec.size=M";

pub(super) fn run(suite: &Suite) -> Result<Verdict> {
    let text = fs_err::read_to_string(suite.workspace.join("docs/pushdown.md"))?;
    ensure(text.contains(SELECTOR), || format!("docs/pushdown.md does not show {SELECTOR}"))?;
    let lab = Lab::start(suite, Wish::new(Column::OURS).apiserver_arg(shirts::NO_WATCH_CACHE_FOR_GROUP))?;
    let kubectl = lab.kubectl();
    for manifest in blocks(&text, "yaml") {
        kubectl.apply(manifest)?;
    }
    kubectl.run(&format!("create namespace {NAMESPACE}"))?;
    shirts::wait_served(&lab.api)?;

    let mut shirt = shirts::shirt("tried", "green", "");
    shirt["spec"] = json!({"color": "green"});
    until("the policy", LIMIT, || {
        match lab.api.create(&format!("{PATH}?dryRun=All"), &shirt) {
            Ok(tried) => Ok((tried["spec"]["size"] == "M").then_some(())),
            // The policy is there before it knows the resource's schema.
            Err(error) if error.status() == Some(503) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })?;
    for (name, spec) in [("green", json!({"color": "green"})), ("large", json!({"color": "green", "size": "L"}))] {
        shirt["metadata"]["name"] = json!(name);
        shirt["spec"] = spec;
        lab.api.create(PATH, &shirt)?;
    }
    let found = kubectl.run(&format!("get shirts -n {NAMESPACE} --field-selector {SELECTOR} -o name"))?;
    ensure(found == "shirt.stable.example.com/green", || format!("--field-selector {SELECTOR} shows {found:?}"))?;

    let metrics = lab.api.text("/metrics")? + &lab.cluster.store_client().text("/metrics")?;
    // One that has not counted yet is only described; OpenMetrics does so without the suffix.
    let described = |name: &str| metrics.contains(&format!("# TYPE {} counter", name.trim_end_matches("_total")));
    let missing: Vec<&str> = names(&text).filter(|name| !metrics.contains(name) && !described(name)).collect();
    ensure(missing.is_empty(), || format!("docs/pushdown.md names metrics that there are not: {missing:?}"))?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> impl Iterator<Item = &'a str> {
    let fence = format!("```{language}\n");
    let parts: Vec<&str> = text.split(&*fence).skip(1).collect();
    parts.into_iter().filter_map(|part| part.split("```").next())
}

/// The metrics' names, without the labels that stand for examples.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| {
        let known = ["apiserver_storage_", "sluice_"].iter().any(|prefix| word.starts_with(prefix));
        known && word.ends_with("_total")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_metrics_are_found() {
        let text = "a\n```yaml\nx: 1\n```\n`sluice_a_total{b=…}`\n```console\n$ c\n```\n```yaml\ny: 2\n```\n";
        assert_eq!(blocks(text, "yaml").collect::<Vec<_>>(), ["x: 1\n", "y: 2\n"]);
        assert_eq!(names(text).collect::<Vec<_>>(), ["sluice_a_total"]);
    }
}
