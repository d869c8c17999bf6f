//! Clocks and random numbers, real and virtual.

use super::*;

/// What a monotonic clock shows first.
const BEGAN: i64 = 1_000_000_000;

#[test]
fn a_clock_that_stands_is_moved_on_by_sleeping_alone_which_takes_no_time() {
    let instance = live(clocks(Clocks::Fixed(1_000)));
    let look = |clock| on(&instance, "look", &i32s(&[clock]));
    assert_eq!([look(0), look(0), look(1), look(1)], [1_000, 1_000, BEGAN, BEGAN]);
    assert_eq!(on(&instance, "sleep", &[Value::I64(500)]), 0);
    assert_eq!([look(0), look(1)], [1_500, BEGAN + 500]);
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(1), Value::I64(BEGAN + 700)]), 0);
    assert_eq!([look(0), look(1)], [1_700, BEGAN + 700]);
    let hour = 3_600_000_000_000;
    let mut execution = crate::support::start_on(&instance, "sleep", &[Value::I64(hour)], limits()).unwrap();
    assert!(matches!(next(&mut execution), Step::Finished(_)), "there is nothing to wait for");
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(0), Value::I64(2 * hour)]), 0);
    assert_eq!([look(0), look(1)], [2 * hour, BEGAN + 2 * hour - 1_000]);
}

#[test]
fn whoever_sleeps_until_a_time_on_a_virtual_clock_gets_there() {
    const DAY: i64 = 86_400_000_000_000;
    for virtual_clock in [Clocks::Fixed(0), Clocks::Fixed(7), Clocks::Stepped(0, 1)] {
        for clock in [0, 1] {
            // In whole milliseconds, in whole microseconds, and exactly.
            for nap in [1_000_000, 1_000, 1] {
                let args = [Value::I32(clock), Value::I64(DAY), Value::I64(nap)];
                let naps = number(run("naps_until", &args, clocks(virtual_clock)));
                assert!((1..2_000).contains(&naps), "{naps} naps of {nap} on {virtual_clock:?}");
            }
        }
    }
}

#[test]
fn a_monotonic_clock_never_shows_nothing_in_any_unit() {
    for shown in [Clocks::Real, Clocks::Fixed(0), Clocks::Fixed(1 << 60), Clocks::Stepped(0, 1)] {
        assert!(number(run("look", &i32s(&[1]), clocks(shown))) >= BEGAN, "{shown:?}");
    }
}

#[test]
fn a_clock_that_steps_moves_with_looks_and_sleeps() {
    let instance = live(clocks(Clocks::Stepped(1_000, 10)));
    let look = |clock| on(&instance, "look", &i32s(&[clock]));
    assert_eq!([look(0), look(0), look(1), look(0)], [1_000, 1_010, BEGAN + 20, 1_030]);
    assert_eq!(on(&instance, "sleep", &[Value::I64(500)]), 0);
    assert_eq!(look(0), 1_540, "a sleep is no look");
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(0), Value::I64(2_000)]), 0);
    assert_eq!(look(0), 2_000);
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(1), Value::I64(BEGAN + 5_000)]), 0);
    assert_eq!([look(1), look(0)], [BEGAN + 5_000, 6_010]);
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(1), Value::I64(0)]), 0);
    assert_eq!(look(0), 7_020, "waiting for what is past takes a moment");
}

#[test]
fn a_clock_does_not_pass_its_end() {
    let instance = live(clocks(Clocks::Stepped(u64::MAX - 5, 10)));
    let look = || on(&instance, "look", &i32s(&[0])) as u64;
    assert_eq!([look(), look(), look()], [u64::MAX - 5, u64::MAX, u64::MAX]);
    assert_eq!(on(&instance, "sleep", &[Value::I64(-1)]), 0);
    assert_eq!(look(), u64::MAX);
}

#[test]
fn the_real_clocks_are_real() {
    let instance = live(clocks(Clocks::Real));
    let look = |clock| on(&instance, "look", &i32s(&[clock]));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    assert!((look(0) - now).abs() < 60_000_000_000);
    let (one, other) = (look(1), look(1));
    assert!(other >= one);
}

#[test]
fn a_seeds_random_numbers_are_the_same_each_time_and_go_on() {
    let drawn = |grants: Grants| {
        let instance = live(grants);
        [(); 3].map(|()| on(&instance, "random", &[]))
    };
    let seeded = |seed| Grants { random: Random::Seeded(seed), ..nothing() };
    let [one, two, three] = drawn(seeded(7));
    assert_eq!(drawn(seeded(7)), [one, two, three]);
    assert!(one != two && two != three && drawn(seeded(8))[0] != one);
    let system = || drawn(Grants { random: Random::System, ..nothing() });
    assert_ne!(system(), system());
}
