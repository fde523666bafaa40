//! The definitions of the kinds that a portion of the collector's work is about.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::portion::Portion;
use crate::engine::catalog::definitions_of;
use crate::object::crd::{self, Served};
use crate::sql::failure::Result;
use crate::sql::session::Reading;

/// What definitions say, by their key. For one transaction: they may change behind it.
#[derive(Debug, Default)]
pub(super) struct Definitions(HashMap<Vec<u8>, Arc<Served>>);

impl Definitions {
    /// Reads those of the objects at these keys, each once.
    pub(super) fn read<'k>(session: &mut dyn Reading, keys: impl Iterator<Item = &'k [u8]>) -> Result<Self> {
        let wanted: BTreeSet<Vec<u8>> = keys.flat_map(definitions_of).collect();
        let wanted: Vec<&[u8]> = wanted.iter().map(Vec::as_slice).collect();
        let (mut list, mut portion, mut definitions) = (&wanted[..], Portion::new(), HashMap::new());
        while !list.is_empty() {
            let found = session.rows(portion.of(&mut list))?;
            portion.had(found.len(), found.iter().map(|row| row.kv.value.len()).sum());
            let served =
                found.iter().filter_map(|row| Some((row.kv.key.to_vec(), Arc::new(crd::served(&row.kv.value)?))));
            definitions.extend(served);
        }
        Ok(Self(definitions))
    }

    /// What the definition of the object at a key says; `None` if it is not in the store, or not readable.
    pub(super) fn of(&self, key: &[u8]) -> Option<Arc<Served>> {
        definitions_of(key).iter().find_map(|definition| self.0.get(definition)).cloned()
    }
}
