//! Changes to the metadata of a stored object, made in its bytes.
//!
//! kube-apiserver reads an object, changes it and writes it anew. The shim knows no types, so it copies the stored
//! bytes and replaces only the spans that a change touches: the order of fields, fields that nobody knows, the text of
//! numbers and escapes stay as they are. Only `deletionTimestamp`, `deletionGracePeriodSeconds`, `generation`,
//! `ownerReferences` and `finalizers` of `metadata` can change, and a list that becomes empty goes with its key, as
//! upstream omits it.

mod cbor;
mod form;
mod json;
mod metadata;
mod plan;
mod protobuf;
#[cfg(test)]
mod tests;

use crate::object::{self, Encoding};
use plan::Plan;

/// What is to change in an object's metadata. What is so already stays untouched; all parts of it can be combined.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edit {
    /// Marks the object as being deleted since this time, in seconds since 1970.
    ///
    /// As kube-apiserver does (apiserver: `markAsDeleting` in pkg/registry/generic/registry/store.go): the grace period
    /// becomes 0, the generation goes up by one if it is above zero and the object was not being deleted, and a time of
    /// deletion that is set already stays unless it is later.
    pub mark_deleting: Option<i64>,
    /// Owners' UIDs: every reference to one of them goes.
    pub drop_owners: Vec<String>,
    /// Owners' UIDs: every reference to one of them no longer blocks the owner's deletion.
    pub unblock_owners: Vec<String>,
    /// A finalizer that is to be there; a new one comes last.
    pub add_finalizer: Option<String>,
    /// A finalizer that is not to be there, however often it is.
    pub remove_finalizer: Option<String>,
}

/// The value with the change made; an equal value if there is nothing to change.
///
/// `None` if it can't be done: the value is opaque ([`object::decode`]), which includes fields that occur twice; a
/// protobuf object is in pieces; the new generation or time can't be written.
pub fn rewrite(value: &[u8], edit: &Edit) -> Option<Vec<u8>> {
    let meta = object::decode(value)?;
    let plan = Plan::new(&meta, edit)?;
    if plan.is_empty() {
        return Some(value.to_vec());
    }
    match object::encoding(value)? {
        Encoding::Json => metadata::edit::<json::Json>(value, &plan),
        Encoding::Cbor => metadata::edit::<cbor::Cbor>(value, &plan),
        Encoding::Protobuf => protobuf::edit(value, &plan),
    }
}
