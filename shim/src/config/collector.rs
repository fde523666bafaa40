//! The flags of the garbage collector.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::{ConfigError, duration, group, ignored_kind, whole};
use crate::engine::collector::Collector;
use crate::gc::{Audit, Rules};

/// The flags of the garbage collector.
#[derive(Debug, Clone, clap::Args)]
pub struct GcConfig {
    /// Whether to collect the dependents that the controller manager does not see: objects with the label
    /// skip-controller-manager-metadata-caching. While it is off, what is to be collected is noted.
    #[arg(long, env = "SLUICE_GC", default_value = "on", value_name = "SWITCH")]
    pub gc: Switch,

    /// The greatest number of objects that are collected in a second.
    #[arg(
        long,
        env = "SLUICE_GC_RATE",
        default_value_t = 2000,
        value_parser = whole::<u32>(1..=u64::from(u32::MAX)),
        allow_hyphen_values = true,
        value_name = "N"
    )]
    pub gc_rate: u32,

    /// How long deleted objects are remembered: a dependent that is created later is kept.
    #[arg(
        long,
        env = "SLUICE_GC_TOMBSTONE_TTL",
        default_value = "1h",
        value_parser = duration,
        allow_hyphen_values = true,
        value_name = "DURATION"
    )]
    pub gc_tombstone_ttl: Duration,

    /// Whether an object that the controller manager deletes in the foreground is held until labelled dependents that
    /// block it are gone.
    #[arg(long, env = "SLUICE_GC_STRICT_FOREGROUND", default_value = "on", value_name = "SWITCH")]
    pub gc_strict_foreground: Switch,

    /// Groups whose objects the controller manager sees in spite of the label; the core group is the empty name. The
    /// default are those that Kubernetes 1.37 watches with typed informers.
    #[arg(long, env = "SLUICE_GC_TYPED_GROUPS", value_delimiter = ',', value_parser = group, value_name = "GROUPS")]
    pub gc_typed_groups: Option<Vec<String>>,

    /// Kinds that own nothing and are owned by nothing, as group/Kind. The default are the Events.
    #[arg(long, env = "SLUICE_GC_IGNORED", value_delimiter = ',', value_parser = ignored_kind, value_name = "KINDS")]
    pub gc_ignored: Option<Vec<String>>,

    /// Where each change that the collector makes is written down, a line of JSON each. The default is the log.
    #[arg(long, env = "SLUICE_GC_AUDIT_LOG", value_name = "FILE")]
    pub gc_audit_log: Option<PathBuf>,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl GcConfig {
    /// The collector that the flags ask for.
    ///
    /// # Errors
    /// When the audit log can't be opened.
    pub fn collector(&self) -> Result<Collector, ConfigError> {
        let audit = match &self.gc_audit_log {
            None => Audit::default(),
            Some(path) => Audit::to_file(path).map_err(|error| {
                let hint = "name a file in a folder that this user can write; without the flag it is in the log";
                ConfigError::here(format!("--gc-audit-log {} can't be opened: {error}", path.display()), hint)
            })?,
        };
        let mut rules = Rules { strict_foreground: self.gc_strict_foreground == Switch::On, ..Rules::default() };
        if let Some(groups) = &self.gc_typed_groups {
            rules.typed_groups = groups.iter().cloned().collect();
        }
        if let Some(kinds) = &self.gc_ignored {
            rules.ignored = kinds.iter().filter(|kind| !kind.is_empty()).cloned().collect();
        }
        Ok(Collector {
            enabled: self.gc == Switch::On,
            rules,
            rate: self.gc_rate,
            tombstone_ttl: self.gc_tombstone_ttl,
            audit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use clap::Parser as _;

    fn collector(args: &[&str]) -> Collector {
        Config::try_parse_from([&["sluice-shim"], args].concat()).unwrap().gc.collector().unwrap()
    }

    #[test]
    fn flags_make_a_collector() {
        let usual = collector(&[]);
        assert!(usual.enabled && usual.rules == Rules::default());
        let own = collector(&["--gc", "off", "--gc-rate=7", "--gc-tombstone-ttl=10m", "--gc-strict-foreground=off"]);
        assert!(!own.enabled && !own.rules.strict_foreground);
        assert_eq!((own.rate, own.tombstone_ttl), (7, Duration::from_secs(600)));
        let own = collector(&["--gc-typed-groups", ",apps", "--gc-ignored", "example.com/Log"]);
        assert!(own.rules.typed("") && own.rules.typed("apps") && !own.rules.typed("batch"));
        assert_eq!(own.rules.ignored.iter().collect::<Vec<_>>(), ["example.com/Log"]);
        let all_seen_kinds = collector(&["--gc-ignored", ""]);
        assert!(all_seen_kinds.rules.ignored.is_empty());
    }

    #[test]
    fn an_audit_log_that_can_t_be_opened_is_an_error() {
        let args = ["sluice-shim", "--gc-audit-log", "/does/not/exist/audit.log"];
        let error = Config::try_parse_from(args).unwrap().gc.collector().unwrap_err();
        assert!(error.what.contains("/does/not/exist/audit.log") && !error.usage);
    }
}
