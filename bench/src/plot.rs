//! The ratios as bars, in an SVG that needs no font or style of its own.

use std::fmt::Write as _;

use crate::report::{Row, number};
use crate::server::Kind;

/// How wide the plot is beside the names of its rows.
const WIDTH: f64 = 640.0;
/// About the width of a letter.
const LETTER: f64 = 6.5;
const BAR: f64 = 12.0;
const ROW: f64 = 44.0;
const TOP: f64 = 60.0;
/// The ends of the scale: a tenth and a hundred times as good.
const SCALE: (f64, f64) = (-1.0, 2.0);
const SERIES: [(Kind, &str); 2] = [(Kind::Etcd, "#3b6fb6"), (Kind::Kine, "#c2803a")];

/// How many times as good sluice-shim is as the others, on a logarithmic scale.
pub(crate) fn svg(rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| SERIES.iter().any(|(kind, _)| row.ratio(*kind).is_some())).collect();
    let height = TOP + rows.len() as f64 * ROW + 20.0;
    let letters = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let left = 20.0 + letters as f64 * LETTER;
    let (width, place) = (left + WIDTH, |times| left + place(times));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">sluice-shim, times as good as (bar: median, line: spread)</text>\n"
    );
    let measured = SERIES.iter().filter(|(kind, _)| rows.iter().any(|row| row.ratio(*kind).is_some()));
    for (at, (kind, color)) in measured.enumerate() {
        let x = 480.0 + at as f64 * 90.0;
        let _ = writeln!(text, "<rect x=\"{x}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{color}\"/>");
        let _ = writeln!(text, "<text x=\"{}\" y=\"20\">{kind}</text>", x + 17.0);
    }
    for (times, label) in
        [(0.1, "0.1"), (0.3, "0.3"), (1.0, "1"), (3.0, "3"), (10.0, "10"), (30.0, "30"), (100.0, "100")]
    {
        let (x, strong) = (place(times), times == 1.0);
        let color = if strong { "#333333" } else { "#dddddd" };
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"{color}\"/>",
            TOP - 8.0,
            height - 16.0
        );
        let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", TOP - 12.0);
    }
    for (at, row) in rows.iter().enumerate() {
        let y = TOP + at as f64 * ROW;
        let _ = writeln!(text, "<text x=\"10\" y=\"{}\">{}</text>", y + 20.0, escaped(&row.name));
        for (line, (kind, color)) in SERIES.iter().enumerate() {
            let Some(ratio) = row.ratio(*kind) else { continue };
            let y = y + 4.0 + line as f64 * (BAR + 3.0);
            let (from, to) = (place(ratio.median.min(1.0)), place(ratio.median.max(1.0)));
            let _ = writeln!(
                text,
                "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{color}\"/>",
                (to - from).max(0.5)
            );
            let (least, greatest, middle) = (place(ratio.least), place(ratio.greatest), y + BAR / 2.0);
            let _ = writeln!(
                text,
                "<line x1=\"{least:.1}\" x2=\"{greatest:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#000000\"/>"
            );
            let end = to.max(greatest) + 5.0;
            let _ = writeln!(text, "<text x=\"{end:.1}\" y=\"{}\">{}</text>", y + BAR - 1.0, number(ratio.median));
        }
    }
    text.push_str("</svg>\n");
    text
}

/// Where a ratio stands on the scale, from its left end.
fn place(times: f64) -> f64 {
    let (low, high) = SCALE;
    let share = ((times.max(1e-9).log10() - low) / (high - low)).clamp(0.0, 1.0);
    share * (WIDTH - 50.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::{Better, Sample};

    #[test]
    fn names_end_before_the_bars_and_the_legend_is_of_what_was_measured() {
        let name = "events, 1 writer, 5000 watchers with selectors of their own";
        let samples = |value| vec![Sample::of_value(value)];
        let measured = BTreeMap::from([(Kind::Shim, samples(20.0)), (Kind::Kine, samples(10.0))]);
        let svg = svg(&[Row::new(name, "events/s", Better::Higher, Vec::new(), measured)]);
        assert!(svg.contains(">kine<") && !svg.contains(">etcd<"), "{svg}");
        let start = |line: &str| line.split("x1=\"").nth(1)?.split('"').next()?.parse::<f64>().ok();
        let axis = svg.lines().find_map(start).expect("the left end of the scale");
        assert!(10.0 + name.len() as f64 * LETTER < axis, "{axis}");
    }

    #[test]
    fn the_scale_is_logarithmic_and_bounded() {
        let (tenth, one, ten) = (place(0.1), place(1.0), place(10.0));
        assert!((ten - one - (one - tenth)).abs() < 1e-6);
        assert_eq!(place(0.0), tenth);
        assert_eq!(place(1e9), place(100.0));
    }
}
