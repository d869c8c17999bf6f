//! Plugins for Cybernetic.WASM, by its contract `:bytes`: functions that take bytes and give bytes, or an error.
//!
//! ```ignore
//! cybernetic_plugin::export!(shout, |text| Ok(text.to_ascii_uppercase()));
//! ```
//!
//! A crate with `crate-type = ["cdylib"]` that is built for `wasm32-unknown-unknown` is a plugin: `Plugin.call(plugin, "shout",
//! "hello")`. There is nothing else in this file than what the contract asks for, and it has no dependencies: it may be copied.

use std::mem::ManuallyDrop;

/// What a function is given, and what it gives.
pub type Output = Result<Vec<u8>, String>;

/// Makes room for an input of so many bytes. The host calls it, and then a function.
#[no_mangle]
pub extern "C" fn cw_alloc(length: usize) -> *mut u8 {
    ManuallyDrop::new(Vec::with_capacity(length)).as_mut_ptr()
}

/// Exports a function under a name: it is given the input, `Vec<u8>`, and gives an [`Output`].
#[macro_export]
macro_rules! export {
    ($name:ident, $function:expr) => {
        #[no_mangle]
        pub extern "C" fn $name(at: *mut u8, length: usize) -> u64 {
            // The host has written its input where `cw_alloc` has made room for as much.
            $crate::answer(unsafe { Vec::from_raw_parts(at, length, length) }, $function)
        }
    };
}

/// Where the host finds what a function gives. Nothing comes back of an error: the host ends the call with its text.
pub fn answer(input: Vec<u8>, function: impl FnOnce(Vec<u8>) -> Output) -> u64 {
    match function(input) {
        Ok(output) => {
            let output = ManuallyDrop::new(output);
            (output.as_ptr() as u64) << 32 | output.len() as u64
        }
        Err(text) => unsafe { error(text.as_ptr(), text.len()) },
    }
}

#[link(wasm_import_module = "cybernetic")]
extern "C" {
    fn error(at: *const u8, length: usize) -> !;
}
