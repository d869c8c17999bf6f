//! Clocks, real and virtual, and sleeping.

use super::*;

#[test]
fn without_the_grant_looking_and_sleeping_trap() {
    for (args, operation) in [
        (["wall", ""], "wasi:clocks/wall-clock#now"),
        (["monotonic", ""], "wasi:clocks/monotonic-clock#now"),
        (["timers", "1"], "wasi:clocks/monotonic-clock#subscribe-duration"),
    ] {
        let ran = run(&args, stdio());
        assert_eq!(ran.denials, [denial("clocks", operation, None, "trap")]);
        let trap = ran.trap();
        assert_eq!(trap.code, "wasi");
        assert!(trap.message.contains(operation), "{}", trap.message);
    }
}

#[test]
fn a_real_clock_runs() {
    let slept: u64 = run(&["sleep", "2000000"], clocks(Clocks::Real)).said().parse().unwrap();
    assert!(slept >= 2_000_000);
    let shown: u64 = run(&["monotonic"], clocks(Clocks::Real)).said().parse().unwrap();
    assert!(shown >= 1_000_000_000, "it never shows nothing");
}

#[test]
fn a_clock_that_stands_is_moved_on_by_sleeping_alone_which_takes_no_time() {
    let fixed = || clocks(Clocks::Fixed(1_700_000_000_000_000_007));
    let shown = "Datetime { seconds: 1700000000, nanoseconds: 7 } Datetime { seconds: 0, nanoseconds: 1 }";
    assert_eq!(run(&["wall"], fixed()).said(), shown);
    assert_eq!(run(&["monotonic"], fixed()).said(), "1000000000");
    let hour = 3_600_000_000_000_u64;
    let mut execution = begin(&["sleep", &hour.to_string()], fixed());
    assert!(matches!(next(&mut execution), Step::Finished(_)), "there is nothing to wait for");
    assert_eq!(told(Ok(true), &mut execution).said(), hour.to_string(), "by no more than was slept");
    assert!(matches!(run(&["sleep-until-now"], fixed()).result, Ok(true)));
}

#[test]
fn a_clock_that_steps_moves_with_looks_also_at_what_waits_for_it() {
    let looks: u64 = run(&["look", "1000"], clocks(Clocks::Stepped(0, 10))).said().parse().unwrap();
    assert_eq!(looks, 100);
}

#[test]
fn of_several_times_the_first_comes_first() {
    for shown in [Clocks::Real, Clocks::Fixed(0), Clocks::Stepped(0, 1)] {
        assert_eq!(run(&["timers", "3", "100000000"], clocks(shown)).said(), "[0]", "{shown:?}");
    }
    assert_eq!(run(&["timers", "3", "0"], clocks(Clocks::Fixed(0))).said(), "[0, 1, 2]");
}
