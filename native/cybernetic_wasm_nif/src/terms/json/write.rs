//! From terms to JSON.

use super::DEEPEST;
use crate::atoms;
use cybernetic_wasm_core::json::{LARGEST, from_external};
use rustler::types::atom::Atom;
use rustler::{Binary, ListIterator, MapIterator, Term, TermType};

/// Why a term is not written.
pub(crate) enum Unwritten {
    /// What is wrong, and the keys and indices that lead there, the innermost first.
    Fault(Vec<String>, String),
    /// It takes more bytes than there may be.
    TooLarge,
}

/// What makes a map a struct.
const STRUCT: &str = "__struct__";

/// The JSON of a term, of at most so many bytes, in which lists and maps are at most so deep in each other.
pub(crate) fn write(term: Term<'_>, most: usize, deepest: u32) -> Result<Vec<u8>, Unwritten> {
    let mut writer = Writer { out: Vec::new(), most, deepest: deepest.min(DEEPEST) };
    writer.value(term, 0)?;
    writer.check()?;
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
    most: usize,
    deepest: u32,
}

fn fault<T>(words: impl Into<String>) -> Result<T, Unwritten> {
    Err(Unwritten::Fault(Vec::new(), words.into()))
}

/// The same one level further out.
fn within(unwritten: Unwritten, step: impl FnOnce() -> String) -> Unwritten {
    match unwritten {
        Unwritten::Fault(mut path, words) => {
            path.push(step());
            Unwritten::Fault(path, words)
        }
        too_large => too_large,
    }
}

impl Writer {
    fn check(&self) -> Result<(), Unwritten> {
        if self.out.len() > self.most { Err(Unwritten::TooLarge) } else { Ok(()) }
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn value(&mut self, term: Term<'_>, depth: u32) -> Result<(), Unwritten> {
        self.check()?;
        match term.get_type() {
            TermType::Binary => self.text(term),
            TermType::Integer => self.integer(term),
            TermType::Float => self.float(term),
            TermType::Atom => self.atom(term),
            TermType::List | TermType::Map if depth >= self.deepest => {
                fault(format!("more than {} lists and maps inside each other", self.deepest))
            }
            TermType::List => self.list(term, depth),
            TermType::Map => self.map(term, depth),
            TermType::Tuple => fault("a tuple, which JSON has not: a list is an array"),
            TermType::Fun => fault("a function"),
            TermType::Pid => fault("a pid"),
            TermType::Ref => fault("a reference"),
            TermType::Port => fault("a port"),
            TermType::Unknown => fault("a term that JSON has not"),
        }
    }

    fn text(&mut self, term: Term<'_>) -> Result<(), Unwritten> {
        let Ok(bytes) = term.decode::<Binary<'_>>() else { return fault("bits that are no bytes") };
        match std::str::from_utf8(&bytes) {
            Ok(_) if bytes.len() > self.most => Err(Unwritten::TooLarge),
            Ok(text) => self.string(text),
            Err(error) => fault(format!("text that is no UTF-8, at byte {}", error.valid_up_to())),
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Unwritten> {
        let written = serde_json::to_writer(&mut self.out, text);
        written.or_else(|error| fault(error.to_string()))
    }

    fn integer(&mut self, term: Term<'_>) -> Result<(), Unwritten> {
        if let Ok(number) = term.decode::<i64>() {
            self.put(&number.to_string());
            return Ok(());
        }
        match from_external(&term.to_binary()) {
            Some(digits) => self.put(&digits),
            None => return fault(format!("an integer of more than {} bits", LARGEST * 8)),
        }
        Ok(())
    }

    fn float(&mut self, term: Term<'_>) -> Result<(), Unwritten> {
        let Ok(number) = term.decode::<f64>() else { return fault("a float that JSON lacks") };
        let written = serde_json::to_writer(&mut self.out, &number);
        written.or_else(|error| fault(error.to_string()))
    }

    fn atom(&mut self, term: Term<'_>) -> Result<(), Unwritten> {
        if term.decode::<Atom>().is_ok_and(|atom| atom == atoms::nil()) {
            self.put("null");
            return Ok(());
        }
        match &*name(term) {
            word @ ("true" | "false") => self.put(word),
            "nan" | "infinity" | "neg_infinity" => return fault("a float that JSON lacks"),
            word => return self.string(word),
        }
        Ok(())
    }

    fn list(&mut self, term: Term<'_>, depth: u32) -> Result<(), Unwritten> {
        // The iterator panics at a tail that is no list.
        if term.list_length().is_err() {
            return fault("an improper list");
        }
        let Ok(items) = term.decode::<ListIterator<'_>>() else { return fault("an improper list") };
        self.put("[");
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.put(",");
            }
            self.value(item, depth + 1).map_err(|error| within(error, || index.to_string()))?;
        }
        self.put("]");
        Ok(())
    }

    fn map(&mut self, term: Term<'_>, depth: u32) -> Result<(), Unwritten> {
        let Some(members) = MapIterator::new(term) else { return fault("a term that JSON has not") };
        self.put("{");
        for (index, (key, value)) in members.enumerate() {
            let name = key_name(term, key)?;
            if index > 0 {
                self.put(",");
            }
            self.string(&name)?;
            self.put(":");
            self.value(value, depth + 1).map_err(|error| within(error, || name))?;
        }
        self.put("}");
        Ok(())
    }
}

/// What a key is written as, which no other key of the map may be.
fn key_name(map: Term<'_>, key: Term<'_>) -> Result<String, Unwritten> {
    if let Ok(bytes) = key.decode::<Binary<'_>>() {
        return match std::str::from_utf8(bytes.as_slice()) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => fault("a key that is no UTF-8"),
        };
    }
    if !key.is_atom() {
        return fault("a key that is neither text nor an atom");
    }
    let name = name(key);
    match &*name {
        STRUCT => fault("a struct: make a map or a text of it"),
        text if map.map_get(text).is_ok() => fault(format!("two keys that are written alike, {text:?}")),
        _ => Ok(name),
    }
}

/// An atom's text. Before OTP 26 an atom beyond ASCII is read by way of the external term format alone:
/// <https://www.erlang.org/doc/apps/erts/erl_ext_dist>.
fn name(atom: Term<'_>) -> String {
    if let Some(text) = atom.atom_to_string().ok().filter(|text| text.is_ascii()) {
        return text;
    }
    match &*atom.to_binary() {
        [131, 119, _, text @ ..] | [131, 118, _, _, text @ ..] => String::from_utf8_lossy(text).into_owned(),
        [131, 115, _, latin @ ..] | [131, 100, _, _, latin @ ..] => {
            latin.iter().map(|byte| char::from(*byte)).collect()
        }
        _ => String::new(),
    }
}
