//! Curves, in an SVG that needs no font or style of its own.

use std::fmt::Write as _;

use crate::report::number;

const WIDTH: f64 = 900.0;
/// How high a plot is that stands alone.
pub(crate) const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
/// Half of the longest mark, which stands in the middle below the end of the axis.
const RIGHT: f64 = 45.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;

/// A plot with some curves.
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    /// What the horizontal axis is.
    pub(crate) across: &'a str,
    pub(crate) height: f64,
    /// Whether both axes are logarithmic; else they begin at 0.
    pub(crate) logarithmic: bool,
    pub(crate) curves: Vec<Curve>,
}

/// What was measured of something.
pub(crate) struct Curve {
    /// As the legend calls it.
    pub(crate) name: String,
    pub(crate) color: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
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

/// Plots below each other, as one file.
pub(crate) fn stacked(plots: &[Plot<'_>]) -> String {
    let height: f64 = plots.iter().map(|plot| plot.height).sum();
    let mut text = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\">\n");
    let mut top = 0.0;
    for plot in plots {
        let _ = write!(text, "<svg y=\"{top}\" width=\"{WIDTH}\" height=\"{}\">\n{}</svg>\n", plot.height, plot.svg());
        top += plot.height;
    }
    text.push_str("</svg>\n");
    text
}

impl Plot<'_> {
    /// The file.
    pub(crate) fn svg(&self) -> String {
        let height = self.height;
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let across = Axis::of(points().map(|point| point.0), self.logarithmic);
        let up = Axis::of(points().map(|point| point.1), self.logarithmic);
        let x = |value| LEFT + across.share(value) * (WIDTH - LEFT - RIGHT);
        let y = |value| height - BOTTOM - up.share(value) * (height - TOP - BOTTOM);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"10\" y=\"20\" font-size=\"14\">{}</text>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>\n",
            self.title,
            WIDTH / 2.0,
            height - 12.0,
            self.across,
        );
        for mark in across.marks() {
            let (x, low, high) = (x(mark), height - BOTTOM, TOP);
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
        let measured = self.curves.iter().filter(|curve| !curve.points.is_empty());
        for (at, Curve { name, color, points }) in measured.enumerate() {
            let legend = LEFT + at as f64 * 130.0;
            let _ = writeln!(text, "<rect x=\"{legend:.0}\" y=\"30\" width=\"12\" height=\"12\" fill=\"{color}\"/>");
            let _ = writeln!(text, "<text x=\"{:.0}\" y=\"40\">{name}</text>", legend + 17.0);
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
        let curve = |name: &str, points| Curve { name: name.to_owned(), color: "#000000", points };
        let curves = vec![
            curve("one", vec![(1e3, 1.0), (1e6, 100.0)]),
            curve("none", Vec::new()),
            curve("two", vec![(1e3, 2.0)]),
        ];
        Plot { title: "A title", across: "shirts", height: HEIGHT, logarithmic: true, curves }.svg()
    }

    #[test]
    fn a_curve_without_values_is_not_in_the_legend() {
        let svg = plot();
        let named = ["one", "none", "two"].map(|name| svg.contains(&format!(">{name}<")));
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
