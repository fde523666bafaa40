//! Holds nothing: this package only pins others.
