//! The vectors that the encoder of inputs and parameters is held to, in Elixir, are what the crate bincode writes.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

const VECTORS: &str = include_str!("../../../../test/fixtures/bincode.json");

#[test]
fn the_vectors_are_what_the_crate_writes() {
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    assert!(vectors.len() >= 5);
    for vector in vectors {
        let inputs: Vec<Vec<u8>> = serde_json::from_value(vector["inputs"].clone()).unwrap();
        let params: BTreeMap<String, String> = serde_json::from_value(vector["params"].clone()).unwrap();
        let mut hex = String::new();
        for byte in bincode::serialize(&(inputs, params)).unwrap() {
            write!(hex, "{byte:02x}").unwrap();
        }
        assert_eq!(hex, vector["hex"].as_str().unwrap());
    }
}
