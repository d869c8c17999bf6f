//! What tells the instances in one guest's store apart.

/// Names one of a guest's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberId(pub u32);

impl MemberId {
    /// The instance that the guest began with.
    pub const FIRST: MemberId = MemberId(0);
}
