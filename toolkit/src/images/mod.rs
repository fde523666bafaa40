//! Container images without a container daemon: layers, configuration, manifests and indexes are written here, the same
//! bytes from the same input on every machine.
//!
//! A definition (`images/*.toml`) names files and how to run them; [`assemble`] turns it into [`Image`]s; [`layout`]
//! and [`archive`] write these for registries and for `docker load`; [`validate`] recomputes every digest of the
//! result.

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
mod package;
mod reference;
mod roots;
mod timestamp;
mod tree;
pub(crate) mod validate;

pub(crate) use self::{
    assemble::{Assembler, Origin, Variant, check_machine},
    blobs::{Blob, BlobStore},
    definition::{Definition, Definitions},
    digest::{Digest, of_reader as digest_of},
    elf::require_static,
    error::Error,
    image::Image,
    index::Index,
    layer::Layer,
    reference::Reference,
    timestamp::Timestamp,
};
#[cfg(test)]
pub(crate) use elf::program;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Images must come out the same on a machine with no container tool at all.
    #[test]
    fn no_part_of_the_library_starts_programs_or_opens_sockets() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/images");
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = fs_err::read_to_string(&path).unwrap();
            let code = text.split("mod tests {").next().unwrap_or_default();
            for forbidden in ["sluice_shell::process", "std::process", "std::net", "unix::net", "xshell"] {
                assert!(!code.contains(forbidden), "{} uses {forbidden}", path.display());
            }
        }
    }
}
