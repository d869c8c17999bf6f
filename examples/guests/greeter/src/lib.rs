//! A small component: a greeting, and a shop that takes orders.

wit_bindgen::generate!({ path: "wit", world: "greeter" });

use exports::acme::shop::orders::{Guest as Orders, Line, Problem, Receipt};

struct Greeter;

impl Guest for Greeter {
    fn greet(name: String) -> String {
        format!("Hello, {name}!")
    }
}

impl Orders for Greeter {
    fn place(lines: Vec<Line>) -> Result<Receipt, Problem> {
        if lines.is_empty() {
            return Err(Problem::Empty);
        }
        match lines.iter().find(|line| line.item == "unicorn") {
            Some(line) => Err(Problem::SoldOut(line.item.clone())),
            None => {
                let total = lines.iter().map(|line| line.count).sum();
                Ok(Receipt { number: 1, total, gift: total > 10 })
            }
        }
    }
}

export!(Greeter);
