//! What is granted, what is not, and what is recorded of that.

use super::*;

fn denials(tally: &Tally) -> Vec<(&'static str, &'static str, &'static str, u64)> {
    let told = |denial: &Denial| (denial.capability, denial.operation, denial.errno, denial.count);
    tally.denials.iter().map(told).collect()
}

#[test]
fn what_is_not_granted_is_refused_and_told() {
    for (name, args, errno, denial) in [
        ("random", vec![], NOTCAPABLE, Some(("random", "random_get", "notcapable", 1))),
        ("sleep", vec![Value::I64(1)], NOTCAPABLE, Some(("clocks", "poll_oneoff", "notcapable", 2))),
        ("read", i32s(&[0, 1]), BADF, Some(("stdio", "fd_read", "badf", 1))),
        ("put", i32s(&[1, 65]), BADF, Some(("stdio", "fd_write", "badf", 1))),
        ("put", i32s(&[2, 65]), BADF, Some(("stdio", "fd_write", "badf", 1))),
        // There is no such descriptor, granted or not.
        ("open", i32s(&[0, 0]), BADF, None),
        ("put", i32s(&[3, 65]), BADF, None),
    ] {
        let mut execution = begin(name, &args, nothing());
        assert_eq!(number(Driver::default().values(&mut execution)), -errno, "{name}");
        let tally = execution.tally();
        assert_eq!(denials(&tally), denial.into_iter().collect::<Vec<_>>(), "{name}");
        assert!(pieces(&tally.output).is_empty(), "{name}");
    }
    assert_eq!(number(run("look", &i32s(&[0]), nothing())), -1);
    assert_eq!(number(run("args", &[], nothing())), 1);
}

#[test]
fn standard_streams_are_granted_each_for_itself() {
    for granted in 0..3 {
        let mut grants = nothing();
        grants.stdio[granted] = true;
        let instance = live(grants);
        let found = [
            on(&instance, "read", &i32s(&[0, 1])),
            on(&instance, "put", &i32s(&[1, 65])),
            on(&instance, "put", &i32s(&[2, 65])),
        ];
        let expected: Vec<i64> =
            (0..3).map(|stream| if stream != granted { -BADF } else { i64::from(stream != 0) }).collect();
        assert_eq!(found, expected[..]);
    }
}

#[test]
fn denials_are_counted_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut execution = begin("escapes", &i32s(&[0, 20]), directory(dir.path(), true));
    assert_eq!(number(Driver::default().values(&mut execution)), -PERM);
    let told = execution.tally().denials;
    let paths: Vec<_> = told.iter().map(|denial| denial.detail.clone().unwrap()).collect();
    assert_eq!(paths, (1..=20).rev().map(|n| format!("../{n:03}")).collect::<Vec<_>>());
    assert!(told.iter().all(|denial| (denial.operation, denial.errno, denial.count) == ("path_open", "perm", 1)));
    assert!(execution.tally().denials.is_empty(), "they are taken once");

    // The same a hundred times is one; different ones are kept up to a hundred, and then only counted.
    let instance = live(directory(dir.path(), true));
    let mut execution = crate::support::start_on(&instance, "escapes", &i32s(&[0, 999]), limits()).unwrap();
    Driver::default().values(&mut execution).unwrap();
    let told = execution.tally().denials;
    assert_eq!(told.len(), 100);
    assert_eq!(told.iter().map(|denial| denial.count).sum::<u64>(), 999);
    let last = told.last().unwrap();
    assert_eq!((last.operation, &last.detail, last.count), ("others", &None, 900));
}

#[test]
fn a_directory_that_is_granted_to_read_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("001"), "content").unwrap();
    let instance = live(directory(dir.path(), false));
    let fd = on(&instance, "open_to_read", &i32s(&[1]));
    assert!(fd > 3);
    assert_eq!(on(&instance, "read", &i32s(&[fd as i32, 100])), 7);
    assert!(on(&instance, "open", &i32s(&[1, 0])) < 0, "not to write");
    assert!(on(&instance, "open", &i32s(&[2, CREATE])) < 0);
    assert!(on(&instance, "put", &i32s(&[fd as i32, 65])) < 0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read(dir.path().join("001")).unwrap(), b"content");
}

#[test]
fn nothing_but_files_and_directories_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("001");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    // Opening one would keep the thread until somebody opens its other end.
    let mut execution = begin("open_to_read", &i32s(&[1]), directory(dir.path(), true));
    assert_eq!(number(Driver::default().values(&mut execution)), -PERM);
    assert_eq!(denials(&execution.tally()), [("filesystem", "path_open", "perm", 1)]);
}

#[test]
fn a_directory_that_is_not_there_is_the_callers_mistake() {
    let gone = PathBuf::from("/no/such/directory");
    let error = run("args", &[], directory(&gone, true)).unwrap_err();
    let Error::Call(CallError::NoDirectory { host, guest, detail }) = error else { panic!("{error}") };
    assert_eq!((host.as_str(), guest.as_str()), ("/no/such/directory", "/data"));
    assert!(detail.contains("No such file"), "{detail}");
}

#[test]
fn a_scratch_directory_is_the_guests_own_and_goes_with_it() {
    let name = format!("{:03}", std::process::id() % 1_000);
    let number = i32s(&[name.parse().unwrap(), CREATE]);
    let scratch = || Grants { scratch: Some("/tmp".into()), ..stdio() };
    let before = scratch_files(&name);
    let instance = live(scratch());
    let fd = on(&instance, "open", &number);
    assert_eq!(on(&instance, "put", &i32s(&[fd as i32, 65])), 1);
    let found: Vec<_> = scratch_files(&name).into_iter().filter(|path| !before.contains(path)).collect();
    assert!(found.iter().any(|path| std::fs::read(path).is_ok_and(|content| content == b"A")), "{found:?}");
    instance.close().unwrap();
    drop(instance);
    eventually("the directory is gone", || found.iter().all(|path| !path.exists()));

    // Also that of a guest which is cut off.
    let hour = Value::I64(3_600_000_000_000);
    let runtime = own(|_| {});
    let module = load(&runtime, GUEST);
    let grants = Grants { clocks: Clocks::Real, ..scratch() };
    let mut execution = start(&module, ("sleep", &[hour]), grants, limits());
    assert!(matches!(next(&mut execution), Step::Waiting));
    assert_eq!(runtime.ceilings().files(), 2, "the guest's, and one to remove it by");
    drop(execution);
    eventually_unused(&runtime);
    eventually("no open file", || runtime.ceilings().files() == 0);
}

fn scratch_files(name: &str) -> Vec<PathBuf> {
    let found = std::fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok);
    let ours = found.filter(|entry| entry.file_name().to_string_lossy().starts_with("cybernetic-wasm-"));
    ours.map(|entry| entry.path().join(name)).filter(|path| path.exists()).collect()
}
