//! Curves of the systems, in an SVG that needs no font or style of its own.

use std::fmt::Write as _;

use super::part::System;
use crate::report::number;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
/// Half of the longest mark, which stands in the middle below the end of the axis.
const RIGHT: f64 = 45.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;

/// A plot with a curve for each system that was measured.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    /// What the horizontal axis is.
    pub(super) across: &'a str,
    /// Whether both axes are logarithmic; else they begin at 0.
    pub(super) logarithmic: bool,
    pub(super) curves: Vec<(System, Vec<(f64, f64)>)>,
}

/// One axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    least: f64,
    greatest: f64,
    logarithmic: bool,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, logarithmic: bool) -> Self {
        let (least, greatest) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| {
            (least.min(value), greatest.max(value))
        });
        if !greatest.is_finite() || greatest <= 0.0 {
            return Self { least: 0.0, greatest: 1.0, logarithmic: false };
        }
        if logarithmic {
            let power = |value: f64| 10_f64.powf(value);
            let (least, greatest) = (power(least.max(1e-6).log10().floor()), power(greatest.log10().ceil()));
            return Self { least, greatest: greatest.max(least * 10.0), logarithmic };
        }
        let step = 10_f64.powf(greatest.log10().floor()) / 2.0;
        Self { least: 0.0, greatest: (greatest / step).ceil() * step, logarithmic }
    }

    /// Where a value is, from 0 to 1.
    fn share(self, value: f64) -> f64 {
        let at = |value: f64| if self.logarithmic { value.max(1e-9).log10() } else { value };
        ((at(value) - at(self.least)) / (at(self.greatest) - at(self.least))).clamp(0.0, 1.0)
    }

    /// What is written beside it.
    fn marks(self) -> Vec<f64> {
        if !self.logarithmic {
            return (0..=5).map(|at| self.least + (self.greatest - self.least) * f64::from(at) / 5.0).collect();
        }
        std::iter::successors(Some(self.least), |mark| Some(mark * 10.0))
            .take_while(|mark| *mark <= self.greatest * 1.01)
            .collect()
    }
}

/// What is written at a mark.
fn written(mark: f64) -> String {
    if mark >= 100.0 { number(mark) } else { ((mark * 1000.0).round() / 1000.0).to_string() }
}

fn color(system: System) -> &'static str {
    match system {
        System::StockEtcd => "#3b6fb6",
        System::StockKine => "#c2803a",
        System::Sluice => "#2e8b57",
    }
}

impl Plot<'_> {
    /// The file.
    pub(super) fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|(_, points)| points);
        let across = Axis::of(points().map(|point| point.0), self.logarithmic);
        let up = Axis::of(points().map(|point| point.1), self.logarithmic);
        let x = |value| LEFT + across.share(value) * (WIDTH - LEFT - RIGHT);
        let y = |value| HEIGHT - BOTTOM - up.share(value) * (HEIGHT - TOP - BOTTOM);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"10\" y=\"20\" font-size=\"14\">{}</text>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>\n",
            self.title,
            WIDTH / 2.0,
            HEIGHT - 12.0,
            self.across,
        );
        for mark in across.marks() {
            let (x, low, high) = (x(mark), HEIGHT - BOTTOM, TOP);
            let _ = writeln!(
                text,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"#dddddd\"/>"
            );
            let _ = writeln!(
                text,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                low + 16.0,
                written(mark)
            );
        }
        for mark in up.marks() {
            let y = y(mark);
            let _ = writeln!(
                text,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>",
                WIDTH - RIGHT
            );
            let _ = writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                written(mark)
            );
        }
        let measured = self.curves.iter().filter(|(_, points)| !points.is_empty());
        for (at, (system, points)) in measured.enumerate() {
            let (color, legend) = (color(*system), LEFT + at as f64 * 130.0);
            let _ = writeln!(text, "<rect x=\"{legend:.0}\" y=\"30\" width=\"12\" height=\"12\" fill=\"{color}\"/>");
            let _ = writeln!(text, "<text x=\"{:.0}\" y=\"40\">{system}</text>", legend + 17.0);
            let line: Vec<String> = points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
            let _ = writeln!(
                text,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                line.join(" ")
            );
            for point in points.iter().filter(|_| self.logarithmic) {
                let _ = writeln!(
                    text,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"/>",
                    x(point.0),
                    y(point.1)
                );
            }
        }
        text.push_str("</svg>\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_all_values_and_end_at_round_ones() {
        let axis = Axis::of([3.0, 450.0].into_iter(), true);
        assert_eq!((axis.least, axis.greatest, axis.marks().len()), (1.0, 1000.0, 4));
        assert!((axis.share(10.0) - 1.0 / 3.0).abs() < 1e-9);
        let axis = Axis::of([3.0, 420.0].into_iter(), false);
        assert_eq!((axis.least, axis.greatest), (0.0, 450.0));
        let empty = Axis::of(std::iter::empty(), true);
        assert_eq!((empty.least, empty.greatest), (0.0, 1.0));
    }

    fn plot() -> String {
        let curves = vec![
            (System::StockEtcd, vec![(1e3, 1.0), (1e6, 100.0)]),
            (System::StockKine, Vec::new()),
            (System::Sluice, vec![(1e3, 2.0)]),
        ];
        Plot { title: "A title", across: "shirts", logarithmic: true, curves }.svg()
    }

    #[test]
    fn a_system_without_values_is_not_in_the_legend() {
        let svg = plot();
        let named = System::ALL.map(|system| svg.contains(&format!(">{system}<")));
        assert_eq!(named, [true, false, true], "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2);
    }

    #[test]
    fn marks_are_written_whole_and_short() {
        let table = [(0.0, "0"), (0.1, "0.1"), (1.0, "1"), (10.0, "10"), (12.5, "12.5"), (1e6, "1,000,000")];
        for (mark, text) in table {
            assert_eq!(written(mark), text);
        }
        // Letters of this size are some 7 wide.
        let svg = plot();
        for line in svg.lines().filter(|line| line.contains("text-anchor=\"middle\"")) {
            let x: f64 = line.split('"').nth(1).and_then(|x| x.parse().ok()).expect("a place");
            let text = line.split(['>', '<']).nth(2).expect("a text");
            assert!(x + text.len() as f64 * 7.0 / 2.0 <= WIDTH, "{line}");
        }
        assert!(svg.contains(">1,000,000<"), "{svg}");
    }
}
