//! The field indexes: those that there are, and those that the definitions declare.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Report, shown, stale};
use crate::engine::catalog::{Catalog, Declaration, FieldEntry, FieldIndex, declaration};
use crate::sql::failure::Result;
use crate::sql::index::names::index_of;
use crate::sql::session::{Audit, IndexState, StoredIndex};

/// Prefix, version and field.
type Field = (Bytes, String, String);

/// The field indexes of the database.
pub(super) struct Indexes {
    stored: Vec<StoredIndex>,
    pub(super) catalog: Catalog,
    declared: BTreeSet<Field>,
}

impl Indexes {
    pub(super) fn load(audit: &mut dyn Audit) -> Result<Self> {
        let stored = audit.indexes()?;
        let live = stored.iter().filter(|stored| stored.state != IndexState::Dropping);
        let catalog = Catalog::new(live.map(|stored| stored.index.clone()).collect());
        Ok(Self { stored, catalog, declared: BTreeSet::new() })
    }

    /// Notes what a value declares, if it is that of a definition.
    pub(super) fn note(&mut self, key: &[u8], value: &[u8]) {
        if let Some(Declaration { prefix, api_version, fields }) = declaration(key, Some(value)) {
            self.declared.extend(fields.into_iter().map(|field| (prefix.clone(), api_version.clone(), field)));
        }
    }

    /// Whether they are those that the definitions declare, all of which were noted.
    pub(super) fn compare(&self, report: &mut Report<'_>) {
        let live = self.stored.iter().filter(|stored| stored.state != IndexState::Dropping).map(|stored| {
            let FieldIndex { prefix, api_version, field, .. } = &stored.index;
            (prefix.clone(), api_version.clone(), field.clone())
        });
        let live: BTreeSet<Field> = live.collect();
        let (missing, superfluous) = (self.declared.difference(&live), live.difference(&self.declared));
        for (what, them) in [("is missing", missing), ("is not declared", superfluous)] {
            for (prefix, api_version, field) in them {
                report(stale(format!("the index of {field} in {api_version} below {} {what}", shown(prefix))));
            }
        }
    }

    fn of(&self, index: i64) -> Option<&StoredIndex> {
        self.stored.iter().find(|stored| stored.index.id == index)
    }

    /// Whether the entry of this key may not be missing.
    pub(super) fn must_have(&self, entry: &FieldEntry, key: &[u8]) -> bool {
        let stored = self.of(entry.index);
        stored.is_some_and(|stored| stored.state == IndexState::Ready || key <= &stored.cursor[..])
    }

    /// Whether entries of this name are being removed.
    pub(super) fn is_dropping(&self, name: i64) -> bool {
        name < 0 && self.of(index_of(name)).is_some_and(|stored| stored.state == IndexState::Dropping)
    }

    pub(super) fn shown(&self, entry: &FieldEntry) -> String {
        let field = self.of(entry.index).map_or("", |stored| &stored.index.field);
        entry.value.as_ref().map_or_else(|| format!("{field}, which is foreign"), |value| format!("{field}={value}"))
    }
}
