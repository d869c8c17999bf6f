//! TOML with positions: every kind of value has its line, mistakes have line and column, and no text does harm.

use cybernetic_wasm_core::toml::{Entry, MOST_BYTES, MOST_NESTED, Node, Value, parse};
use proptest::prelude::*;

fn tree(text: &str) -> Vec<Entry> {
    match parse(text.as_bytes()).unwrap().value {
        Value::Table(entries) => entries,
        other => panic!("the root is {other:?}"),
    }
}

fn refused(text: impl AsRef<[u8]>) -> (usize, usize, String) {
    let error = parse(text.as_ref()).unwrap_err();
    (error.line, error.column, error.message)
}

fn entry(key: &str, line: usize, value: Value) -> Entry {
    Entry { key: key.into(), line, node: Node { line, value } }
}

#[test]
fn every_kind_of_value_has_its_line() {
    let text =
        "s = \"a\\n\"\ni = 0xf_f\nf = 1.5\nb = true\nd = 2024-01-02T03:04:05Z\na = [\n  1,\n  2,\n]\nt = { x = 1 }\n";
    let item = |line, value| Node { line, value: Value::Integer(value) };
    assert_eq!(
        tree(text),
        [
            entry("s", 1, Value::String("a\n".into())),
            entry("i", 2, Value::Integer(255)),
            entry("f", 3, Value::Float(1.5)),
            entry("b", 4, Value::Boolean(true)),
            entry("d", 5, Value::Datetime("2024-01-02T03:04:05Z".into())),
            entry("a", 6, Value::Array(vec![item(7, 1), item(8, 2)])),
            entry("t", 10, Value::Table(vec![entry("x", 10, Value::Integer(1))])),
        ]
    );
}

#[test]
fn entries_come_in_the_order_of_the_text() {
    let keys: Vec<_> = tree("[z]\nb = 1\na = 2\n[a]\n[[m]]\n[[m]]\n").into_iter().map(|e| (e.key, e.line)).collect();
    assert_eq!(keys, [("z".into(), 1), ("a".into(), 4), ("m".into(), 5)]);
    let Value::Table(inner) = &tree("[z]\nb = 1\na = 2\n")[0].node.value else { panic!() };
    assert_eq!(inner.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn an_array_of_tables_has_the_line_of_each() {
    let Value::Array(tables) = &tree("# x\n[[m]]\na = 1\n\n[[m]]\n")[0].node.value else { panic!() };
    assert_eq!(tables.iter().map(|t| t.line).collect::<Vec<_>>(), [2, 5]);
}

#[test]
fn dotted_and_quoted_keys_make_tables() {
    let expected = [entry("a", 1, Value::Table(vec![entry("b c", 1, Value::Integer(1))]))];
    assert_eq!(tree("a.\"b c\" = 1"), expected);
}

#[test]
fn an_empty_text_is_an_empty_table() {
    assert_eq!(tree(""), []);
    assert_eq!(tree("\u{feff}# only a comment"), []);
    assert_eq!(tree("\u{feff}a = 1")[0].line, 1);
}

#[test]
fn floats_that_are_no_numbers_are_kept() {
    let values: Vec<_> = tree("a = inf\nb = -inf\nc = nan").into_iter().map(|e| e.node.value).collect();
    let [Value::Float(a), Value::Float(b), Value::Float(c)] = values[..] else { panic!() };
    assert_eq!((a, b), (f64::INFINITY, f64::NEG_INFINITY));
    assert!(c.is_nan());
}

#[test]
fn numbers_out_of_range_are_refused() {
    let (line, column, message) = refused("a = 1\nb = 9223372036854775808");
    assert_eq!((line, column, message.as_str()), (2, 5, "the integer does not fit 64 bits"));
    assert_eq!(tree("a = -9223372036854775808")[0].node.value, Value::Integer(i64::MIN));
    assert!(refused("a = 1e999").2.contains("does not fit"));
}

#[test]
fn mistakes_have_line_and_column() {
    assert_eq!(refused("a = 1\n  b 2\n").0, 2);
    assert_eq!(refused("a = 1\n\nä = \n").0, 3);
    let (line, column, message) = refused("a = 1\nb = 2\n a = 3");
    assert_eq!((line, column, message.as_str()), (3, 2, "duplicate key"));
    assert_eq!(refused("[a]\n[b]\n[a]\n").0, 3);
    assert_eq!(refused("a = \"ü\" x").1, 9);
    assert_eq!(refused("a = [1,").0, 1);
}

#[test]
fn bytes_that_are_not_utf_8_have_their_line() {
    assert_eq!(refused(b"a = 1\nb = \"\xff\"\n"), (2, 6, "not UTF-8".into()));
}

#[test]
fn the_size_is_bounded() {
    let comment = format!("#{}", "x".repeat(MOST_BYTES - 1));
    assert_eq!(tree(&comment), []);
    assert!(refused(comment.clone() + "x").2.contains("more than 65536 bytes"));
    assert!(refused(vec![b'\n'; 10 << 20]).2.contains("more than 65536 bytes"));
}

#[test]
fn the_nesting_is_bounded() {
    let nested = |n: usize| format!("a = {}{}", "[".repeat(n), "]".repeat(n));
    assert_eq!(tree(&nested(MOST_NESTED)).len(), 1);
    assert!(refused(nested(MOST_NESTED + 1)).2.contains("inside each other"));
    assert!(!refused(nested(30_000)).2.is_empty());
    assert!(!refused("a.".repeat(30_000) + "a = 1").2.is_empty());
    assert!(!refused("{a=".repeat(20_000)).2.is_empty());
    assert!(!refused("[".to_owned() + &"a.".repeat(30_000) + "a]").2.is_empty());
    assert!(!refused("[[a]]\n[[a.a]]\n[[a.a.a]]\n".to_owned() + &"[[".repeat(10_000)).2.is_empty());
}

/// The parser bounds brackets and the dots of one key, each to eighty; together they nest thousands of tables.
#[test]
fn dots_inside_brackets_do_not_exhaust_the_stack() {
    let key = "a.".repeat(78) + "a";
    let deep = (0..78).fold(String::from("1"), |inner, _| format!("{{{key}={inner}}}"));
    assert!(refused(format!("{key} = {deep}")).2.contains("inside each other"));
}

proptest! {
    #[test]
    fn any_bytes_give_a_tree_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_mix_of_tokens_gives_a_tree_or_an_error(tokens in proptest::collection::vec(
        proptest::sample::select(vec![
            "[", "]", "[[", "]]", "{", "}", "a", "b", ".", "=", ",", "\n", "\"", "'", "\"\"\"", "1", "0x", "e9", "inf",
            "true", " ", "#", "2024-01-01", "\\u", "-", "_", "\r", "\u{feff}", "ü",
        ]), 0..60,
    )) {
        let _ = parse(tokens.concat().as_bytes());
    }
}
