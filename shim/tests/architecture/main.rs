//! The rules of the architecture that imports can break.

mod layers;
mod names;
