//! `sluice-shim explain`: how a list with a selector is read.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::builder::NonEmptyStringValueParser;

use crate::config::{ConfigError, DatabaseFlags, prefix, whole};
use crate::engine::RangeQuery;
use crate::selector::Selection;
use crate::sql;

/// Show how a list with a selector is read: which index is used, what the others would cost, and how many rows it
/// takes. Reads only; a server may have the database open.
#[derive(Debug, Clone, clap::Args)]
pub struct Explain {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// What the keys of the list begin with: /registry/stable.example.com/shirts/.
    #[arg(long, value_name = "PREFIX")]
    pub prefix: String,

    /// The label selector, as in `kubectl get -l`.
    #[arg(long, short = 'l', value_parser = NonEmptyStringValueParser::new(), value_name = "SELECTOR")]
    pub selector: Option<String>,

    /// The field selector, as in `kubectl get --field-selector`.
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "SELECTOR")]
    pub field_selector: Option<String>,

    /// The group and version that the list is asked for in: stable.example.com/v1. Fields of other versions can't be
    /// compared.
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "GROUP/VERSION")]
    pub group_version: Option<String>,

    /// The size of a page; 0 for the whole list.
    #[arg(
        long,
        default_value_t = 0,
        value_parser = whole::<usize>(0..=i64::MAX as u64),
        allow_hyphen_values = true,
        value_name = "N"
    )]
    pub limit: usize,
}

impl Explain {
    /// Reads, and prints how.
    ///
    /// # Errors
    /// When a selector is none, or the database can't be read.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        let endpoint = self.database.endpoint()?;
        endpoint.must_exist()?;
        let (label, field) = (self.selector.as_deref(), self.field_selector.as_deref());
        let selection = Selection::parse(label, field, self.group_version.as_deref()).map_err(|error| {
            let hint = "write them as for kubectl get -l and --field-selector";
            ConfigError::new(format!("--selector or --field-selector can't be read: {error}"), hint)
        })?;
        let selection = selection.map(Arc::new).ok_or_else(|| {
            let hint = "use --selector, or --field-selector with --group-version";
            ConfigError::new("the selectors leave nothing out", hint)
        })?;
        let range = prefix(&self.prefix)?;
        let query = RangeQuery { range, selection: Some(selection), limit: self.limit, ..RangeQuery::default() };
        let explained = sql::explain(&endpoint, &query);
        write!(out, "{}", explained.with_context(|| format!("--endpoint: read {endpoint}"))?)?;
        Ok(())
    }
}
