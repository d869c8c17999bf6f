//! What a guest chose stands in errors as far as it is short.

use cybernetic_wasm_core::error::shown::{bytes, name, text};

#[test]
fn what_is_short_is_shown_whole() {
    for short in ["", "process", "naïve", &"a".repeat(200)] {
        assert_eq!([name(short), bytes(short.as_bytes()), text(short)], [short; 3]);
    }
}

#[test]
fn what_is_long_is_cut_between_two_characters_and_says_so() {
    for letter in ["a", "ï", "€", "𝄞"] {
        for before in 0..4 {
            let long = "-".repeat(before) + &letter.repeat(1_001);
            for (shown, most) in [(name(&long), 200), (bytes(long.as_bytes()), 200), (text(&long), 1_000)] {
                let beginning = shown.strip_suffix('…').unwrap();
                assert!(long.starts_with(beginning));
                assert!((most - 3..=most).contains(&beginning.len()), "{} bytes", beginning.len());
            }
        }
    }
}

#[test]
fn what_is_no_text_is_shown_as_far_as_it_is() {
    assert_eq!(bytes(b"a\xffb"), "a\u{fffd}b");
    assert!(bytes(&[0xff; 1_000]).len() <= 203);
}
