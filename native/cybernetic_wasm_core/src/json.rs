//! What a parser of JSON does not give: its numbers as they are written, where a float would not hold them, and integers of any
//! size, which Erlang has and Rust has not.

/// How many bytes the largest integer has that is written or read: a float would end there, too.
pub const LARGEST: usize = 128;

/// More characters than a number needs. The time for one grows faster than they do.
pub const LONGEST: usize = 400;

/// So many digits go into one step.
const DIGITS: usize = 9;
const STEP: u64 = 1_000_000_000;

// The external term format: https://www.erlang.org/doc/apps/erts/erl_ext_dist.
const VERSION: u8 = 131;
const SMALL_BIG: u8 = 110;

/// The numbers of a text that a parser gives as floats: those with a fraction or an exponent, and integers that do not fit 64
/// bits. They come as they are written, in order, and no further than they are asked for: the text may be none from there on.
pub struct Numbers<'t>(&'t str);

impl<'t> Numbers<'t> {
    /// Those of a text of JSON.
    pub fn new(text: &'t str) -> Self {
        Self(text)
    }
}

impl<'t> Iterator for Numbers<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            let start = self.0.find(|letter: char| letter == '"' || starts_number(letter))?;
            let found = &self.0[start..];
            if let Some(text) = found.strip_prefix('"') {
                self.0 = after_string(text);
                continue;
            }
            let (number, behind) = found.split_at(found.find(|letter| !in_number(letter)).unwrap_or(found.len()));
            self.0 = behind;
            if is_float(number) {
                return Some(number);
            }
        }
    }
}

fn starts_number(letter: char) -> bool {
    letter == '-' || letter.is_ascii_digit()
}

fn in_number(letter: char) -> bool {
    letter.is_ascii_digit() || matches!(letter, '-' | '+' | '.' | 'e' | 'E')
}

fn after_string(mut text: &str) -> &str {
    while let Some(at) = text.find(['"', '\\']) {
        let (special, behind) = text[at..].split_at(1);
        if special == "\"" {
            return behind;
        }
        let mut behind = behind.chars();
        behind.next();
        text = behind.as_str();
    }
    ""
}

/// Whether it is one for the parser. So is the negative zero, which no integer is.
fn is_float(number: &str) -> bool {
    !is_integer(number) || number == "-0" || (number.parse::<u64>().is_err() && number.parse::<i64>().is_err())
}

/// Whether a number is written as an integer.
pub fn is_integer(number: &str) -> bool {
    !number.contains(['.', 'e', 'E'])
}

/// An integer in the external term format; `None` of one that is too large.
pub fn to_external(integer: &str) -> Option<Vec<u8>> {
    let digits = integer.trim_start_matches('-');
    let mut limbs: Vec<u32> = Vec::new();
    for digits in digits.as_bytes().chunks(DIGITS) {
        let digits = std::str::from_utf8(digits).ok()?;
        let mut carry: u64 = digits.parse().ok()?;
        let scale = 10_u64.pow(digits.len() as u32);
        for limb in &mut limbs {
            let product = u64::from(*limb) * scale + carry;
            (*limb, carry) = (product as u32, product >> 32);
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    }
    let mut bytes: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    let count = u8::try_from(bytes.len()).ok().filter(|count| usize::from(*count) <= LARGEST)?;
    let mut external = vec![VERSION, SMALL_BIG, count, u8::from(integer.starts_with('-'))];
    external.append(&mut bytes);
    Some(external)
}

/// The digits of an integer in the external term format; `None` of one that is too large.
pub fn from_external(external: &[u8]) -> Option<String> {
    let [VERSION, SMALL_BIG, count, sign, bytes @ ..] = external else { return None };
    if usize::from(*count) > LARGEST || bytes.len() != usize::from(*count) {
        return None;
    }
    let limb = |bytes: &[u8]| bytes.iter().rev().fold(0, |limb, byte| limb << 8 | u32::from(*byte));
    let mut limbs: Vec<u32> = bytes.chunks(4).map(limb).collect();
    let mut steps = Vec::new();
    while limbs.iter().any(|limb| *limb != 0) {
        let mut rest = 0;
        for limb in limbs.iter_mut().rev() {
            let dividend = rest << 32 | u64::from(*limb);
            (*limb, rest) = ((dividend / STEP) as u32, dividend % STEP);
        }
        steps.push(rest);
    }
    let mut text = String::from(if *sign == 0 { "" } else { "-" });
    text += &steps.pop().unwrap_or_default().to_string();
    text.extend(steps.iter().rev().map(|step| format!("{step:0DIGITS$}")));
    Some(text)
}
