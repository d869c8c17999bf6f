//! TOML as a tree that knows where each key and value stands. What the keys mean is for Elixir: this reads any TOML.
//!
//! A manifest comes from whoever wrote the module. Its size and nesting are bounded, and it is parsed on a thread with a
//! large stack: dotted keys in inline tables nest eighty times as deep as the parser's own bound on brackets, and the
//! tree of that is dropped by recursion.

use std::ops::Range;
use std::thread;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Bytes of a manifest. The longest sensible one has a few thousand.
pub const MOST_BYTES: usize = 65_536;

/// Tables and arrays inside each other. A manifest needs four.
pub const MOST_NESTED: usize = 16;

/// Eighty brackets times eighty dots, at some hundred bytes of stack for each.
const STACK: usize = 16 << 20;

/// A value, and the line that it begins on.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// From 1.
    pub line: usize,
    /// What stands there.
    pub value: Value,
}

/// A TOML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    String(String),
    /// An integer.
    Integer(i64),
    /// A float, which may be infinite or not a number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A date, a time or both, as written in RFC 3339.
    Datetime(String),
    /// An array, also one of tables.
    Array(Vec<Node>),
    /// A table, its entries in the order of the text.
    Table(Vec<Entry>),
}

/// A key of a table with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, without quotes.
    pub key: String,
    /// The line of the key.
    pub line: usize,
    /// Its value.
    pub node: Node,
}

/// Where a text is not TOML, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// Reads a text in TOML.
pub fn parse(text: &[u8]) -> Result<Node, SyntaxError> {
    let source = Source::new(text);
    if text.len() > MOST_BYTES {
        return Err(source.error(MOST_BYTES, format!("more than {MOST_BYTES} bytes")));
    }
    let decoded = std::str::from_utf8(text).map_err(|error| source.error(error.valid_up_to(), "not UTF-8"))?;
    thread::scope(|scope| {
        let parser = thread::Builder::new().name("wasm-manifest".into()).stack_size(STACK);
        let parsed = parser.spawn_scoped(scope, || document(&source, decoded)).map(|thread| thread.join());
        match parsed {
            Ok(Ok(document)) => document,
            Ok(Err(_panic)) => Err(source.error(0, "the TOML parser panicked")),
            Err(error) => Err(source.error(0, format!("no thread to parse on: {error}"))),
        }
    })
}

fn document(source: &Source<'_>, text: &str) -> Result<Node, SyntaxError> {
    let document = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        source.error(start, error.message())
    })?;
    let value = Value::Table(source.entries(document.get_ref(), 0)?);
    Ok(Node { line: 1, value })
}

/// The text, as positions in it are looked up.
struct Source<'t> {
    text: &'t [u8],
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'t> Source<'t> {
    fn new(text: &'t [u8]) -> Self {
        let text = text.get(..=MOST_BYTES).unwrap_or(text);
        let breaks = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { text, lines }
    }

    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    fn error(&self, at: usize, message: impl Into<String>) -> SyntaxError {
        let line = self.line(at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or_default();
        let column = String::from_utf8_lossy(before).chars().count() + 1;
        SyntaxError { line, column, message: message.into() }
    }

    fn node(&self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, SyntaxError> {
        let span = value.span();
        let value = match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(datetime) => Value::Datetime(datetime.to_string()),
            DeValue::Integer(integer) => {
                self.integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok(), &span)?
            }
            DeValue::Float(float) => self.float(float.as_str(), &span)?,
            DeValue::Array(_) | DeValue::Table(_) if depth == MOST_NESTED => {
                return Err(
                    self.error(span.start, format!("more than {MOST_NESTED} tables or arrays inside each other"))
                );
            }
            DeValue::Array(items) => {
                Value::Array(items.iter().map(|item| self.node(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(self.entries(table, depth + 1)?),
        };
        Ok(Node { line: self.line(span.start), value })
    }

    fn integer(&self, value: Option<i64>, span: &Range<usize>) -> Result<Value, SyntaxError> {
        value.map(Value::Integer).ok_or_else(|| self.error(span.start, "the integer does not fit 64 bits"))
    }

    /// A number too large for a float parses as infinite; only one that is written so is.
    fn float(&self, text: &str, span: &Range<usize>) -> Result<Value, SyntaxError> {
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() || text.ends_with("inf") || text.ends_with("nan") => Ok(Value::Float(value)),
            _ => Err(self.error(span.start, "the float does not fit 64 bits")),
        }
    }

    /// The parser sorts the keys; whoever reads a manifest wants its first mistake first.
    fn entries(&self, table: &DeTable<'_>, depth: usize) -> Result<Vec<Entry>, SyntaxError> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let line = self.line(key.span().start);
            Ok(Entry { key: key.get_ref().to_string(), line, node: self.node(value, depth)? })
        };
        entries.into_iter().map(entry).collect()
    }
}
