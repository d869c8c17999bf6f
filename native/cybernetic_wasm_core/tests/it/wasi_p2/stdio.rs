//! Standard input and output.

use super::*;

fn fed(args: &[&str], stdin: Stdin) -> Execution {
    let mut execution = begin(args, stdio());
    execution.set_stdin(stdin);
    execution
}

#[test]
fn what_is_written_goes_to_the_stream_that_it_is_written_to() {
    let ran = run(&["stderr", "oh"], stdio());
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "oh"));
    assert_eq!(run(&["write", "300000"], stdio()).said().len(), 300_000);
    assert_eq!(run(&["zeroes", "5"], stdio()).said().as_bytes(), [0; 6]);
}

#[test]
fn input_that_is_there_is_read_and_then_its_end() {
    for how in ["echo", "splice"] {
        assert_eq!(ended(fed(&[how], Stdin::Bytes(b"seven b".to_vec()))).said(), "seven b", "{how}");
        assert_eq!(run(&[how], stdio()).said(), "", "{how}: without any it is at its end");
    }
    assert_eq!(ended(fed(&["skip", "3"], Stdin::Bytes(b"seven".to_vec()))).said(), "Ok(3)");
    assert_eq!(run(&["skip", "3"], stdio()).said(), r#"Err("closed")"#);
}

#[test]
fn input_is_asked_for_when_the_guest_has_read_all_and_reads_on() {
    let mut execution = fed(&["echo"], Stdin::Asked);
    for piece in ["one ", "", "two"] {
        assert!(matches!(next(&mut execution), Step::WantsInput));
        execution.give_input(Some(piece.as_bytes().to_vec()));
    }
    assert!(matches!(next(&mut execution), Step::WantsInput));
    assert!(matches!(next(&mut execution), Step::Waiting), "it is not asked for twice");
    execution.give_input(None);
    assert_eq!(ended(execution).said(), "one two");
}

#[test]
fn reading_what_is_not_there_yet_waits_for_nothing() {
    let mut execution = fed(&["read"], Stdin::Asked);
    assert!(matches!(next(&mut execution), Step::WantsInput));
    execution.give_input(Some(b"late".to_vec()));
    assert_eq!(ended(execution).said(), "Ok([]) false Ok([108, 97, 116, 101])");
}

#[test]
fn output_is_handed_over_after_each_write_where_somebody_wants_it() {
    let mut execution = fed(&["echo"], Stdin::Asked);
    execution.hand_over_output();
    for piece in ["a", "b"] {
        assert!(matches!(next(&mut execution), Step::WantsInput));
        execution.give_input(Some(piece.as_bytes().to_vec()));
        assert!(matches!(next(&mut execution), Step::Output));
        assert_eq!(execution.take_output_of(&[Stream::Stdout]).of(Stream::Stdout), piece.as_bytes());
    }
    assert!(matches!(next(&mut execution), Step::WantsInput));
}

#[test]
fn what_is_written_is_bounded_and_given_back() {
    let runtime = own(|_| {});
    let bounded = Limits { max_output: 250_000, ..limits() };
    let limit = ended(start_on(&guest_on(&runtime), &["write", "1000000"], stdio(), bounded)).limit();
    assert_eq!((limit.limit, limit.allowed), (Limit::Output, 250_000));
    eventually_unused(&runtime);
}

#[test]
fn a_stream_that_is_not_granted_is_closed() {
    let ran = run(&["echo"], Grants { stdio: [false, true, true], ..nothing() });
    assert!(matches!(ran.result, Ok(true)), "{ran:?}");
    assert_eq!(ran.denials, [denial("stdio", "wasi:io/streams#read", Some("stdin"), "closed")]);
    let ran = run(&["arguments"], nothing());
    assert!(matches!(ran.result, Ok(true)), "{ran:?}");
    assert_eq!(ran.denials, [denial("stdio", "wasi:io/streams#write", Some("stdout"), "closed")]);
    assert_eq!(ran.stdout, "");
}
