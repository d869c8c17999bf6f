//! Names the build: the compiling processes must be of the same as the library that takes code from them.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

fn main() {
    let native = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = BTreeSet::from([native.join("../Cargo.lock"), native.join("../Cargo.toml")]);
    for name in ["artifact", "compiler", "core"] {
        let package = native.join(format!("cybernetic_wasm_{name}"));
        files.insert(package.join("Cargo.toml"));
        gather(&package.join("src"), &mut files);
    }
    let mut hasher = DefaultHasher::new();
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        hasher.write(&std::fs::read(file).unwrap_or_default());
    }
    for variable in ["TARGET", "PROFILE", "OPT_LEVEL"] {
        hasher.write(std::env::var(variable).unwrap_or_default().as_bytes());
    }
    println!("cargo::rustc-env=CYBERNETIC_WASM_BUILD={:016x}", hasher.finish());
}

/// All files below `folder`. The folder itself is named as well, so that a file that comes or goes is noticed.
fn gather(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => gather(&path, files),
            path => {
                files.insert(path);
            }
        }
    }
}
