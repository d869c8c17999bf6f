//! Clocks and random numbers, real and virtual.

use super::*;

#[test]
fn a_clock_that_stands_stands_and_sleeping_takes_no_time() {
    let instance = live(clocks(Clocks::Fixed(1_000)));
    let look = |clock| on(&instance, "look", &i32s(&[clock]));
    assert_eq!([look(0), look(0), look(1), look(1)], [1_000, 1_000, 0, 0]);
    let mut execution = crate::support::start_on(&instance, "sleep", &[Value::I64(i64::MAX)], limits()).unwrap();
    assert!(matches!(next(&mut execution), Step::Finished(_)), "there is nothing to wait for");
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(0), Value::I64(i64::MAX)]), 0);
    assert_eq!([look(0), look(1)], [1_000, 0]);
}

#[test]
fn a_clock_that_steps_moves_with_looks_and_sleeps() {
    let instance = live(clocks(Clocks::Stepped(1_000, 10)));
    let look = |clock| on(&instance, "look", &i32s(&[clock]));
    assert_eq!([look(0), look(0), look(1), look(0)], [1_000, 1_010, 20, 1_030]);
    assert_eq!(on(&instance, "sleep", &[Value::I64(500)]), 0);
    assert_eq!(look(0), 1_540, "a sleep is no look");
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(0), Value::I64(2_000)]), 0);
    assert_eq!(look(0), 2_000);
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(1), Value::I64(5_000)]), 0);
    assert_eq!([look(1), look(0)], [5_000, 6_010]);
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
