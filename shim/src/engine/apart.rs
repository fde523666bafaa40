//! Keys that leave a store, because another database has them now.

use super::facets::facets;
use super::store::{Before, Changes, Footprint, RowChange, Superseded, Writer, declarations};
use super::types::{Error, KeyValue, Result};

/// Removes keys from a store that nobody serves. Each must still be as it was read.
///
/// Who watches the store hears of deletions. The collector hears of nothing: an object that is in another database is
/// not deleted, so what it owns is to be kept.
///
/// # Errors
/// When one of them was changed meanwhile: then none of them is removed.
pub fn remove(writer: &mut dyn Writer, keys: &[KeyValue]) -> Result<()> {
    let footprint = Footprint { keys: keys.iter().map(|kv| kv.key.clone()).collect(), ..Footprint::default() };
    let decide = &mut |mut before: Before| {
        let revision = before.revision + 1;
        let mut changes = Changes { revision, ..Changes::default() };
        for (kv, end_sub) in keys.iter().zip(0..) {
            let row = before.rows.remove(&kv.key).filter(|row| row.kv.mod_revision == kv.mod_revision);
            let changed = || Error::Broken(format!("{} was changed meanwhile", kv.key.escape_ascii()));
            let row = row.ok_or_else(changed)?;
            let stored = facets(&before.catalog, &kv.key, &row.kv.value);
            changes.rows.push(RowChange { key: kv.key.clone(), before: Some(stored), after: None });
            changes.superseded.push(Superseded { row, end_revision: revision, end_sub, deleted: true });
        }
        changes.declarations = declarations(&changes.rows);
        Ok(changes)
    };
    writer.commit(&footprint, decide)?;
    writer.tidy(false).map(drop)
}
