//! Listing directories: complete, stable, and bounded.

use super::raw::{OUT, ROOM, Raw};
use super::*;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const NOMEM: i64 = 48;

/// What a listing says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    next: u64,
    inode: u64,
    filetype: u8,
    name: String,
}

/// What one call gives in so many bytes, and whether that is the end.
fn piece(guest: &Raw, fd: i32, cookie: u64, length: i32) -> (Vec<Entry>, bool) {
    let args = [&i32s(&[fd, ROOM, length])[..], &[Value::I64(cookie as i64), Value::I32(OUT)]].concat();
    assert_eq!(guest.call("fd_readdir", &args), 0);
    let used = guest.peek(OUT) as u32 as usize;
    let words = (0..used.div_ceil(8)).map(|word| guest.peek(ROOM + 8 * word as i32));
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).take(used).collect();
    let (mut rest, mut entries) = (&bytes[..], Vec::new());
    while let Some((head, behind)) = rest.split_at_checked(24) {
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
        let Some((name, behind)) = behind.split_at_checked(word(16) as u32 as usize) else { break };
        let name = String::from_utf8(name.to_vec()).unwrap();
        entries.push(Entry { next: word(0), inode: word(8), filetype: head[20], name });
        rest = behind;
    }
    (entries, used < length as usize)
}

/// All that is listed, in pieces of so many bytes; `each` is done for an entry as soon as it is known.
fn listed(guest: &Raw, fd: i32, length: i32, mut each: impl FnMut(&Entry)) -> Vec<Entry> {
    let (mut all, mut cookie) = (Vec::new(), 0);
    loop {
        let (entries, ended) = piece(guest, fd, cookie, length);
        entries.iter().for_each(&mut each);
        cookie = entries.last().map_or(cookie, |entry| entry.next);
        all.extend(entries);
        if ended {
            return all;
        }
    }
}

fn names(entries: &[Entry]) -> BTreeSet<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn fill(directory: &Path, count: usize, width: usize) {
    for n in 0..count {
        std::fs::write(directory.join(format!("{n:0width$}")), "").unwrap();
    }
}

/// The node's own guests, with nothing else's memory in the count.
fn alone(grants: Grants) -> (Arc<Runtime>, Raw) {
    let runtime = own_node(|_| {});
    let guest = Raw::on(&runtime, "wasi_snapshot_preview1", grants, &[".".into(), "sub".into()]);
    (runtime, guest)
}

#[test]
fn whoever_removes_files_while_listing_meets_every_one_of_them() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 500, 5);
    let guest = Raw::new(directory(dir.path(), true), &[]);
    let entries = listed(&guest, 3, 300, |entry| {
        if entry.filetype == 4 {
            std::fs::remove_file(dir.path().join(&entry.name)).unwrap();
        }
    });
    assert_eq!((entries.len(), names(&entries).len()), (502, 502));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(listed(&guest, 3, 300, |_| {}).len(), 2, "from the beginning it is listed anew");
}

#[test]
fn a_listing_is_what_was_there_when_it_began_however_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 40, 12);
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let guest = Raw::new(directory(dir.path(), true), &[".".into()]);
    let whole = listed(&guest, 3, 10_000, |_| {});
    assert_eq!(whole.len(), 43);
    property(20, (24_i32 + 12..4_000, any::<bool>()), |(length, grows)| {
        let again = listed(&guest, 3, length, |entry| {
            let late = dir.path().join(format!("late-{}", entry.next));
            if grows {
                std::fs::write(late, "").unwrap();
            }
        });
        let late: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        late.iter().filter(|path| path.to_string_lossy().contains("late-")).for_each(|path| {
            std::fs::remove_file(path).unwrap();
        });
        prop_assert_eq!(&names(&again), &names(&whole));
        Ok(())
    });
    // Any place of it can be begun at, and behind its end there is nothing.
    for (at, entry) in whole.iter().enumerate() {
        let (rest, ended) = piece(&guest, 3, entry.next, 10_000);
        assert!(ended);
        assert_eq!(names(&rest), names(&whole[at + 1..]));
    }
    for cookie in [44, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(piece(&guest, 3, cookie, 100), (vec![], true), "{cookie}");
    }
    // Nobody has listed by this descriptor yet.
    let fd = guest.open(".", (0, 2), 0).unwrap();
    assert_eq!(piece(&guest, fd, 3, 10_000).0.len(), 40);
}

#[test]
fn an_entry_is_told_as_a_look_at_it_tells() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 1, 1);
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::os::unix::fs::symlink("0", dir.path().join("link")).unwrap();
    let texts = [".", "0", "sub", "link"].map(String::from);
    let guest = Raw::new(directory(dir.path(), false), &texts);
    let entries = listed(&guest, 3, 1_000, |_| {});
    assert_eq!(names(&entries), BTreeSet::from([".", "..", "0", "sub", "link"]));
    for name in &texts {
        let entry = entries.iter().find(|entry| entry.name == *name).unwrap();
        let args = [&i32s(&[3, 0])[..], &guest.text(name), &i32s(&[ROOM])].concat();
        assert_eq!(guest.call("path_filestat_get", &args), 0);
        assert_eq!((guest.peek(ROOM + 8), guest.peek(ROOM + 16) as u8), (entry.inode, entry.filetype), "{name}");
    }
}

#[test]
fn names_that_are_no_text_are_left_out_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 3, 1);
    for odd in [&b"odd\xff"[..], b"\xc3\x28"] {
        // Some file systems have no such names.
        if std::fs::write(dir.path().join(OsStr::from_bytes(odd)), "").is_err() {
            return;
        }
    }
    let guest = Raw::new(directory(dir.path(), false), &[]);
    assert_eq!(names(&listed(&guest, 3, 1_000, |_| {})), BTreeSet::from([".", "..", "0", "1", "2"]));
}

#[test]
fn a_listing_goes_with_its_descriptor_and_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 100, 200);
    let (runtime, guest) = alone(directory(dir.path(), true));
    let before = runtime.ceilings().memory();
    let [one, other] = [(); 2].map(|()| guest.open(".", (0, 2), 0).unwrap());
    let (first, _) = piece(&guest, one, 0, 1_000);
    let one_listing = runtime.ceilings().memory() - before;
    assert!(one_listing >= 100 * 200, "{one_listing}");
    piece(&guest, other, 0, 1_000);
    assert_eq!(runtime.ceilings().memory(), before + 2 * one_listing);
    piece(&guest, other, 0, 1_000);
    assert_eq!(runtime.ceilings().memory(), before + 2 * one_listing, "it is taken anew, not once more");

    // What was `other` is closed for it.
    assert_eq!(guest.call("fd_renumber", &i32s(&[one, other])), 0);
    assert_eq!(runtime.ceilings().memory(), before + one_listing);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let (rest, _) = piece(&guest, other, first.last().unwrap().next, 60_000);
    assert_eq!(first.len() + rest.len(), 102);
    assert_eq!(guest.call("fd_close", &i32s(&[other])), 0);
    assert_eq!(runtime.ceilings().memory(), before);
}

#[test]
fn what_a_guest_lists_is_bounded_together_and_never_short() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 20_000, 200);
    let (runtime, guest) = alone(directory(dir.path(), true));
    let fds: Vec<i32> = (0..4).map(|_| guest.open(".", (0, 2), 0).unwrap()).collect();
    let list = |fd: i32| {
        let args = [&i32s(&[fd, ROOM, 4_096])[..], &[Value::I64(0), Value::I32(OUT)]].concat();
        guest.call("fd_readdir", &args)
    };
    // Some 4.5 megabytes each.
    assert_eq!(fds.iter().map(|fd| list(*fd)).collect::<Vec<_>>(), [0, 0, 0, NOMEM]);
    assert!(runtime.ceilings().memory() < 40 << 20);
    assert_eq!(guest.call("fd_close", &i32s(&[fds[0]])), 0);
    assert_eq!(list(fds[3]), 0);
    assert_eq!(listed(&guest, fds[3], 60_000, |_| {}).len(), 20_002);
    drop(guest);
    eventually_unused(&runtime);
}

#[test]
fn what_is_no_directory_is_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 1, 1);
    let guest = Raw::new(directory(dir.path(), false), &["0".into()]);
    let file = guest.open("0", (0, 0), 0).unwrap();
    for fd in [0, 1, 2, file, 99, -1] {
        let args = [&i32s(&[fd, ROOM, 100])[..], &[Value::I64(0), Value::I32(OUT)]].concat();
        assert_eq!(guest.told("fd_readdir", &args), (BADF, vec![]), "{fd}");
    }
}
