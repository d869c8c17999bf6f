//! What a guest asked for and was refused.

use super::Invocation;

/// One thing that a guest asked for and was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The capability that does not grant it.
    pub capability: &'static str,
    /// The function that was called.
    pub operation: &'static str,
    /// What it was about: a path, in the guest's words.
    pub detail: Option<String>,
    /// What the guest was told.
    pub errno: &'static str,
    /// How often.
    pub count: u64,
}

/// Different denials that are kept: a guest can think of as many paths as it likes.
const MOST: usize = 100;

#[derive(Default)]
pub(super) struct Denials(Vec<Denial>);

impl Invocation {
    /// Notes a refusal. Of those that are too many it is only told that there were more.
    pub(crate) fn deny(&self, denial: Denial) {
        let denials = &mut self.denials.lock().0;
        let same = |known: &&mut Denial| {
            known.operation == denial.operation && known.detail == denial.detail && known.errno == denial.errno
        };
        if let Some(known) = denials.iter_mut().find(same) {
            known.count += 1;
        } else if denials.len() < MOST {
            denials.push(denial);
        } else if let Some(last) = denials.last_mut() {
            *last = Denial { operation: "others", detail: None, count: last.count + 1, ..denial };
        }
    }

    pub(crate) fn take_denials(&self) -> Vec<Denial> {
        std::mem::take(&mut self.denials.lock().0)
    }
}
