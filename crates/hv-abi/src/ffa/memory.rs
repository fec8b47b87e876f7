//! Memory transactions.
/// A memory handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);
impl Handle {
    /// Bit 63: the hypervisor made the handle.
    pub const HYPERVISOR: u64 = 1 << 63;
}
/// How memory is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// For good.
    Donate,
    /// For a time, exclusively.
    Lend,
    /// For a time, together.
    Share,
}
