//! What a call of a component costs, by what it passes.

wit_bindgen::generate!({ path: "wit", world: "component" });

struct Component;

impl Guest for Component {
    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }

    fn bytes(v: Vec<u8>) -> Vec<u8> {
        v
    }

    fn text(v: String) -> String {
        v
    }

    fn a_line(v: Line) -> Line {
        v
    }

    fn a_tagged(v: Tagged) -> Tagged {
        v
    }

    fn calls(times: u32) -> u32 {
        (0..times).fold(0, |value, _| next(value))
    }
}

export!(Component);
