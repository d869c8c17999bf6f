//! The functions that Elixir calls, grouped by what they are about.

/// A function in both lanes: the first name is for a normal scheduler, and answers `:dirty` where the work does not belong
/// there; the second is for a dirty one. The body is told which it is.
macro_rules! lanes {
    ($(#[$doc:meta])* fn $inline:ident, $dirty:ident<'a>($env:ident, $lane:ident; $($params:tt)*) -> $result:ty $body:block) => {
        $(#[$doc])*
        #[rustler::nif]
        fn $inline<'a>(env: rustler::Env<'a>, $($params)*) -> $result {
            let ($env, $lane) = (env, cybernetic_wasm_core::lane::Lane::Inline);
            $body
        }

        #[rustler::nif(schedule = "DirtyCpu")]
        fn $dirty<'a>(env: rustler::Env<'a>, $($params)*) -> $result {
            let ($env, $lane) = (env, cybernetic_wasm_core::lane::Lane::Dirty);
            $body
        }
    };
}

mod call;
mod component;
mod execution;
mod folder;
mod http;
mod instance;
mod json;
mod manifest;
mod module;
mod network;
mod resource;
mod runtime;
mod wasi;
