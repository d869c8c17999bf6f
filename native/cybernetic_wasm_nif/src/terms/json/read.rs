//! From JSON to terms, without a step between.

use super::DEEPEST;
use crate::atoms;
use crate::terms::binary;
use cybernetic_wasm_core::json::{LONGEST, Numbers, is_integer, to_external};
use rustler::{Encoder, Env, Term};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

const NONE: &str = "no JSON";

/// The term of a text in which arrays and objects are at most so deep in each other; or what is wrong, and at which byte.
pub(crate) fn read<'a>(env: Env<'a>, text: &[u8], deepest: u32) -> Result<Term<'a>, (String, usize)> {
    let text = std::str::from_utf8(text).map_err(|error| ("no UTF-8".to_owned(), error.valid_up_to()))?;
    let mut reader = Reader { env, numbers: Numbers::new(text), deepest: deepest.min(DEEPEST), fault: None };
    let mut parser = serde_json::Deserializer::from_str(text);
    let read = Part { reader: &mut reader, depth: 0 }.deserialize(&mut parser);
    let ended = read.and_then(|term| parser.end().map(|()| term));
    ended.map_err(|error| (reader.fault.unwrap_or_else(|| NONE.to_owned()), place(text, &error)))
}

/// The parser tells a line and a column, from 1.
fn place(text: &str, error: &serde_json::Error) -> usize {
    if error.is_eof() {
        return text.len();
    }
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1)
}

struct Reader<'a, 't> {
    env: Env<'a>,
    numbers: Numbers<'t>,
    deepest: u32,
    /// What is wrong, where the text is JSON and is not taken.
    fault: Option<String>,
}

impl<'a> Reader<'a, '_> {
    fn refuse<E: serde::de::Error>(&mut self, words: String) -> E {
        self.fault = Some(words);
        E::custom(NONE)
    }

    /// The next number that is none of 64 bits.
    fn number<E: serde::de::Error>(&mut self) -> Result<Term<'a>, E> {
        let Some(written) = self.numbers.next() else { return Err(E::custom(NONE)) };
        if written.len() > LONGEST {
            return Err(self.refuse(format!("a number of more than {LONGEST} characters")));
        }
        let number = match is_integer(written) {
            true => self.large(written),
            false => written.parse::<f64>().ok().filter(|float| float.is_finite()).map(|float| float.encode(self.env)),
        };
        number.ok_or_else(|| E::custom(NONE))
    }

    fn large(&self, written: &str) -> Option<Term<'a>> {
        self.env.binary_to_term(&to_external(written)?).map(|(term, _)| term)
    }
}

/// One value, so deep in others.
struct Part<'r, 'a, 't> {
    reader: &'r mut Reader<'a, 't>,
    depth: u32,
}

impl<'a, 't> Part<'_, 'a, 't> {
    /// One inside it.
    fn inner(&mut self) -> Part<'_, 'a, 't> {
        Part { reader: &mut *self.reader, depth: self.depth + 1 }
    }

    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        let deepest = self.reader.deepest;
        match self.depth < deepest {
            true => Ok(()),
            false => Err(self.reader.refuse(format!("more than {deepest} objects or arrays inside each other"))),
        }
    }
}

impl<'de, 'a> DeserializeSeed<'de> for Part<'_, 'a, '_> {
    type Value = Term<'a>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Term<'a>, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de, 'a> Visitor<'de> for Part<'_, 'a, '_> {
    type Value = Term<'a>;

    fn expecting(&self, words: &mut fmt::Formatter<'_>) -> fmt::Result {
        words.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Term<'a>, E> {
        Ok(atoms::nil().encode(self.reader.env))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Term<'a>, E> {
        Ok(value.encode(self.reader.env))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Term<'a>, E> {
        Ok(value.encode(self.reader.env))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Term<'a>, E> {
        Ok(value.encode(self.reader.env))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Term<'a>, E> {
        self.reader.number()
    }

    fn visit_str<E>(self, text: &str) -> Result<Term<'a>, E> {
        Ok(binary(self.reader.env, text.as_bytes()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Term<'a>, A::Error> {
        self.enter()?;
        let mut terms = Vec::new();
        while let Some(term) = items.next_element_seed(self.inner())? {
            terms.push(term);
        }
        Ok(terms.encode(self.reader.env))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Term<'a>, A::Error> {
        self.enter()?;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        while let Some(key) = members.next_key_seed(Key(self.reader.env))? {
            keys.push(key);
            values.push(members.next_value_seed(self.inner())?);
        }
        // It takes no key twice.
        let map = Term::map_from_term_arrays(self.reader.env, &keys, &values);
        map.map_err(|_| self.reader.refuse("a key that is there already".to_owned()))
    }
}

struct Key<'a>(Env<'a>);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Term<'a>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Term<'a>, D::Error> {
        parser.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Term<'a>;

    fn expecting(&self, words: &mut fmt::Formatter<'_>) -> fmt::Result {
        words.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Term<'a>, E> {
        Ok(binary(self.0, text.as_bytes()))
    }
}
