//! How what a guest chose stands in errors and denials: its names can have as many bytes as its module, and an error has many.

use std::fmt::Write;

/// The longest name that is shown whole, in bytes.
const LONGEST_NAME: usize = 200;

/// The longest name of a function that is looked into: as compilers write them, names say what their types are, too.
const LONGEST_MANGLED: usize = 1_000;

/// How deep that may go, on a scheduler's small stack.
const DEEPEST_MANGLED: u32 = 48;

/// The same of somebody else's words, which may have names in them.
const LONGEST_TEXT: usize = 1_000;

/// A name: of what is too long its beginning, and a sign that there is more.
pub fn name(name: &str) -> String {
    cut(name, LONGEST_NAME)
}

/// A function's name: what Rust's and C++'s compilers made of it, as it stands in the source.
pub fn function(mangled: &str) -> String {
    if !mangled.starts_with('_') || mangled.len() > LONGEST_MANGLED {
        return name(mangled);
    }
    let mut demangled = Beginning(String::new());
    // Whoever wrote all of it, or as much as there is room for.
    let known = match rustc_demangle::try_demangle(mangled) {
        // Without the hash of its crate.
        Ok(rust) => write!(demangled, "{rust:#}").is_ok() || demangled.is_full(),
        Err(_) => demangle_cpp(mangled, &mut demangled).is_some() || demangled.is_full(),
    };
    if known { name(&demangled.0) } else { name(mangled) }
}

fn demangle_cpp(mangled: &str, into: &mut Beginning) -> Option<()> {
    let parsing = cpp_demangle::ParseOptions::default().recursion_limit(DEEPEST_MANGLED);
    let writing = cpp_demangle::DemangleOptions::default().recursion_limit(DEEPEST_MANGLED);
    cpp_demangle::Symbol::new_with_options(mangled, &parsing).ok()?.structured_demangle(into, &writing).ok()
}

/// The beginning of a text, a little more than is shown: a short name may stand for one of any length.
struct Beginning(String);

impl Beginning {
    fn is_full(&self) -> bool {
        self.0.len() > LONGEST_NAME
    }
}

impl Write for Beginning {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = (LONGEST_NAME + 4).saturating_sub(self.0.len());
        self.0.push_str(&more[..more.floor_char_boundary(room)]);
        if self.is_full() { Err(std::fmt::Error) } else { Ok(()) }
    }
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
