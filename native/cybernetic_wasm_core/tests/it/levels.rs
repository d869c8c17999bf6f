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
    numbered
        .flat_map(|(level, names): (usize, &str)| {
            names.split_whitespace().map(move |name| (name.replace('`', ""), level))
        })
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The module of the crate that a file belongs to: a folder's files belong to its face.
fn module(file: &Path) -> String {
    let inside = file.strip_prefix(SOURCE).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a file names after `crate::`, in `use` lines or elsewhere, but for comments.
fn used(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let paths = code.split("crate::").skip(1);
    let name =
        |path: &str| path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>();
    paths.map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_module_has_its_level_and_uses_only_what_is_below_it() {
    let levels = levels();
    let mut upward = Vec::new();
    let mut modules = BTreeSet::new();
    for file in files(Path::new(SOURCE)) {
        let own = module(&file);
        if own == "lib" {
            continue;
        }
        let level = levels.get(&own).unwrap_or_else(|| panic!("{own} has no level in lib.rs"));
        // What is at the crate's root is re-exported from a module: `crate::Error` is of `error`.
        for other in used(&file).into_iter().filter(|other| *other != own && levels.contains_key(other)) {
            if levels[&other] >= *level {
                upward.push(format!("{} (level {level}) uses {other} ({})", file.display(), levels[&other]));
            }
        }
        modules.insert(own);
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
    assert_eq!(levels.keys().cloned().collect::<BTreeSet<_>>(), modules, "lib.rs lists what there is");
    assert!(used(&Path::new(SOURCE).join("execution/call.rs")).contains("module"), "the uses are found");
}

#[test]
fn nothing_is_imported_by_way_of_the_crates_root() {
    // It would pass the test above unseen, but for `crate::Error`, which is at the bottom.
    for file in files(Path::new(SOURCE)) {
        let others: Vec<_> = used(&file).into_iter().filter(|name| name.starts_with(char::is_uppercase)).collect();
        assert!(!fs::read_to_string(&file).unwrap().contains("crate::{"), "{}: name each module", file.display());
        assert!(module(&file) == "lib" || others.iter().all(|name| name == "Error"), "{}: {others:?}", file.display());
    }
}
