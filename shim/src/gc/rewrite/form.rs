//! What JSON and CBOR have in common: maps with named members, and arrays.

use std::borrow::Cow;

/// A map or an array in the stored bytes: head, items and tail are all of it, in this order.
pub(super) struct Container<'a> {
    /// What stands up to the first item.
    pub(super) head: &'a [u8],
    pub(super) items: Vec<Item<'a>>,
    /// What stands after the last item.
    pub(super) tail: &'a [u8],
}

/// A member of a map, or an element of an array.
pub(super) struct Item<'a> {
    /// What separates it from the item before; empty for the first.
    pub(super) lead: &'a [u8],
    /// The member's name; empty for an element.
    pub(super) name: Cow<'a, str>,
    /// All of the item. Its value is the end of it.
    pub(super) whole: &'a [u8],
    pub(super) value: &'a [u8],
}

/// An item of a container that is being written.
pub(super) struct Piece<'a> {
    /// What separates it from the piece before, if the stored bytes say so.
    pub(super) lead: Option<&'a [u8]>,
    pub(super) bytes: Cow<'a, [u8]>,
}

impl<'a> Piece<'a> {
    /// An item as it is.
    pub(super) fn kept(item: &Item<'a>) -> Self {
        Self { lead: Some(item.lead), bytes: Cow::Borrowed(item.whole) }
    }

    /// An item with another value.
    pub(super) fn with_value(item: &Item<'a>, value: &[u8]) -> Self {
        let name = &item.whole[..item.whole.len() - item.value.len()];
        Self { lead: Some(item.lead), bytes: Cow::Owned([name, value].concat()) }
    }

    /// A new item.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { lead: None, bytes: Cow::Owned(bytes) }
    }
}

/// An encoding.
pub(super) trait Form {
    /// Reads the items of a map. `None` if it is not one.
    fn map(value: &[u8]) -> Option<Container<'_>>;

    /// Reads the items of an array. `None` if it is not one.
    fn array(value: &[u8]) -> Option<Container<'_>>;

    /// Writes a container that was read, with other items.
    fn write(container: &Container<'_>, pieces: &[Piece<'_>]) -> Vec<u8>;

    fn is_null(value: &[u8]) -> bool;

    fn text(text: &str) -> Vec<u8>;

    fn integer(number: i64) -> Vec<u8>;

    fn boolean(boolean: bool) -> Vec<u8>;

    /// An array of one element.
    fn array_of(element: &[u8]) -> Vec<u8>;

    fn member(name: &str, value: &[u8]) -> Vec<u8>;

    /// Whether kube-apiserver writes a member before another one in a map without a type.
    fn precedes(name: &str, other: &str) -> bool;
}
