//! Container images without a container daemon: layers, configuration, manifests and indexes are written here, the same
//! bytes from the same input on every machine.
//!
//! A definition (`images/*.toml`) names files and how to run them; [`assemble`] turns it into [`Image`]s; [`layout`] and
//! [`archive`] write these for registries and for `docker load`; [`validate`] recomputes every digest of the result.

pub(crate) mod archive;
mod assemble;
mod blobs;
mod definition;
mod digest;
mod elf;
mod error;
mod image;
mod index;
mod layer;
pub(crate) mod layout;
mod reference;
mod roots;
mod timestamp;
mod tree;
pub(crate) mod validate;

pub(crate) use self::{
    assemble::{Assembler, Variant},
    blobs::BlobStore,
    definition::{Definition, Definitions},
    digest::Digest,
    error::Error,
    image::{Arch, Image},
    index::Index,
    layer::Layer,
    reference::Reference,
    timestamp::Timestamp,
};
