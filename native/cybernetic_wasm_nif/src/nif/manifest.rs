//! Manifests: TOML in, a tree of tagged tuples out. Keys and values stay binaries: they are a stranger's words.

use crate::atoms;
use crate::terms::binary;
use cybernetic_wasm_core::toml::{self, Entry, Node, Value};
use rustler::{Binary, Encoder, Env, Term};

/// The tree of a text, as `lib/cybernetic/wasm/sandbox/manifest/` reads it.
#[rustler::nif(schedule = "DirtyCpu")]
fn manifest_parse<'a>(env: Env<'a>, text: Binary<'a>) -> Term<'a> {
    match toml::parse(text.as_slice()) {
        Ok(tree) => (atoms::ok(), node(env, &tree)).encode(env),
        Err(error) => (atoms::invalid(), error.line, error.column, binary(env, error.message.as_bytes())).encode(env),
    }
}

fn node<'a>(env: Env<'a>, node: &Node) -> Term<'a> {
    let (kind, value) = match &node.value {
        Value::String(text) => (atoms::string(), binary(env, text.as_bytes())),
        Value::Integer(value) => (atoms::integer(), value.encode(env)),
        Value::Float(value) => (atoms::float(), float(env, *value)),
        Value::Boolean(value) => (atoms::boolean(), value.encode(env)),
        Value::Datetime(text) => (atoms::datetime(), binary(env, text.as_bytes())),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| self::node(env, item)).collect();
            (atoms::array(), items.encode(env))
        }
        Value::Table(entries) => {
            let entries: Vec<_> = entries.iter().map(|item| entry(env, item)).collect();
            (atoms::table(), entries.encode(env))
        }
    };
    (kind, node.line, value).encode(env)
}

fn entry<'a>(env: Env<'a>, entry: &Entry) -> Term<'a> {
    (binary(env, entry.key.as_bytes()), entry.line, node(env, &entry.node)).encode(env)
}

/// Elixir's floats hold neither NaN nor infinity.
fn float<'a>(env: Env<'a>, value: f64) -> Term<'a> {
    match value.is_finite() {
        true => value.encode(env),
        false => binary(env, value.to_string().to_lowercase().as_bytes()),
    }
}
