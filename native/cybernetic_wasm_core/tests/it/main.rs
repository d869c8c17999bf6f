//! The core crate's behaviour, a file each.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod conformance;
mod linking;
mod support;
