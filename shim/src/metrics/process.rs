//! What the system knows of this process, under the names that all Prometheus clients give it. etcd's dashboards and
//! `etcdctl check datascale` ask for them.

use std::fmt;

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, WithCurrentSystemInfo as _};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads them when somebody looks.
#[derive(Debug)]
pub(super) struct ThisProcess;

/// What was read.
struct Reading {
    resident: u64,
    virtual_size: u64,
    cpu_seconds: f64,
    start_seconds: f64,
    threads: i64,
    open_fds: usize,
    /// 0 for no limit, as the other clients say it.
    max_fds: u64,
}

impl Reading {
    fn take() -> ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second() as f64;
        let max_fds = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Value(limit) => limit,
            LimitValue::Unlimited => 0,
        };
        Ok(Self {
            resident: stat.rss_bytes().get(),
            virtual_size: stat.vsize,
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            start_seconds: procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
            threads: stat.num_threads,
            open_fds: process.fd_count()?,
            max_fds,
        })
    }
}

impl Collector for ThisProcess {
    /// Without /proc there is nothing to tell.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(read) = Reading::take() else { return Ok(()) };
        let mut add = |name: &str, help: &str, metric: &dyn Encode| metric.add(&mut encoder, name, help);
        let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        add("process_resident_memory_bytes", "Memory in use", &gauge(read.resident))?;
        add("process_virtual_memory_bytes", "Addresses in use", &gauge(read.virtual_size))?;
        add("process_cpu_seconds", "Processor time", &ConstCounter::new(read.cpu_seconds))?;
        add("process_start_time_seconds", "Start, since 1970", &ConstGauge::new(read.start_seconds))?;
        add("process_threads", "Threads", &ConstGauge::new(read.threads))?;
        add("process_open_fds", "Open files and connections", &gauge(read.open_fds as u64))?;
        add("process_max_fds", "The limit of open files and connections", &gauge(read.max_fds))
    }
}

/// A metric of any kind.
trait Encode {
    fn add(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<T: EncodeMetric> Encode for T {
    fn add(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        // The registry ends the texts of its own metrics so.
        let help = format!("{help}.");
        self.encode(encoder.encode_descriptor(name, &help, None, self.metric_type())?)
    }
}
