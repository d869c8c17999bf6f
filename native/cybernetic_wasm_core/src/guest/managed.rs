//! Objects of AssemblyScript's runtime: a header, and behind it the object. Classes have numbers; only the first are the same in
//! all modules. See <https://www.assemblyscript.org/runtime.html>.

/// From a header's last two words, the number of the class and the object's size, to the object.
pub(super) const HEADER: u64 = 8;

const ARRAY_BUFFER: u64 = 1;
/// The class of strings.
pub(super) const STRING: u64 = 2;

// The fields of a typed array and of an array: after the buffer where the data is, and how many bytes; an array has room for
// more than it holds, and tells that apart.
pub(super) const DATA: u64 = 4;
pub(super) const BYTES: u64 = 8;
pub(super) const LENGTH: u64 = 12;
const VIEW_SIZE: u64 = 12;
const ARRAY_SIZE: u64 = 16;

/// Where an object has its bytes.
pub(super) enum Object {
    /// In itself.
    Own,
    /// Elsewhere: a typed array.
    View,
    /// Elsewhere: an array.
    Array,
}

impl Object {
    /// By the number of its class, and its size.
    pub(super) fn of(id: u64, size: u64) -> Option<Self> {
        match (id, size) {
            (ARRAY_BUFFER | STRING, _) => Some(Object::Own),
            (_, VIEW_SIZE) => Some(Object::View),
            (_, ARRAY_SIZE) => Some(Object::Array),
            _ => None,
        }
    }
}

/// UTF-16 as UTF-8. Half a pair of surrogates is a character of three bytes that no text holds, so that whoever wants text sees
/// that it is none.
pub(super) fn utf8(bytes: &[u8]) -> Vec<u8> {
    let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let mut text = Vec::with_capacity(bytes.len() / 2);
    for letter in char::decode_utf16(units) {
        match letter {
            Ok(letter) => text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(half) => text.extend(surrogate(half.unpaired_surrogate())),
        }
    }
    text
}

/// As UTF-8 would have it: see <https://simonsapin.github.io/wtf-8/>.
fn surrogate(unit: u16) -> [u8; 3] {
    [0xE0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 0x3F) as u8, 0x80 | (unit & 0x3F) as u8]
}
