//! The functions that Elixir calls, grouped by what they are about.

mod execution;
mod instance;
mod module;
mod runtime;
