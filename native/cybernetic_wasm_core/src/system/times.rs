//! What a guest sees of the times of files. They are a clock, too: whoever writes a file and looks at it has the time.

use super::clocks::Clock;
use super::grants::Grants;

/// The 2nd of January 1980 in nanoseconds since 1970: archives know no time before 1980, and in no time zone is this one
/// earlier.
const FIRST_OF_ARCHIVES: u64 = 315_619_200_000_000_000;

/// The times of a guest's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileTimes {
    /// What they are.
    Real,
    /// All the same, and no clock: when the guest's own clock began if that is a virtual one, but not before 1980.
    Fixed,
}

/// The one time that is shown, if it is not the real ones.
pub(crate) struct Times(Option<u64>);

impl Times {
    pub(super) fn new(grants: &Grants, clock: &Clock) -> Self {
        match grants.times {
            FileTimes::Real => Self(None),
            FileTimes::Fixed => {
                Self(Some(clock.start().map_or(FIRST_OF_ARCHIVES, |start| start.max(FIRST_OF_ARCHIVES))))
            }
        }
    }

    /// The time that stands for all, if there is one.
    pub(crate) fn shown(&self) -> Option<u64> {
        self.0
    }

    /// Puts it into a filestat that the guest is given, whose times are at `times`.
    pub(crate) fn hide(&self, memory: &mut [u8], times: u32) {
        const TIMES: usize = 3 * size_of::<u64>();
        let Some(shown) = self.0 else { return };
        let times = memory.get_mut(times as usize..).and_then(|rest| rest.get_mut(..TIMES));
        for time in times.into_iter().flat_map(|times| times.chunks_exact_mut(size_of::<u64>())) {
            time.copy_from_slice(&shown.to_le_bytes());
        }
    }
}
