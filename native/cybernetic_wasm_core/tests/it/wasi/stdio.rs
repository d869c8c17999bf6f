//! Standard input and output: whose they are, and how they are handed over.

use super::*;

#[test]
fn input_that_is_there_is_read_and_then_its_end() {
    let mut execution = begin("echo", &i32s(&[3]), stdio());
    execution.set_stdin(Stdin::Bytes(b"seven b".to_vec()));
    assert_eq!(number(Driver::default().values(&mut execution)), 7);
    assert_eq!(text(&execution.tally().output, Stream::Stdout), "seven b");
    assert_eq!(number(run("echo", &i32s(&[3]), stdio())), 0, "without any it is at its end");
}

#[test]
fn input_is_asked_for_when_the_guest_has_read_all_and_reads_on() {
    let mut execution = begin("take", &i32s(&[2, 3]), stdio());
    execution.set_stdin(Stdin::Asked);
    assert!(asks(&mut execution), "nothing is there");
    execution.give_input(Some(b"abc".to_vec()));
    assert!(asks(&mut execution), "two reads are served by one piece, the second with what is left of it");
    execution.give_input(Some(b"defgh".to_vec()));
    let Step::Finished(Product::Values(values)) = next(&mut execution) else { panic!("it asks for more") };
    assert_eq!(number::<Error>(Ok(values)), 2 + 1 + 2);
}

#[test]
fn a_piece_of_nothing_is_no_end_and_the_end_is_one_for_good() {
    let mut execution = begin("take", &i32s(&[9, 4]), stdio());
    execution.set_stdin(Stdin::Asked);
    for _ in 0..5 {
        assert!(asks(&mut execution));
        execution.give_input(Some(Vec::new()));
    }
    assert!(asks(&mut execution));
    execution.give_input(Some(b"abc".to_vec()));
    assert!(asks(&mut execution));
    execution.give_input(None);
    assert_eq!(
        number(Driver::default().values(&mut execution)),
        3,
        "two more reads are told of the end, and ask nobody"
    );
}

#[test]
fn a_guest_that_waits_for_input_is_not_asked_for_twice() {
    let mut execution = begin("take", &i32s(&[9, 1]), stdio());
    execution.set_stdin(Stdin::Asked);
    assert!(asks(&mut execution));
    for _ in 0..3 {
        assert!(matches!(next(&mut execution), Step::Waiting), "a driver that has no answer yet may wait");
    }
    execution.give_input(Some(b"late".to_vec()));
    assert_eq!(number(Driver::default().values(&mut execution)), 4);
}

#[test]
fn what_is_read_is_the_same_however_it_comes() {
    let module = guest();
    let strategy = (
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        1_i32..60,
        prop::collection::vec(prop::sample::select(&[Lane::Inline, Lane::Dirty][..]), 1..10),
        any::<bool>(),
    );
    property(60, strategy, |(pieces, size, lanes, streamed)| {
        let mut execution = start(&module, ("echo", &i32s(&[size])), stdio(), limits());
        execution.set_stdin(Stdin::Asked);
        if streamed {
            execution.hand_over_output();
        }
        let (mut left, mut lane) = (pieces.iter(), lanes.iter().cycle());
        let values = loop {
            match execution.step(*lane.next().unwrap()) {
                Step::Finished(Product::Values(values)) => break values,
                Step::WantsInput => execution.give_input(left.next().cloned()),
                Step::Yielded | Step::Output => {}
                other => panic!("{other:?}"),
            }
        };
        let whole = pieces.concat();
        prop_assert_eq!(number::<Error>(Ok(values)), whole.len() as i64);
        prop_assert_eq!(execution.tally().output.of(Stream::Stdout).to_vec(), whole);
        Ok(())
    });
}

// Output

#[test]
fn output_keeps_its_order_between_streams_and_its_pieces_are_the_guests_only_there() {
    let mut execution = begin("words", &[], stdio());
    Driver::default().values(&mut execution).unwrap();
    let output = execution.tally().output;
    assert_eq!(pieces(&output), [(Stream::Stdout, &b"ab"[..]), (Stream::Stderr, b"c"), (Stream::Stdout, b"d")]);
    assert_eq!(text(&output, Stream::Stdout), "abd");
    assert!(pieces(&execution.tally().output).is_empty(), "it is taken once");
    assert_eq!(execution.usage().output, 4);
}

#[test]
fn output_that_is_handed_over_ends_the_step_after_each_write() {
    let mut execution = begin("words", &[], stdio());
    execution.hand_over_output();
    let expected = [(Stream::Stdout, b"a"), (Stream::Stdout, b"b"), (Stream::Stderr, b"c"), (Stream::Stdout, b"d")];
    for piece in expected {
        assert!(matches!(next(&mut execution), Step::Output), "{piece:?}");
        assert_eq!(pieces(&execution.tally().output), [(piece.0, &piece.1[..])]);
    }
    assert!(matches!(next(&mut execution), Step::Finished(_)));
}

#[test]
fn streams_are_taken_one_by_one_and_the_others_stay() {
    let mut execution = begin("words", &[], stdio());
    execution.hand_over_output();
    let mut errors = Vec::new();
    while matches!(next(&mut execution), Step::Output) {
        errors.extend(execution.take_output_of(&[Stream::Stderr]).of(Stream::Stderr).to_vec());
    }
    assert_eq!(errors, b"c");
    assert_eq!(text(&execution.tally().output, Stream::Stdout), "abd");
}

#[test]
fn what_was_written_before_a_failure_is_there() {
    let mut execution = begin("words_then_trap", &[], stdio());
    assert!(matches!(Driver::default().values(&mut execution), Err(Error::Trap(_))));
    assert_eq!(text(&execution.tally().output, Stream::Stdout), "a");
}

#[test]
fn output_is_limited_together() {
    for (max_output, written) in [(4, "abcd"), (3, "abc"), (1, "a"), (0, "")] {
        let mut execution = start(&guest(), ("words", &[]), stdio(), Limits { max_output, ..limits() });
        match Driver::default().values(&mut execution) {
            Ok(_) => assert_eq!(max_output, 4),
            Err(error) => {
                assert_eq!(error, LimitError::new(Limit::Output, max_output, max_output + 1).into())
            }
        }
        let output = execution.tally().output;
        let whole: Vec<u8> = output.pieces().flat_map(|(_, piece)| piece.to_vec()).collect();
        assert_eq!(whole, written.as_bytes());
    }
}

#[test]
fn captured_output_counts_as_memory_of_the_node_until_it_is_taken() {
    let runtime = own_node(|node| node.max_total_memory = 2_000_000);
    let module = load(&runtime, GUEST);
    let unlimited = Limits { max_output: u64::MAX, ..limits() };
    let mut execution = start(&module, ("flood", &[]), stdio(), unlimited.clone());
    match Driver::default().values(&mut execution).unwrap_err() {
        Error::Limit(error) => assert_eq!(error.limit, Limit::TotalMemory),
        other => panic!("{other}"),
    }
    assert!(execution.tally().output.of(Stream::Stdout).to_vec().len() < 2_000_000);
    drop(execution);
    eventually_unused(&runtime);

    // One that is read as it is written may write as much as it likes, also where nobody takes what it says beside that.
    for name in ["flood", "complain_then_flood"] {
        let mut execution = start(&module, (name, &[]), stdio(), unlimited.clone());
        execution.hand_over_output();
        let mut taken = 0;
        while taken < 20_000_000 {
            match next(&mut execution) {
                Step::Output => taken += execution.take_output_of(&[Stream::Stdout]).of(Stream::Stdout).to_vec().len(),
                other => panic!("{name}: {other:?}"),
            }
        }
        drop(execution);
        eventually_unused(&runtime);
    }
}
