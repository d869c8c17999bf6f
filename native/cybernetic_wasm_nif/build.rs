//! Linker flags that the NIF library needs and that Cargo.toml cannot say.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");

    // The target, not the machine that builds: `cfg!` would ask about the latter.
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        // The BEAM unmaps a NIF library when its module is purged or its upgrade fails. Our reaper,
        // compiler and ticker threads would then return into nothing, so the loader must keep it.
        Ok("linux") => println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete"),
        // The `enif_*` functions are found in the running BEAM when the library is loaded.
        Ok("macos") => {
            println!("cargo::rustc-cdylib-link-arg=-undefined");
            println!("cargo::rustc-cdylib-link-arg=dynamic_lookup");
        }
        _ => {}
    }
}
