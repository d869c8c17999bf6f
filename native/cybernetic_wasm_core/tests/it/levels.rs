//! The levels of the crate, as `lib.rs` lists them: what is on one uses only what is below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// Modules by their level, from the list under "Levels" in the crate's documentation.
fn levels() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(format!("{SOURCE}/lib.rs")).unwrap();
    let list = text.split("# Levels").nth(1).unwrap().lines().map(|line| line.trim_start_matches("//! "));
    let numbered =
        list.filter_map(|line| line.split_once(". ").and_then(|(at, names)| Some((at.parse().ok()?, names))));
    let mut levels = BTreeMap::new();
    for (level, names) in numbered {
        for name in names.split_whitespace().map(|name| name.replace('`', "")) {
            assert!(levels.insert(name.clone(), level).is_none(), "{name} is listed twice");
        }
    }
    levels
}

/// A file of the crate but its root.
struct File {
    path: PathBuf,
    /// The module at the crate's root that the file belongs to.
    module: String,
    /// How deep below that.
    depth: usize,
    /// Without comments.
    code: String,
}

fn files() -> Vec<File> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let mut paths = Vec::new();
    below(Path::new(SOURCE), &mut paths);
    paths.retain(|path| path != &Path::new(SOURCE).join("lib.rs"));
    paths.into_iter().map(file).collect()
}

fn file(path: PathBuf) -> File {
    let inside = path.strip_prefix(SOURCE).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    let (module, depth) = (first.trim_end_matches(".rs").to_owned(), inside.components().count() - 1);
    let text = fs::read_to_string(&path).unwrap();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    File { path, module, depth, code }
}

impl File {
    /// The names that the file has after `crate::`, in `use` lines or elsewhere.
    fn used(&self) -> BTreeSet<String> {
        let name = |path: &str| {
            path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>()
        };
        self.code.split("crate::").skip(1).map(name).collect()
    }
}

#[test]
fn every_module_has_its_level_and_uses_only_what_is_below_it() {
    let levels = levels();
    let mut upward = Vec::new();
    let mut modules = BTreeSet::new();
    for file in files() {
        let level = levels.get(&file.module).unwrap_or_else(|| panic!("{} has no level in lib.rs", file.module));
        for other in file.used().iter().filter(|other| *other != &file.module) {
            // The one that is at the crate's root for all: it is of `error`.
            let other = if other == "Error" { "error" } else { other };
            // Anything else would come by way of the root, past its level: `crate::{`, `crate::*` and what is re-exported.
            let used =
                levels.get(other).unwrap_or_else(|| panic!("{}: name the module of {other:?}", file.path.display()));
            if used >= level && other != file.module {
                upward.push(format!("{} (level {level}) uses {other} ({used})", file.path.display()));
            }
        }
        modules.insert(file.module);
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
    assert_eq!(levels.keys().cloned().collect::<BTreeSet<_>>(), modules, "lib.rs lists what there is");
    let call = file(Path::new(SOURCE).join("execution/call.rs"));
    assert!(call.used().contains("module"), "the uses are found");
}

#[test]
fn a_path_leads_out_of_its_module_by_the_crates_name_alone() {
    for File { path, depth, code, .. } in files() {
        let up = format!("{}super", "super::".repeat(depth));
        assert!(!code.contains(&up), "{}: {up} leaves the module", path.display());
        assert!(!code.contains("extern crate"), "{}", path.display());
    }
}
