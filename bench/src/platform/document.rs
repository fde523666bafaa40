//! The files of the report.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::floor::{Floor, floors};
use super::part::{Part, Question, System};
use super::report::{Report, total};
use super::table;
use crate::curves::{Curve, HEIGHT, Plot};
use crate::report::Machine;

/// The version of the JSON report.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    machine: &'a Machine,
    versions: &'a [String],
    floors: &'a [Floor],
    parts: &'a [Part],
}

/// Writes platform.json, platform.md and the plots.
///
/// # Errors
/// File errors.
pub(super) fn write(parts: &[Part], versions: Vec<String>, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let (report, machine) = (Report::new(parts), Machine::read(&[])?);
    let floors = floors(&report);
    let json = Json { schema: SCHEMA, machine: &machine, versions: &versions, floors: &floors, parts };
    let files = [
        ("platform.json", serde_json::to_string(&json)?),
        ("platform.md", table::markdown(&report, &machine, &versions, &floors)),
        ("platform-lists.svg", lists(&report).svg()),
        ("platform-memory.svg", memory(&report).svg()),
        ("platform-mixed.svg", mixed(&report).svg()),
    ];
    for (name, text) in files {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn curve(system: System, points: Vec<(f64, f64)>) -> Curve {
    let color = match system {
        System::StockEtcd => "#3b6fb6",
        System::StockKine => "#c2803a",
        System::Sluice => "#2e8b57",
    };
    Curve { name: system.to_string(), color, points }
}

fn lists(report: &Report<'_>) -> Plot<'static> {
    let of = |system| {
        let point = |objects: u64| Some((objects as f64, report.answer(system, objects, Question::Label)?.p50_ms));
        curve(system, report.scales().into_iter().filter_map(point).collect())
    };
    let curves = report.systems().into_iter().map(of).collect();
    Plot { title: "A list of 20 by label: p50 in ms", across: "shirts", height: HEIGHT, logarithmic: true, curves }
}

fn memory(report: &Report<'_>) -> Plot<'static> {
    let of = |system| {
        let point = |objects: u64| Some((objects as f64, total(report.memory(system, objects)?) / 1e6));
        curve(system, report.scales().into_iter().filter_map(point).collect())
    };
    let curves = report.systems().into_iter().map(of).collect();
    let title = "Resident memory of apiserver, controller manager and store, in MB";
    Plot { title, across: "shirts", height: HEIGHT, logarithmic: true, curves }
}

fn mixed(report: &Report<'_>) -> Plot<'static> {
    let of = |system| {
        let points = report
            .slices(system)
            .iter()
            .map(|slice| (slice.objects as f64, slice.requests as f64 / slice.seconds.max(1e-9)));
        curve(system, points.collect())
    };
    let curves = report.systems().into_iter().map(of).collect();
    Plot { title: "The mixed load: requests a second", across: "objects", height: HEIGHT, logarithmic: false, curves }
}
