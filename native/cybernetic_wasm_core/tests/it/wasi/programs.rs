//! Programs as compilers make them, what they exit with, and what they must not point at.

use super::*;

/// Runs a program to its end and gives its exit code and output.
fn run_program(module: &Loaded, args: &[&str], stdin: &[u8], grants: Grants) -> (u32, Output) {
    let grants = Grants { args: args.iter().map(ToString::to_string).collect(), ..grants };
    let mut execution = start(module, ("_start", &[]), grants, limits());
    execution.set_stdin(Stdin::Bytes(stdin.to_vec()));
    let code = match Driver::default().values(&mut execution) {
        Ok(_) => 0,
        Err(Error::Exit(code)) => code,
        Err(error) => panic!("{error}"),
    };
    (code, execution.tally().output)
}

#[test]
fn programs_run_as_they_are() {
    let (code, output) = run_program(&fixture("hello.wasm"), &["hello"], b"", stdio());
    assert_eq!((code, text(&output, Stream::Stdout).as_str()), (0, "hello, world\n"));

    let tool = fixture("tool.wasm");
    let (code, output) = run_program(&tool, &["tool", "args", "one", "two"], b"", stdio());
    assert_eq!((code, text(&output, Stream::Stdout).as_str()), (0, "one\ntwo\n"));
    let (code, output) = run_program(&tool, &["tool", "upper"], b"some text\n", stdio());
    assert_eq!((code, text(&output, Stream::Stdout).as_str()), (0, "SOME TEXT\n"));
    let (code, output) = run_program(&tool, &["tool", "stderr", "oh"], b"", stdio());
    assert_eq!((code, text(&output, Stream::Stdout).as_str(), text(&output, Stream::Stderr).as_str()), (0, "", "oh\n"));
    assert_eq!(run_program(&tool, &["tool", "exit", "7"], b"", stdio()).0, 7);

    let report = fixture("rust_report.wasm");
    let grants = Grants { random: Random::Seeded(1), ..clocks(Clocks::Fixed(0)) };
    let lines = b"{\"level\":\"info\"}\n{\"level\":\"warn\"}\n{\"level\":\"info\"}\n";
    let (code, output) = run_program(&report, &["report", "--sleep", "1000000"], lines, grants);
    assert_eq!(
        (code, text(&output, Stream::Stdout).as_str()),
        (0, "info 2\nwarn 1\nlang none\nslept true\nyear 1970\n"),
        "a sleep takes the guest's time and nobody else's"
    );
}

#[test]
fn an_exit_ends_the_guest_with_any_code() {
    for code in [0, 1, 125, 126, 255, 256, 1 << 31, u32::MAX] {
        let mut execution = begin("quit", &i32s(&[code as i32]), stdio());
        let error = Driver::default().values(&mut execution).unwrap_err();
        assert_eq!(error, Error::Exit(code));
        assert_eq!((error.kind(), execution.tally().output.of(Stream::Stdout).to_vec()), ("exit", b"q".to_vec()));
    }
}

#[test]
fn a_bad_pointer_is_a_trap() {
    match run("bad_pointer", &[], stdio()).unwrap_err() {
        Error::Trap(trap) => {
            assert_eq!(trap.code, "wasi");
            assert!(trap.message.starts_with("a WASI function was given a bad pointer"), "{trap}");
        }
        other => panic!("{other}"),
    }
}
