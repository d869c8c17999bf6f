//! The command line, the environment, and how a command ends.

use super::*;

#[test]
fn a_command_ends_well_or_not_or_with_a_code() {
    assert!(matches!(run(&["nothing"], nothing()).result, Ok(true)));
    assert!(matches!(run(&["fail"], nothing()).result, Ok(false)));
    for (args, code) in [(["exit", "0"], 0), (["exit", "1"], 1), (["exit-with-code", "7"], 7)] {
        assert!(matches!(run(&args, nothing()).result, Err(Error::Exit(found)) if found == code), "{args:?}");
    }
}

#[test]
fn its_arguments_and_variables_are_those_that_it_was_given() {
    assert_eq!(run(&["arguments", "a b", "", "ü"], stdio()).said(), r#"["a b", "", "ü"]"#);
    let env = vec![("LANG".to_owned(), "C".to_owned()), ("EMPTY".to_owned(), String::new())];
    let said = run(&["environment"], Grants { env, ..stdio() }).said();
    assert_eq!(said, r#"[("LANG", "C"), ("EMPTY", "")] None"#);
    assert_eq!(run(&["environment"], stdio()).said(), "[] None", "nothing of this process");
}

#[test]
fn its_streams_are_a_terminals_where_they_are_said_to_be() {
    assert_eq!(run(&["terminals"], stdio()).said(), "false false");
    assert_eq!(run(&["terminals"], Grants { terminals: [true, false, true], ..stdio() }).said(), "true false");
}

#[test]
fn each_call_counts_as_a_host_call() {
    let within =
        |max_host_calls| ended(start_on(&guest(), &["streams", "50"], stdio(), Limits { max_host_calls, ..limits() }));
    assert_eq!(within(1_000).said(), "50");
    let limit = within(40).limit();
    assert_eq!((limit.limit, limit.allowed), (Limit::HostCalls, 40));
}
