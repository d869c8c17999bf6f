//! Quotas and bounds on files.

use super::*;

#[test]
fn what_is_written_counts_and_what_is_not_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let instance = live(Grants { quota: 4_096 + 1_000, ..directory(dir.path(), true) });
    let fd = on(&instance, "open", &i32s(&[1, CREATE])) as i32;
    let write = |bytes| on(&instance, "write", &i32s(&[fd, bytes]));
    assert_eq!(write(600), 600);
    assert_eq!(write(401), -DQUOT, "one too many");
    assert_eq!(write(400), 400, "what was refused has used nothing up");
    assert_eq!(write(1), -DQUOT);
    assert_eq!(std::fs::metadata(dir.path().join("001")).unwrap().len(), 1_000);
    assert_eq!(on(&instance, "open", &i32s(&[2, CREATE])), -DQUOT, "a file counts by itself");
    assert!(on(&instance, "open", &i32s(&[1, CREATE])) > 0, "one that is there does not");
}

#[test]
fn growing_a_file_counts_as_writing_and_shrinking_gives_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let instance = live(Grants { quota: 4_096 + 1_000, ..directory(dir.path(), true) });
    let fd = on(&instance, "open", &i32s(&[1, CREATE])) as i32;
    let size = |bytes| on(&instance, "size", &[Value::I32(fd), Value::I64(bytes)]);
    assert_eq!([size(600), size(1_001), size(i64::MAX), size(-1)], [0, -DQUOT, -DQUOT, -DQUOT]);
    assert_eq!([size(0), size(400), size(401)], [0, 0, -DQUOT]);
}

#[test]
fn a_call_takes_so_many_pieces_and_no_more() {
    // Each piece is work that no fuel pays for.
    let dir = tempfile::tempdir().unwrap();
    let instance = live(directory(dir.path(), true));
    let fd = on(&instance, "open", &i32s(&[1, CREATE])) as i32;
    for name in ["write_pieces", "write_pieces_at", "read_pieces", "read_pieces_at"] {
        for (count, errno) in [(0, 0), (1, 0), (1_024, 0), (1_025, INVAL), (-1, INVAL)] {
            assert_eq!(on(&instance, name, &i32s(&[fd, count])), errno, "{name} of {count}");
        }
    }
}

#[test]
fn what_cannot_be_opened_counts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let instance = live(Grants { quota: 4_096, max_open: 1, ..directory(dir.path(), true) });
    for n in 0..50 {
        assert!(on(&instance, "open", &i32s(&[n, 0])) < 0, "there is none");
        assert_eq!(on(&instance, "escape", &i32s(&[n])), -PERM);
        assert_eq!(on(&instance, "open_long", &i32s(&[4_097])), -NAMETOOLONG);
    }
    assert!(on(&instance, "open", &i32s(&[1, CREATE])) > 0);
    assert_eq!(on(&instance, "open", &i32s(&[1, 0])), -MFILE);
}

#[test]
fn a_guest_may_have_so_many_files_open_and_so_may_a_node() {
    let dir = tempfile::tempdir().unwrap();
    // A directory that is given is an open file, too.
    let runtime = own_node(|node| node.max_open_files = 5);
    let guests: Vec<_> =
        (0..2).map(|_| live_on(&runtime, Grants { max_open: 2, ..directory(dir.path(), true) })).collect();
    assert_eq!(runtime.ceilings().files(), 2);
    let open = |guest: usize| on(&guests[guest], "open", &i32s(&[1, CREATE]));
    let first = open(0);
    assert!(first > 0 && open(0) > 0);
    assert_eq!(open(0), -MFILE, "its own bound");
    assert!(open(1) > 0);
    assert_eq!(open(1), -NFILE, "the node's");
    assert_eq!(on(&guests[0], "close", &i32s(&[first as i32])), 0);
    assert!(open(1) > 0);

    let module = load(&runtime, GUEST);
    let mut execution = start(&module, ("args", &[]), directory(dir.path(), true), limits());
    match Driver::default().values(&mut execution).unwrap_err() {
        Error::Limit(error) => assert_eq!(error.limit, Limit::OpenFiles),
        other => panic!("{other}"),
    }
    drop((guests, execution));
    eventually("no open file", || runtime.ceilings().files() == 0);
}

#[test]
fn what_is_listed_counts_as_memory_of_the_node() {
    let dir = tempfile::tempdir().unwrap();
    // Room for the guest's own half a mebibyte, and for a short listing.
    let runtime = own_node(|node| node.max_total_memory = 800_000);
    let instance = live_on(&runtime, directory(dir.path(), false));
    for _ in 0..10 {
        assert!(on(&instance, "list", &i32s(&[400_000])) > 0, "each time it is taken anew, and the last one kept");
    }
    for n in 0..3_000 {
        std::fs::write(dir.path().join(format!("{n:0100}")), "").unwrap();
    }
    match crate::support::call_on(&instance, "list", &i32s(&[400_000])).unwrap_err() {
        Error::Limit(error) => assert_eq!(error.limit, Limit::TotalMemory),
        other => panic!("{other}"),
    }
    drop(instance);
    eventually_unused(&runtime);
}
