//! How what a guest chose stands in errors and denials: its names can have as many bytes as its module, and an error has many.

/// The longest name that is shown whole, in bytes.
const LONGEST_NAME: usize = 200;

/// The same of somebody else's words, which may have names in them.
const LONGEST_TEXT: usize = 1_000;

/// A name: of what is too long its beginning, and a sign that there is more.
pub fn name(name: &str) -> String {
    cut(name, LONGEST_NAME)
}

/// Bytes that should be a name, as [`name`] shows them.
pub fn bytes(bytes: &[u8]) -> String {
    // A character of more than one byte at the end is whole.
    let beginning = bytes.get(..LONGEST_NAME + 4).unwrap_or(bytes);
    name(&String::from_utf8_lossy(beginning))
}

/// What a validator, a parser or an operating system says.
pub fn text(text: &str) -> String {
    cut(text, LONGEST_TEXT)
}

fn cut(text: &str, longest: usize) -> String {
    match text.len() <= longest {
        true => text.to_owned(),
        false => format!("{}…", &text[..text.floor_char_boundary(longest)]),
    }
}
