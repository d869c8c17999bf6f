//! The text format: sources come in it or in the binary format.

use crate::error::{LoadError, shown};
use std::borrow::Cow;

const MAGIC: &[u8] = b"\0asm";

/// The binary format, from either.
pub(crate) fn to_binary(source: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    if source.starts_with(MAGIC) {
        return Ok(source.into());
    }
    let text = std::str::from_utf8(source).ok().filter(|text| looks_like_text_format(text));
    let text = text.ok_or_else(|| LoadError::NotWasm { found: describe(source) })?;
    let binary = wat::parse_str(text).map_err(|error| text_error(&error.to_string()))?;
    Ok(binary.into())
}

/// The text format starts with a parenthesis or a comment.
fn looks_like_text_format(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with('(') || text.starts_with(";;")
}

fn describe(source: &[u8]) -> String {
    if source.is_empty() {
        return "the source is empty".to_owned();
    }
    let start: Vec<String> = source.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("it starts with the bytes {}", start.join(" "))
}

/// `wat` tells the place only in its rendered text: a message, then `--> <anon>:LINE:COLUMN`.
fn text_error(rendered: &str) -> LoadError {
    let message = shown::text(rendered.lines().next().unwrap_or(rendered).trim());
    let place = rendered.split("<anon>:").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("");
    let mut numbers = place.split(':').filter_map(|number| number.trim().parse().ok());
    LoadError::InvalidText { line: numbers.next().unwrap_or(1), column: numbers.next().unwrap_or(1), message }
}
