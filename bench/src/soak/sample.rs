//! What the process holds, again and again: a table and a plot.

use std::fmt::Write as _;

use anyhow::Result;

use crate::curves::{Curve, Plot, stacked};
use crate::server::Server;

/// The columns of the table.
const HEADER: &str = "seconds,life,memory,handles,threads,database,log";
/// How high the plot of one column is.
const HEIGHT: f64 = 210.0;

/// What one look at the process found; sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    /// How many times the server had been restarted.
    pub(crate) life: u64,
    pub(crate) memory: f64,
    pub(crate) handles: f64,
    pub(crate) threads: f64,
    pub(crate) database: f64,
    pub(crate) log: f64,
}

impl Sample {
    /// Looks.
    pub(crate) fn take(server: &Server, seconds: f64, life: u64) -> Result<Self> {
        let memory = server.memory()?.resident;
        let (handles, threads) = server.handles_and_threads()?;
        let (database, log) = server.database_and_log()?;
        Ok(Self { seconds, life, memory, handles, threads, database, log })
    }
}

/// The table, which `cargo xtask test soak` judges.
pub(crate) fn csv(samples: &[Sample]) -> String {
    let mut text = format!("{HEADER}\n");
    for Sample { seconds, life, memory, handles, threads, database, log } in samples {
        let _ = writeln!(text, "{seconds:.1},{life},{memory},{handles},{threads},{database},{log}");
    }
    text
}

/// A plot of each column below the other.
pub(crate) fn svg(samples: &[Sample]) -> String {
    type Value = fn(&Sample) -> f64;
    let columns: [(&str, &'static str, Value); 5] = [
        ("Resident memory in MB", "#2e8b57", |sample| sample.memory / 1e6),
        ("Open file handles", "#3b6fb6", |sample| sample.handles),
        ("Threads", "#c2803a", |sample| sample.threads),
        ("Database in MB", "#7a4fa3", |sample| sample.database / 1e6),
        ("Log in MB", "#b03a48", |sample| sample.log / 1e6),
    ];
    let plots = columns.map(|(title, color, value)| {
        let points = samples.iter().map(|sample| (sample.seconds / 60.0, value(sample))).collect();
        let curves = vec![Curve { name: "sluice-shim".to_owned(), color, points }];
        Plot { title, across: "minutes", height: HEIGHT, logarithmic: false, curves }
    });
    stacked(&plots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_sampled_is_in_the_table_and_in_the_plot() {
        let sample =
            |seconds| Sample { seconds, life: 2, memory: 3e6, handles: 40.0, threads: 5.0, database: 6e6, log: 7.0 };
        let samples = [sample(1.0), sample(2.5)];
        assert_eq!(csv(&samples), format!("{HEADER}\n1.0,2,3000000,40,5,6000000,7\n2.5,2,3000000,40,5,6000000,7\n"));
        let svg = svg(&samples);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("</svg>").count()), (5, 11));
    }
}
