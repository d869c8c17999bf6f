//! Waiting for clocks and input, without a thread.

use super::*;

fn sleeping(time: Duration, limits: Limits) -> Execution {
    start(&guest(), ("sleep", &[Value::I64(time.as_nanos() as i64)]), clocks(Clocks::Real), limits)
}

/// Counts how often a listener is called.
fn counting(count: &Arc<AtomicUsize>) -> cybernetic_wasm_core::Listener {
    let count = Arc::clone(count);
    Box::new(move || _ = count.fetch_add(1, SeqCst))
}

#[test]
fn a_sleeping_guest_is_polled_when_it_starts_and_when_it_wakes() {
    let (time, began) = (Duration::from_millis(100), Instant::now());
    let mut execution = sleeping(time, limits());
    assert!(matches!(next(&mut execution), Step::Waiting));
    let calls = Arc::new(AtomicUsize::new(0));
    assert!(execution.listen(counting(&calls)).is_some());
    eventually("a wake-up", || calls.load(SeqCst) > 0);
    assert!(began.elapsed() >= time);
    let Step::Finished(Product::Values(values)) = next(&mut execution) else { panic!("it sleeps on") };
    assert_eq!(number::<Error>(Ok(values)), 0, "the event is the clock's");
    assert_eq!(calls.load(SeqCst), 1);
    let usage = execution.usage();
    assert!(usage.wall >= time && usage.slice < usage.wall, "sleeping is no time on a scheduler: {usage:?}");
}

#[test]
fn looking_at_a_sleeping_guest_does_not_wake_it() {
    let (time, began) = (Duration::from_millis(100), Instant::now());
    let mut execution = sleeping(time, limits());
    for _ in 0..10 {
        assert!(matches!(next(&mut execution), Step::Waiting));
    }
    assert!(Driver::default().values(&mut execution).is_ok());
    assert!(began.elapsed() >= time);
}

#[test]
fn many_sleep_at_once_on_one_thread_with_two_polls_each() {
    const GUESTS: usize = 300;
    let module = load(shared(), GUEST);
    // Long enough for all of them to be asleep before the first wakes, unless the machine is very slow: then that one is
    // still polled no more often.
    let time = Duration::from_secs(2);
    let mut guests: Vec<_> = (0..GUESTS)
        .map(|_| start(&module, ("sleep", &[Value::I64(time.as_nanos() as i64)]), clocks(Clocks::Real), limits()))
        .collect();
    let mut polls = 0;
    for guest in &mut guests {
        assert!(matches!(next(guest), Step::Waiting));
        polls += 1;
    }
    for guest in &mut guests {
        wait(guest);
        assert!(matches!(next(guest), Step::Finished(_)));
        polls += 1;
    }
    assert_eq!(polls, 2 * GUESTS);
}

#[test]
fn a_sleep_ends_with_the_deadline() {
    let time = Duration::from_secs(2);
    let mut execution = sleeping(Duration::from_secs(3_600), Limits { time, ..limits() });
    assert!(matches!(next(&mut execution), Step::Waiting));
    wait(&execution);
    match next(&mut execution) {
        Step::Failed(Error::Limit(LimitError { limit: Limit::Time, allowed: 2_000, used, .. })) => {
            assert!(used >= 2_000)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sleep_is_cancelled_and_its_listener_called() {
    let cancel = Arc::new(Cancel::default());
    let mut execution = sleeping(Duration::from_secs(3_600), Limits { time: PATIENCE, ..limits() });
    execution.cancel_by(&cancel);
    assert!(matches!(next(&mut execution), Step::Waiting));
    let calls = Arc::new(AtomicUsize::new(0));
    assert!(execution.listen(counting(&calls)).is_some());
    cancel.cancel();
    assert_eq!(calls.load(SeqCst), 1);
    assert!(matches!(next(&mut execution), Step::Failed(Error::Cancelled)));
}

#[test]
fn a_sleeping_guest_that_is_dropped_leaves_nothing_behind() {
    let runtime = own(|_| {});
    let module = load(&runtime, GUEST);
    for _ in 0..20 {
        let hour = Value::I64(3_600_000_000_000);
        let mut execution = start(&module, ("sleep", &[hour]), clocks(Clocks::Real), limits());
        assert!(matches!(next(&mut execution), Step::Waiting));
    }
    eventually_unused(&runtime);
}

#[test]
fn no_sleep_is_too_long_or_too_short_to_understand() {
    assert_eq!(number(run("sleep", &[Value::I64(0)], clocks(Clocks::Real))), 0);
    // As unsigned numbers these are centuries.
    for time in [i64::MAX, -1, i64::MIN] {
        let mut execution = begin("sleep", &[Value::I64(time)], clocks(Clocks::Real));
        assert!(matches!(next(&mut execution), Step::Waiting), "{time}");
    }
    // What is past is due.
    for clock in [0, 1] {
        assert_eq!(number(run("sleep_until", &[Value::I32(clock), Value::I64(0)], clocks(Clocks::Real))), 0);
    }
}

#[test]
fn input_ends_a_sleep_and_a_sleep_the_waiting_for_input() {
    let hour = Value::I64(3_600_000_000_000);
    for (pieces, event) in
        [(vec![Some(b"x".to_vec())], 1), (vec![None], 1), (vec![Some(vec![]), Some(b"x".to_vec())], 1)]
    {
        let mut execution = begin("stdin_or_sleep", std::slice::from_ref(&hour), clocks(Clocks::Real));
        execution.set_stdin(Stdin::Asked);
        for piece in pieces {
            assert!(asks(&mut execution));
            execution.give_input(piece);
        }
        let Step::Finished(Product::Values(values)) = next(&mut execution) else { panic!("it waits on") };
        assert_eq!(number::<Error>(Ok(values)), event, "the event is the input's");
    }
    // Whoever has nothing to give may let the time pass.
    let mut execution = begin("stdin_or_sleep", &[Value::I64(50_000_000)], clocks(Clocks::Real));
    execution.set_stdin(Stdin::Asked);
    assert!(asks(&mut execution));
    assert!(matches!(next(&mut execution), Step::Waiting));
    wait(&execution);
    let Step::Finished(Product::Values(values)) = next(&mut execution) else { panic!("it waits on") };
    assert_eq!(number::<Error>(Ok(values)), 0, "the event is the clock's");
}

#[test]
fn on_a_virtual_clock_who_gives_input_says_whether_time_passes() {
    let hour = 3_600_000_000_000;
    for (piece, event) in [(Some(b"x".to_vec()), 1), (None, 1), (Some(vec![]), 0)] {
        let instance = live(clocks(Clocks::Fixed(0)));
        let mut execution =
            crate::support::start_on(&instance, "stdin_or_sleep", &[Value::I64(hour)], limits()).unwrap();
        execution.set_stdin(Stdin::Asked);
        assert!(asks(&mut execution));
        execution.give_input(piece);
        let Step::Finished(Product::Values(values)) = next(&mut execution) else { panic!("it waits on") };
        assert_eq!(number::<Error>(Ok(values)), event);
        drop(execution);
        assert_eq!(on(&instance, "look", &i32s(&[0])), if event == 0 { hour } else { 0 });
    }
}

#[test]
fn a_poll_takes_so_many_subscriptions_and_no_more() {
    // Without descriptor 0 a subscription of zeros is a clock's, which is due.
    for (count, errno) in [(0, INVAL), (1, 0), (4_096, 0), (4_097, INVAL), (-1, INVAL)] {
        assert_eq!(number(run("poll_many", &i32s(&[count]), clocks(Clocks::Real))), -errno, "{count}");
    }
}

/// What it does next is as long as the beginning of a call: a step of a normal scheduler bounds that, but neither work on files
/// nor one instruction that fills a large memory.
#[test]
fn a_small_guest_without_files_may_wake_on_a_normal_scheduler() {
    let asleep = |guest: &str, grants: Grants| {
        let hour = Value::I64(3_600_000_000_000);
        let mut execution = start(&load(shared(), guest), ("sleep", &[hour]), grants, limits());
        assert!(!execution.may_wake_inline(), "it has not slept yet");
        assert!(matches!(next(&mut execution), Step::Waiting));
        execution
    };
    let real = || clocks(Clocks::Real);
    assert!(asleep(GUEST, real()).may_wake_inline());

    let place = tempfile::tempdir().unwrap();
    let files = Grants { clocks: Clocks::Real, ..directory(place.path(), false) };
    assert!(!asleep(GUEST, files).may_wake_inline(), "it has files");

    let large = format!("{} (memory 40))", GUEST.trim_end().strip_suffix(')').unwrap());
    assert!(!asleep(&large, real()).may_wake_inline(), "it is large");
}

#[test]
fn a_guest_that_has_slept_is_one_of_those_that_have_not_until_it_sleeps_again() {
    // A machine that is busy may take longer than a short sleep does to where it begins to wait.
    let asleep = (0..40).find_map(|power| {
        let mut execution = begin("sleep", &[Value::I64(1_000 << power)], clocks(Clocks::Real));
        matches!(next(&mut execution), Step::Waiting).then_some(execution)
    });
    let mut execution = asleep.unwrap();
    wait(&execution);
    assert!(matches!(next(&mut execution), Step::Finished(_)));
    assert!(!execution.may_wake_inline());
}

/// Whatever order they begin in: the shortest is not always the first, nor the first to be waited for.
#[test]
fn sleeps_of_many_lengths_end_at_their_times() {
    let began = Instant::now();
    let guests = [40, 1, 25, 10, 3].map(|millis| {
        let mut execution = sleeping(Duration::from_millis(millis), limits());
        let step = next(&mut execution);
        (Duration::from_millis(millis), step, execution)
    });
    for (time, mut step, mut execution) in guests {
        if matches!(step, Step::Waiting) {
            wait(&execution);
            step = next(&mut execution);
        }
        assert!(began.elapsed() >= time);
        assert!(matches!(step, Step::Finished(_)));
    }
}
