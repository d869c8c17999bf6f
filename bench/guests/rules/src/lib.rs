//! A rule engine with a start-up that costs something: `init` compiles regular expressions, as a guest does that is given
//! its rules once and then asked about one text after the other.

use regex_lite::Regex;
use std::cell::RefCell;

thread_local! {
    static RULES: RefCell<Vec<Regex>> = const { RefCell::new(Vec::new()) };
}

const WORDS: [&str; 8] = ["order", "invoice", "payment", "refund", "account", "shipping", "coupon", "address"];

/// Compiles that many rules and gives how many there are.
#[unsafe(no_mangle)]
pub extern "C" fn init(count: u32) -> u32 {
    RULES.with_borrow_mut(|rules| {
        *rules = (0..count).filter_map(|number| Regex::new(&pattern(number)).ok()).collect();
        rules.len() as u32
    })
}

/// Each rule is another one.
fn pattern(number: u32) -> String {
    let word = WORDS[number as usize % WORDS.len()];
    let digits = number / 8 % 5 + 1;
    format!(r"(?i)\b{word}s?\b[^.!?]{{0,40}}#([A-Z]{{2}}-)?[0-9]{{{digits},8}}(?:/{number})?\b")
}

/// How many of the first `most` rules match a text of this guest's own.
#[unsafe(no_mangle)]
pub extern "C" fn matches(most: u32) -> u32 {
    const TEXT: &str = "Your order #12345 has been paid; the refund for invoice no. #AB-77/3 follows.";
    RULES.with_borrow(|rules| rules.iter().take(most as usize).filter(|rule| rule.is_match(TEXT)).count() as u32)
}
