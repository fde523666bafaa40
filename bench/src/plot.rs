//! The ratios as bars, in an SVG that needs no font or style of its own.

use std::fmt::Write as _;

use crate::report::{Report, Row, number};
use crate::server::Kind;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 270.0;
const BAR: f64 = 12.0;
const ROW: f64 = 44.0;
const TOP: f64 = 60.0;
/// The ends of the scale: a tenth and a hundred times as good.
const SCALE: (f64, f64) = (-1.0, 2.0);
const SERIES: [(Kind, &str); 2] = [(Kind::Etcd, "#3b6fb6"), (Kind::Kine, "#c2803a")];

/// How many times as good sluice-shim is as the others, on a logarithmic scale.
pub(crate) fn svg(report: &Report) -> String {
    let rows: Vec<&Row> =
        report.rows.iter().filter(|row| SERIES.iter().any(|(kind, _)| row.ratio(*kind).is_some())).collect();
    let height = TOP + rows.len() as f64 * ROW + 20.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">sluice-shim, times as good as (bar: median, line: spread)</text>\n"
    );
    for (at, (kind, color)) in SERIES.iter().enumerate() {
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

/// Where a ratio stands on the scale.
fn place(times: f64) -> f64 {
    let (low, high) = SCALE;
    let share = ((times.max(1e-9).log10() - low) / (high - low)).clamp(0.0, 1.0);
    LEFT + share * (WIDTH - LEFT - 50.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_logarithmic_and_bounded() {
        let (tenth, one, ten) = (place(0.1), place(1.0), place(10.0));
        assert!((ten - one - (one - tenth)).abs() < 1e-6);
        assert_eq!(place(0.0), tenth);
        assert_eq!(place(1e9), place(100.0));
    }
}
