//! The core crate's behaviour, a file each.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod arguments;
mod artifacts;
mod bincode;
mod budgets;
mod cache;
mod components;
mod conformance;
mod errors;
mod exchanges;
mod folders;
mod heap;
mod holdings;
mod hostile;
mod instances;
mod json;
mod levels;
mod limits;
mod linking;
mod manifests;
mod network;
mod plugins;
mod resources;
mod scheduling;
mod settings;
mod shown;
mod snapshots;
mod support;
mod values;
mod wasi;
mod wasi_p2;
