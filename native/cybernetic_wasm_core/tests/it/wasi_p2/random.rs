//! Random bytes.

use super::*;

fn random(random: Random) -> Grants {
    Grants { random, ..stdio() }
}

#[test]
fn good_ones_are_a_trap_without_the_grant() {
    for (args, operation) in [
        (["random", "4"], "wasi:random/random#get-random-bytes"),
        (["random-number", ""], "wasi:random/random#get-random-u64"),
    ] {
        let ran = run(&args, stdio());
        assert_eq!(ran.denials, [denial("random", operation, None, "trap")]);
        assert!(ran.trap().message.ends_with("is granted no random"));
    }
}

#[test]
fn those_of_which_nothing_is_promised_are_then_always_the_same() {
    for name in ["insecure", "seed"] {
        let said = run(&[name], stdio()).said();
        assert_eq!(run(&[name], stdio()).said(), said);
        assert_ne!(run(&[name], random(Random::System)).said(), said);
    }
}

#[test]
fn from_a_seed_they_are_the_same_in_each_guest() {
    let said = |seed| run(&["random", "100"], random(Random::Seeded(seed))).said();
    assert_eq!(said(7), said(7));
    assert_ne!(said(7), said(8));
    assert_ne!(
        run(&["random-number"], random(Random::System)).said(),
        run(&["random-number"], random(Random::System)).said()
    );
}

#[test]
fn there_are_as_many_as_were_asked_for_within_what_may_be_passed_at_once() {
    for name in ["random-length", "insecure-length"] {
        for length in ["0", "1", "65537", "3000000"] {
            assert_eq!(run(&[name, length], random(Random::System)).said(), length);
        }
        for length in [(16 << 20) + 1, u64::MAX] {
            let limit = run(&[name, &length.to_string()], random(Random::System)).limit();
            assert_eq!((limit.limit, limit.used), (Limit::Transfer, length));
        }
    }
}
