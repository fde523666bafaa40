//! What the project promises, and whether it holds.

use serde::Serialize;

use super::part::{Question, System};
use super::report::{Report, total};
use crate::report::number;

/// One promise.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct Floor {
    /// What is promised.
    pub(super) promise: String,
    /// What was found; says what is missing if nothing was.
    pub(super) found: String,
    /// Whether it holds; none if it was not measured.
    pub(super) kept: Option<bool>,
}

impl Floor {
    fn new(promise: &str, found: Option<(String, bool)>) -> Self {
        let kept = found.as_ref().map(|(_, kept)| *kept);
        let found = found.map_or_else(|| "not measured".to_owned(), |(found, _)| found);
        Self { promise: promise.to_owned(), found, kept }
    }

    /// As a word.
    pub(super) fn verdict(&self) -> &'static str {
        match self.kept {
            Some(true) => "kept",
            Some(false) => "**missed**",
            None => "",
        }
    }
}

/// The number of objects at which mixed loads are compared.
const COMPARED: u64 = 100_000;

/// All promises.
pub(super) fn floors(report: &Report<'_>) -> Vec<Floor> {
    let mut floors: Vec<Floor> =
        [Question::Label, Question::Field].map(|question| selective(report, question)).into_iter().flatten().collect();
    floors.push(growth(report));
    floors.extend(mixed(report));
    floors
}

fn selective(report: &Report<'_>, question: Question) -> Vec<Floor> {
    let p50 = |system, objects| report.answer(system, objects, question).map(|latency| latency.p50_ms);
    let thousand = p50(System::Sluice, 1_000);
    let name = question.title();
    let many = [100_000, 1_000_000].into_iter().flat_map(|objects| {
        let many = p50(System::Sluice, objects);
        let quick = many.map(|ms| (format!("{} ms", number(ms)), ms <= 5.0));
        let flat = many.zip(thousand).map(|(many, thousand)| {
            let times = many / thousand;
            (format!("{} ms, {} ms at 1,000: {times:.2} ×", number(many), number(thousand)), times <= 1.5)
        });
        let shirts = number(objects as f64);
        [
            Floor::new(&format!("{shirts} shirts, {name}: p50 ≤ 5 ms"), quick),
            Floor::new(&format!("{shirts} shirts, {name}: p50 ≤ 1.5 × that at 1,000"), flat),
        ]
    });
    let faster = p50(System::Sluice, 100_000).zip(p50(System::StockEtcd, 100_000)).map(|(ours, stock)| {
        (format!("{} ms, stock {} ms: {:.0} ×", number(ours), number(stock), stock / ours), stock / ours >= 50.0)
    });
    let faster = Floor::new(&format!("100,000 shirts, {name}: ≥ 50 × faster than stock"), faster);
    many.chain([faster]).collect()
}

fn growth(report: &Report<'_>) -> Floor {
    let memory = |objects| report.memory(System::Sluice, objects).map(total);
    let found = memory(10_000).zip(memory(1_000_000)).map(|(few, many)| {
        let grown = (many - few) / 1e6;
        (format!("{:.0} → {:.0} MB: {grown:+.0} MB", few / 1e6, many / 1e6), grown <= 100.0)
    });
    Floor::new("apiserver + controller manager + shim, from 10,000 to 1,000,000 shirts: ≤ 100 MB more", found)
}

fn mixed(report: &Report<'_>) -> [Floor; 3] {
    let first = report.minutes(System::Sluice).first().map(|minute| minute.rate);
    let steady = first.zip(report.around(System::Sluice, COMPARED)).map(|(first, then)| {
        let share = then.rate / first;
        (format!("{}/s, first minute {}/s: {share:.2} ×", number(then.rate), number(first)), share >= 0.9)
    });
    // Stock may not come that far: then where it ended.
    let reached = report.slices(System::StockEtcd).last().map(|slice| slice.objects.min(COMPARED));
    let at = reached.unwrap_or(COMPARED);
    let pair = report.around(System::Sluice, at).zip(report.around(System::StockEtcd, at));
    let place = number(at as f64);
    let rate = pair.as_ref().map(|(ours, stock)| {
        let times = ours.rate / stock.rate;
        (format!("at {place}: {}/s, stock {}/s: {times:.2} ×", number(ours.rate), number(stock.rate)), times >= 3.0)
    });
    let p95 = pair.as_ref().map(|(ours, stock)| {
        let (ours, stock) = (ours.latency.p95_ms, stock.latency.p95_ms);
        (
            format!("at {place}: {} ms, stock {} ms: 1/{:.1}", number(ours), number(stock), stock / ours),
            ours * 3.0 <= stock,
        )
    });
    [
        Floor::new("mixed load, rate at 100,000 objects: ≥ 0.9 × that of the first minute", steady),
        Floor::new("mixed load, rate: ≥ 3 × stock's at the same number of objects", rate),
        Floor::new("mixed load, p95: ≤ 1/3 of stock's at the same number of objects", p95),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{asked, mixed};
    use super::*;

    fn verdicts(parts: &[super::super::part::Part]) -> Vec<Option<bool>> {
        floors(&Report::new(parts)).iter().map(|floor| floor.kept).collect()
    }

    #[test]
    fn nothing_measured_keeps_and_misses_nothing() {
        assert_eq!(verdicts(&[]), [None; 14]);
    }

    #[test]
    fn promises_are_kept_and_missed() {
        let ours = |at_million, bytes| {
            vec![
                asked(System::Sluice, 1_000, 3.0, 1e8),
                asked(System::Sluice, 10_000, 3.0, 1e8),
                asked(System::Sluice, 100_000, 3.0, 1e8),
                asked(System::Sluice, 1_000_000, at_million, bytes),
                asked(System::StockEtcd, 100_000, 155.0, 1e9),
                mixed(System::Sluice, 10_000, &[900; 12], 10),
                mixed(System::StockEtcd, 5_000, &[300; 12], 40),
            ]
        };
        assert_eq!(verdicts(&ours(4.5, 1.9e8)), [Some(true); 14]);
        let mut missed = ours(5.5, 2.1e8);
        missed[4] = asked(System::StockEtcd, 100_000, 140.0, 1e9);
        missed[6] = mixed(System::StockEtcd, 5_000, &[400; 12], 20);
        let kept = verdicts(&missed);
        assert_eq!(kept.iter().filter(|kept| **kept == Some(false)).count(), 9, "{kept:?}");
    }
}
