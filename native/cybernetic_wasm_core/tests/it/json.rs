//! Numbers of JSON as they are written, and integers of any size.

use cybernetic_wasm_core::json::{LARGEST, Numbers, from_external, is_integer, to_external};
use proptest::prelude::*;
use serde_json::Value;

/// The floats that serde_json gives of a text, in order.
fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Number(number) if number.is_f64() => vec![number.as_f64().unwrap()],
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        Value::Object(members) => members.values().flat_map(floats).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_numbers_that_a_parser_gives_as_floats_come_as_they_are_written() {
    let text = r#"[1, -0, 1.50, "2.5\"3.5", {"4.5": 1e2}, 18446744073709551615, 18446744073709551616, -9223372036854775808,
        -9223372036854775809, "\\", 0.1, null, -1E-2]"#;
    let written: Vec<&str> = Numbers::new(text).collect();
    assert_eq!(written, ["-0", "1.50", "1e2", "18446744073709551616", "-9223372036854775809", "0.1", "-1E-2"]);
    let integers: Vec<bool> = written.iter().map(|number| is_integer(number)).collect();
    assert_eq!(integers, [true, false, false, true, true, false, false]);
}

proptest! {
    #[test]
    fn there_are_as_many_as_the_parser_gives(
        numbers in proptest::collection::vec(r#"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?|"[^"\\\x00-\x1f]*(\\\\|\\")?""#, 0..20)
    ) {
        let text = format!("[{}]", numbers.join(","));
        let parsed: Value = serde_json::from_str(&text).unwrap();
        let floats = floats(&parsed);
        let written: Vec<f64> = Numbers::new(&text).map(|number| number.parse().unwrap()).collect();
        prop_assert_eq!(floats.len(), written.len());
        for (float, written) in floats.iter().zip(&written) {
            prop_assert!((float - written).abs() <= float.abs() * 1e-12);
        }
    }

    #[test]
    fn integers_come_back(digits in "-?[1-9][0-9]{0,300}") {
        let external = to_external(&digits).unwrap();
        prop_assert_eq!(from_external(&external).unwrap(), digits);
    }
}

#[test]
fn an_integer_is_as_erlang_has_it() {
    assert_eq!(to_external("18446744073709551616").unwrap(), [131, 110, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(to_external("-258").unwrap(), [131, 110, 2, 1, 2, 1]);
    assert_eq!(from_external(&[131, 110, 0, 0]).unwrap(), "0");
}

#[test]
fn one_that_is_too_large_is_none() {
    assert_eq!(to_external(&"9".repeat(309)), None);
    let mut external = vec![131, 110, LARGEST as u8 + 1, 0];
    external.resize(4 + LARGEST + 1, 1);
    assert_eq!(from_external(&external), None);
    assert_eq!(from_external(&[131, 111, 0, 0, 1, 0, 0]), None);
    assert_eq!(from_external(&[131, 110, 2, 0, 1]), None);
}
