//! The functions that Elixir calls, grouped by what they are about.

mod execution;
mod instance;
mod manifest;
mod module;
mod network;
mod runtime;
