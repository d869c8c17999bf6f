//! Folders that can be relied on, and the lock on one.

use cybernetic_wasm_core::folder::{Lock, NotOurs, Why, open, ours};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A folder that is ours, in one that is sticky.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

fn open_to(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn refused(path: &Path) -> (PathBuf, Why) {
    let NotOurs { path, why } = ours(path, false).unwrap_err();
    (path, why)
}

#[test]
fn a_folder_of_the_users_is_ours_also_in_a_sticky_one() {
    let (_folder, path) = folder();
    ours(&path, false).unwrap();
    ours(&path.join("."), false).unwrap();
}

#[test]
fn folders_that_are_missing_are_made_for_the_user_alone() {
    let (_folder, path) = folder();
    let deep = path.join("one/two");
    assert!(matches!(refused(&deep), (at, Why::Missing) if at == path.join("one")));
    ours(&deep, true).unwrap();
    for made in [path.join("one"), deep] {
        assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700);
    }
}

#[test]
fn a_link_on_the_way_is_named() {
    let (_folder, path) = folder();
    fs::create_dir_all(path.join("real/store")).unwrap();
    symlink(path.join("real"), path.join("link")).unwrap();
    symlink(path.join("real/store"), path.join("real/last")).unwrap();
    for at in ["link/store", "link", "real/last"] {
        let (named, why) = refused(&path.join(at));
        assert!(matches!(why, Why::Link), "{at}: {why}");
        assert!(path.join(at).starts_with(named));
    }
}

#[test]
fn a_folder_that_others_write_to_is_not_ours() {
    let (_folder, path) = folder();
    let inner = path.join("inner");
    fs::create_dir(&inner).unwrap();
    for mode in [0o770, 0o707, 0o1777] {
        open_to(&inner, mode);
        assert!(matches!(refused(&inner), (_, Why::Writable)), "{mode:o}");
    }
    open_to(&inner, 0o755);
    ours(&inner, false).unwrap();
}

#[test]
fn nor_is_one_below_a_folder_that_others_write_to() {
    let (_folder, path) = folder();
    let inner = path.join("inner");
    fs::create_dir(&inner).unwrap();
    open_to(&path, 0o777);
    assert!(matches!(refused(&inner), (at, Why::Writable) if at == path));
    open_to(&path, 0o1777);
    ours(&inner, false).unwrap();
}

/// Many systems give each user a group of its own, and let that write.
#[test]
fn one_that_the_users_own_group_may_write_to_may_lead_to_it() {
    let (_folder, path) = folder();
    let inner = path.join("inner");
    fs::create_dir(&inner).unwrap();
    let is_own = |facts: fs::Metadata| facts.uid() == facts.gid();
    open_to(&path, 0o770);
    match is_own(fs::metadata(&path).unwrap()) {
        true => ours(&inner, false).unwrap(),
        false => assert!(matches!(refused(&inner), (at, Why::Writable) if at == path)),
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, None, Some(12_345)).unwrap();
        assert!(matches!(refused(&inner), (at, Why::Writable) if at == path));
    }
}

#[test]
fn a_folder_is_the_one_that_was_judged_whatever_its_path_leads_to_by_then() {
    let (_folder, path) = folder();
    let (inner, other) = (path.join("inner"), path.join("other"));
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("file"), "").unwrap();
    let opened = open(&inner, false).unwrap();
    fs::rename(&inner, &other).unwrap();
    symlink("/etc", &inner).unwrap();
    assert!(rustix::fs::statat(&opened, "file", rustix::fs::AtFlags::empty()).is_ok());
}

#[test]
fn a_folder_of_somebody_elses_is_not_ours() {
    let (_folder, path) = folder();
    let (foreign, mine) = match rustix::process::geteuid().is_root() {
        true => (path.join("foreign"), true),
        false => (PathBuf::from("/usr"), false),
    };
    if mine {
        fs::create_dir(&foreign).unwrap();
        std::os::unix::fs::chown(&foreign, Some(12_345), None).unwrap();
        fs::create_dir(foreign.join("inner")).unwrap();
        assert!(matches!(refused(&foreign.join("inner")), (at, Why::Foreign) if at == foreign));
    }
    assert!(matches!(refused(&foreign), (at, Why::Foreign) if at == foreign));
}

#[test]
fn a_path_is_absolute_and_does_not_go_up_and_leads_to_a_folder() {
    let (_folder, path) = folder();
    fs::write(path.join("file"), "").unwrap();
    assert!(matches!(refused(Path::new("store")), (_, Why::NotPlain)));
    assert!(matches!(refused(&path.join("../store")), (_, Why::NotPlain)));
    assert!(matches!(refused(&path.join("file")), (_, Why::NotAFolder)));
    assert!(matches!(refused(&path.join("file/store")), (at, Why::NotAFolder) if at == path.join("file")));
    assert!(ours(&path.join("file/store"), true).is_err());
}

#[test]
fn one_at_a_time_has_the_lock_and_it_ends_with_its_value() {
    let (_folder, path) = folder();
    let file = path.join("lock");
    let lock = Lock::take(&file).unwrap().unwrap();
    assert!(Lock::take(&file).unwrap().is_none());
    drop(lock);
    assert!(Lock::take(&file).unwrap().is_some());
}

#[test]
fn a_lock_whose_file_was_removed_is_no_longer_the_one_at_the_path() {
    let (_folder, path) = folder();
    let file = path.join("lock");
    let _old = Lock::take(&file).unwrap().unwrap();
    fs::remove_file(&file).unwrap();
    let _new = Lock::take(&file).unwrap().unwrap();
    assert!(Lock::take(&file).unwrap().is_none());
}

#[test]
fn no_lock_is_taken_through_a_link_or_where_there_is_no_folder() {
    let (_folder, path) = folder();
    symlink(path.join("elsewhere"), path.join("lock")).unwrap();
    assert!(Lock::take(&path.join("lock")).is_err());
    assert!(!path.join("elsewhere").exists());
    assert!(Lock::take(&path.join("none/lock")).is_err());
}
