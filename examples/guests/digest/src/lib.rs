//! SHA-256 over input that the host hands out in pieces, so that no input is too large for the
//! guest's memory.
#![no_std]

use sha2::{Digest, Sha256};

const CHUNK: usize = 16 * 1024;
const HEX: &[u8; 16] = b"0123456789abcdef";

mod env {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub fn read(ptr: *mut u8, len: usize, offset: usize) -> usize;
        pub fn write(ptr: *const u8, len: usize);
    }
}

/// Writes the digest of the whole input as 64 lowercase hexadecimal characters and gives the
/// number of bytes hashed.
#[unsafe(no_mangle)]
pub extern "C" fn sha256() -> usize {
    let mut chunk = [0; CHUNK];
    let mut hasher = Sha256::new();
    let mut hashed = 0;

    loop {
        let bytes = read(&mut chunk, hashed);
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        hashed += bytes.len();
    }

    write(&hex(&hasher.finalize().into()));
    hashed
}

fn read(chunk: &mut [u8], offset: usize) -> &[u8] {
    // SAFETY: the host writes at most `len` bytes from `ptr` on, and both describe `chunk`.
    let count = unsafe { env::read(chunk.as_mut_ptr(), chunk.len(), offset) };
    // A host that claims more than it was offered meets a panic here, not a read out of bounds.
    &chunk[..count]
}

fn write(bytes: &[u8]) {
    // SAFETY: the host only reads, and both arguments describe `bytes`.
    unsafe { env::write(bytes.as_ptr(), bytes.len()) }
}

fn hex(digest: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    text
}

/// A bare trap: formatting a message that nobody could read would triple the module's size.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
