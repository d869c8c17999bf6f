//! Which folder is taken for the user's own, and what becomes of code where there is none.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Why nothing is kept in `folder`, where modules are loaded all the same and an operator is told once.
fn why_off(folder: &Path) -> String {
    let runtime = node(folder);
    runtime.warm_up().unwrap();
    let told = runtime.take_notices();
    assert_eq!([1, 2].map(|number| answer(&load(&runtime, numbered(number)))), [1, 2]);
    assert_eq!(counts(&runtime), [0, 0, 0, 2]);
    let why = runtime.artifacts().unwrap().off.expect("it is off");
    assert_eq!(told, [Notice::NoArtifacts(why.clone())]);
    assert_eq!(runtime.take_notices(), []);
    why
}

#[test]
fn a_folder_is_made_for_the_user_alone() {
    let folder = folder();
    let inner = folder.path().join("a/b/artifacts");
    fill(&inner, &[numbered(1)]);
    for path in [folder.path().join("a"), folder.path().join("a/b"), inner.clone()] {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700, "{path:?}");
    }
    for file in [inner.join("key"), only_file(&inner)] {
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "{file:?}");
    }
    assert_eq!(fs::metadata(inner.join("key")).unwrap().len(), 32);
}

#[test]
fn a_folder_that_others_can_write_to_is_not_used() {
    let folder = folder();
    let inner = folder.path().join("artifacts");
    fs::create_dir(&inner).unwrap();
    for mode in [0o777, 0o770, 0o707, 0o1777] {
        set_mode(&inner, mode);
        assert_eq!(why_off(&inner), format!("{}: others may write to it", inner.display()));
    }
    set_mode(&inner, 0o755);
    fill(&inner, &[numbered(1)]);
    // Nor one in whose place others can put another.
    set_mode(folder.path(), 0o777);
    assert_eq!(why_off(&inner), format!("{}: others may write to it", folder.path().display()));
    // Unless they cannot touch what is not theirs there.
    set_mode(folder.path(), 0o1777);
    let runtime = node(&inner);
    load(&runtime, numbered(1));
    assert_eq!(counts(&runtime), [1, 0, 0, 0]);
}

#[test]
fn no_symbolic_link_leads_to_it() {
    let folder = folder();
    let real = folder.path().join("real");
    fs::create_dir(&real).unwrap();
    let link = folder.path().join("link");
    symlink(&real, &link).unwrap();
    for path in [link.clone(), link.join("artifacts")] {
        let why = why_off(&path);
        assert!(why.starts_with(&format!("{}: it is a symbolic link", link.display())), "{why}");
    }
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
}

#[test]
fn another_users_folder_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can give folders away");
    }
    let folder = folder();
    let inner = folder.path().join("a/artifacts");
    fs::create_dir_all(&inner).unwrap();
    for path in [inner.clone(), folder.path().join("a")] {
        chown(&path, Some(65_534), None).unwrap();
        assert_eq!(why_off(&inner), format!("{}: it belongs to another user", path.display()));
        chown(&path, Some(0), None).unwrap();
    }
}

#[test]
fn what_is_no_way_to_a_folder_is_said_so() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(why_off(&file), format!("{}: it is no folder", file.display()));
    assert_eq!(why_off(&file.join("below")), format!("{}: it is no folder", file.display()));
    assert_eq!(why_off(Path::new("some/where")), "some/where: the path is not absolute, or has .. in it");
    let up = folder.path().join("a/../b");
    assert_eq!(why_off(&up), format!("{}: the path is not absolute, or has .. in it", up.display()));
}

#[test]
fn a_key_that_is_not_private_or_none_is_not_used() {
    let folder = folder();
    fill(folder.path(), &[numbered(1)]);
    let key = folder.path().join("key");
    set_mode(&key, 0o640);
    assert!(why_off(folder.path()).contains("key: others can read it"));
    set_mode(&key, 0o600);
    let bytes = fs::read(&key).unwrap();
    for length in [0, 31, 33] {
        fs::write(&key, [&bytes[..], b"x"].concat().get(..length).unwrap()).unwrap();
        assert!(why_off(folder.path()).contains("key: it is not a key"));
    }
    // With another one nothing that is there is good any more.
    fs::remove_file(&key).unwrap();
    let runtime = node(folder.path());
    assert_eq!((answer(&load(&runtime, numbered(1))), counts(&runtime)), (1, [0, 1, 0, 1]));
    assert_ne!(fs::read(&key).unwrap(), bytes);
}

#[test]
fn a_folder_that_could_not_be_used_is_tried_again_with_the_next_settings() {
    let folder = folder();
    let inner = folder.path().join("artifacts");
    fs::create_dir(&inner).unwrap();
    set_mode(&inner, 0o777);
    let settings = || cybernetic_wasm_core::runtime::Settings {
        pooling: false,
        artifacts: Some(ArtifactSettings { folder: inner.clone(), most_bytes: 1 << 30, platform: Platform::default() }),
        ..Default::default()
    };
    let runtime = Runtime::new(settings());
    runtime.warm_up().unwrap();
    assert!(runtime.artifacts().unwrap().off.is_some());
    set_mode(&inner, 0o700);
    runtime.adjust(settings());
    runtime.warm_up().unwrap();
    assert_eq!(runtime.artifacts().unwrap().off, None);
}

/// A file system of its own, where this user may have one.
struct Mounted(TempDir);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let folder = folder();
        run("mount", &["-t", "tmpfs", "-o", options, "none", folder.path().to_str()?]).then_some(Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.0.path().to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let ran = std::process::Command::new(program).args(arguments).stderr(std::process::Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

#[test]
fn a_full_disk_keeps_what_is_there_and_is_told_of_once() {
    let Some(disk) = Mounted::new("size=48k,mode=700") else {
        return eprintln!("skipped: nothing can be mounted here");
    };
    let folder = disk.0.path();
    let runtime = node(folder);
    let modules: Vec<_> = (0..8).map(|number| load(&runtime, numbered(number))).collect();
    let kept: Vec<_> = modules.iter().map(|module| runtime.keep(&module.module).is_ok()).collect();
    assert!(kept[0] && !kept[7], "{kept:?}");
    for (number, module) in modules.iter().enumerate() {
        assert_eq!(answer(module), number as i64);
    }
    let notices = runtime.take_notices();
    assert!(matches!(&notices[..], [Notice::ArtifactUnwritten(why)] if why.contains("No space left")), "{notices:?}");
    let whole = files(folder).len();
    assert!(fs::read_dir(folder).unwrap().count() == whole + 1, "nothing half written, and the key");
    let next = node(folder);
    for (number, kept) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
        assert_eq!((answer(&load(&next, numbered(number))), kept), (number as i64, &true));
    }
    assert_eq!(counts(&next), [kept.iter().filter(|kept| **kept).count() as u64, 0, 0, 0]);
}

#[test]
fn a_disk_that_is_only_read_gives_what_it_has() {
    let Some(disk) = Mounted::new("size=1m,mode=700") else { return eprintln!("skipped: nothing can be mounted here") };
    let folder = disk.0.path();
    fill(folder, &[numbered(1)]);
    assert!(run("mount", &["-o", "remount,ro", folder.to_str().unwrap()]));
    let runtime = node(folder);
    assert_eq!([1, 2].map(|number| answer(&load(&runtime, numbered(number)))), [1, 2]);
    assert_eq!(counts(&runtime), [1, 1, 0, 1]);
    eventually("it is not written", || stats(&runtime).unwritten == 1);
    let notices = runtime.take_notices();
    assert!(matches!(&notices[..], [Notice::ArtifactUnwritten(why)] if why.contains("Read-only")), "{notices:?}");
    // Without a key there nothing is.
    let empty = Mounted::new("size=1m,mode=700,ro").unwrap();
    assert!(why_off(empty.0.path()).contains("Read-only"));
}
