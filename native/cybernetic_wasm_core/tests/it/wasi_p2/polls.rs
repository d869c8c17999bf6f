//! Waiting: without a thread, for input or the time, and until the guest's own time is up.

use super::*;

const HOUR: &str = "3600000000000";

#[test]
fn a_sleeping_guest_is_a_waiting_execution_that_is_polled_twice() {
    let mut execution = begin(&["sleep", "20000000"], clocks(Clocks::Real));
    let mut waits = 0;
    loop {
        match next(&mut execution) {
            Step::Waiting => waits += 1,
            Step::Finished(_) => break,
            other => panic!("{other:?}"),
        }
        wait(&execution);
    }
    assert_eq!(waits, 1);
}

#[test]
fn a_sleeping_guest_ends_with_its_time_or_when_it_is_cancelled() {
    let short = Limits { time: Duration::from_millis(20), ..limits() };
    let limit = ended(start_on(&guest(), &["sleep", HOUR], clocks(Clocks::Real), short)).limit();
    assert_eq!(limit.limit, Limit::Time);

    let cancel = Arc::new(Cancel::default());
    let mut execution = begin(&["sleep", HOUR], clocks(Clocks::Real));
    execution.cancel_by(&cancel);
    assert!(matches!(next(&mut execution), Step::Waiting));
    cancel.cancel();
    assert!(matches!(ended(execution).result, Err(Error::Cancelled)));
}

#[test]
fn many_sleep_at_once() {
    let guest = guest();
    let mut sleeping: Vec<_> =
        (0..50).map(|_| start_on(&guest, &["sleep", "50000000"], clocks(Clocks::Real), limits())).collect();
    for execution in &mut sleeping {
        assert!(matches!(next(execution), Step::Waiting | Step::Finished(_)));
    }
    for execution in sleeping {
        let slept: u64 = ended(execution).said().parse().unwrap();
        assert!(slept >= 50_000_000);
    }
}

#[test]
fn of_input_and_the_time_what_comes_first_is_told() {
    for shown in [Clocks::Real, Clocks::Fixed(0)] {
        let mut execution = begin(&["first", HOUR], clocks(shown));
        execution.set_stdin(Stdin::Asked);
        assert!(matches!(next(&mut execution), Step::WantsInput), "{shown:?}: whoever gives input is asked first");
        assert!(matches!(next(&mut execution), Step::Waiting), "{shown:?}");
        execution.give_input(Some(b"in".to_vec()));
        assert_eq!(ended(execution).said(), "[0] Ok([105, 110])", "{shown:?}");
    }
}

#[test]
fn where_there_is_no_input_yet_a_virtual_clock_passes() {
    let mut execution = begin(&["first", HOUR], clocks(Clocks::Fixed(0)));
    execution.set_stdin(Stdin::Asked);
    assert!(matches!(next(&mut execution), Step::WantsInput));
    execution.give_input(Some(Vec::new()));
    assert!(matches!(next(&mut execution), Step::Finished(_)), "nobody is asked once more");
    assert_eq!(told(Ok(true), &mut execution).said(), "[1] Ok([])");
}

#[test]
fn a_real_clock_goes_on_while_there_is_no_input() {
    let mut execution = begin(&["first", "1000000"], clocks(Clocks::Real));
    execution.set_stdin(Stdin::Asked);
    let said = loop {
        match next(&mut execution) {
            Step::WantsInput => {}
            Step::Waiting => wait(&execution),
            Step::Finished(_) => break told(Ok(true), &mut execution).said(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(said, "[1] Ok([])");
}

#[test]
fn waiting_for_nothing_or_too_much_traps() {
    assert_eq!(run(&["poll-nothing"], stdio()).trap().message, "it waits for nothing");
    let many = Limits { max_resources: 100_000, ..limits() };
    let trap = ended(start_on(&guest(), &["timers", "10001", "1"], clocks(Clocks::Fixed(0)), many)).trap();
    assert_eq!((trap.code, trap.message.as_str()), ("wasi", "it waits for more than 10000 things at once"));
}
