//! Compares the shim with what upstream's apimachinery made of the same input. The program in `gen` writes the files.

mod base64;
mod objects;
mod selectors;
