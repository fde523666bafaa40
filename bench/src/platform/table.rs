//! The tables of the document.

use std::fmt::Write as _;

use super::floor::Floor;
use super::part::{Memory, Question, System};
use super::report::{Report, total};
use crate::report::{Machine, number};

/// Everything between the document's marks.
pub(super) fn markdown(report: &Report<'_>, machine: &Machine, versions: &[String], floors: &[Floor]) -> String {
    let mut text = format!(
        "{}, on {} × {}, {:.0} GB, Linux {}; load average before the report {}.\n",
        versions.join(", "),
        machine.processors,
        machine.processor,
        machine.memory / 1e9,
        machine.kernel,
        machine.load,
    );
    if !report.scales().is_empty() {
        shirts(&mut text, report);
        memory(&mut text, report);
    }
    if report.systems().iter().any(|system| !report.slices(*system).is_empty()) {
        mixed(&mut text, report);
    }
    for (system, reason) in report.stops() {
        let _ = writeln!(text, "\n{system} was stopped {reason}.");
    }
    for system in report.systems() {
        for failure in report.failures(system) {
            let _ = writeln!(text, "\nA failure of {system}: {failure}.");
        }
    }
    text.push_str("\n| promise | found | |\n|---|---|---|\n");
    for floor in floors {
        let _ = writeln!(text, "| {} | {} | {} |", floor.promise, floor.found, floor.verdict());
    }
    text
}

fn head(text: &mut String, first: &str, systems: &[System], others: &[&str]) {
    let mut columns = vec![first.to_owned()];
    columns.extend(systems.iter().map(System::to_string));
    columns.extend(others.iter().map(|name| (*name).to_owned()));
    let _ = writeln!(text, "\n| {} |\n|---|{}", columns.join(" | "), "--:|".repeat(columns.len() - 1));
}

/// Latencies, and how many times as fast Sluice is.
fn shirts(text: &mut String, report: &Report<'_>) {
    let systems = report.systems();
    head(text, "shirts: p50 / p95, ms", &systems, &["etcd : Sluice", "kine : Sluice"]);
    for objects in report.scales() {
        for question in Question::ALL {
            let answer = |system| report.answer(system, objects, question);
            if systems.iter().all(|system| answer(*system).is_none()) {
                continue;
            }
            let _ = write!(text, "| {}, {} |", number(objects as f64), question.title());
            for system in &systems {
                let cell = answer(*system).map_or_else(
                    || "–".to_owned(),
                    |found| format!("{} / {}", number(found.p50_ms), number(found.p95_ms)),
                );
                let _ = write!(text, " {cell} |");
            }
            for other in [System::StockEtcd, System::StockKine] {
                let ratio = answer(other).zip(answer(System::Sluice)).map(|(other, ours)| other.p50_ms / ours.p50_ms);
                let _ = write!(text, " {} |", ratio.map(|ratio| format!("{} ×", number(ratio))).unwrap_or_default());
            }
            text.push('\n');
        }
        let _ = write!(text, "| {}, creates/s on the way there |", number(objects as f64));
        for system in &systems {
            let cell = match report.load(*system, objects) {
                Some((rate, reached)) if reached < objects => {
                    format!("{}, **killed at {}**", number(rate), number(reached as f64))
                }
                Some((rate, _)) => number(rate),
                None => "–".to_owned(),
            };
            let _ = write!(text, " {cell} |");
        }
        text.push_str(" | |\n");
    }
}

/// Memory of each process, before the load and while questions are asked.
fn memory(text: &mut String, report: &Report<'_>) {
    let systems = report.systems();
    head(text, "resident memory, MB: apiserver + controller manager + store", &systems, &[]);
    let mut row = |name: &str, of: &dyn Fn(System) -> Option<Memory>| {
        let cells: Vec<String> =
            systems.iter().map(|system| of(*system).as_ref().map_or("–".into(), processes)).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    };
    row("before", &|system| report.idle(system).cloned());
    for objects in report.scales() {
        row(&format!("{} shirts", number(objects as f64)), &|system| report.memory(system, objects).cloned());
    }
}

/// `282 + 90 + 60 = 432`.
fn processes(memory: &Memory) -> String {
    let part = |name: &str| memory.get(name).map_or("?".to_owned(), |bytes| format!("{:.0}", bytes / 1e6));
    format!("{} + {} + {} = {:.0}", part("apiserver"), part("controller-manager"), part("store"), total(memory) / 1e6)
}

fn mixed(text: &mut String, report: &Report<'_>) {
    text.push_str("\n| mixed load, minute | | requests/s | p50 / p90 / p95, ms | failures | objects | memory, MB |\n");
    text.push_str("|---|---|--:|--:|--:|--:|--:|\n");
    let minutes: Vec<_> = report.systems().into_iter().map(|system| (system, report.minutes(system))).collect();
    let longest = minutes.iter().map(|(_, minutes)| minutes.len()).max().unwrap_or(0);
    for at in 0..longest {
        for (system, minutes) in &minutes {
            let Some(minute) = minutes.get(at) else { continue };
            let latency = minute.latency;
            let _ = writeln!(
                text,
                "| {} | {system} | {} | {} / {} / {} | {} | {} | {} |",
                at + 1,
                number(minute.rate),
                number(latency.p50_ms),
                number(latency.p90_ms),
                number(latency.p95_ms),
                minute.failures,
                number(minute.objects as f64),
                processes(&minute.memory),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{asked, mixed as users};
    use super::*;

    #[test]
    fn what_a_system_did_not_reach_is_a_dash() {
        let parts = [
            asked(System::StockEtcd, 1_000, 10.0, 1e6),
            asked(System::Sluice, 1_000, 2.0, 1e6),
            asked(System::Sluice, 10_000, 2.0, 2e6),
        ];
        let mut text = String::new();
        shirts(&mut text, &Report::new(&parts));
        assert!(text.contains("| 1,000, list of 20 by label | 10.0 / 20.0 | 2.00 / 4.00 | 5.00 × |  |"), "{text}");
        assert!(text.contains("| 10,000, list of 20 by label | – | 2.00 / 4.00 |  |  |"), "{text}");
    }

    #[test]
    fn minutes_stand_side_by_side() {
        let parts = [users(System::StockEtcd, 10, &[5; 12], 1), users(System::Sluice, 10, &[9; 24], 1)];
        let mut text = String::new();
        mixed(&mut text, &Report::new(&parts));
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("/ ")).skip(1).collect();
        assert_eq!(rows.len(), 3, "{text}");
        assert!(rows[0].starts_with("| 1 | stock + etcd | 5.00 |") && rows[2].starts_with("| 2 | Sluice | 9.00 |"));
    }
}
