//! What an interrupt controller does for the core it is used on.
use crate::{GicError, Intid, Mpidr};

/// How an interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By a transition; pending until acknowledged.
    Edge,
    /// By a level; pending for as long as the device asserts it.
    Level,
}

/// An interrupt controller, seen from one core.
///
/// A value of an implementing type belongs to the core it was made on. Private interrupts (SGIs and PPIs) are
/// that core's own; shared ones (SPIs) may be configured from any core.
pub trait InterruptController {
    /// Lets the interrupt be forwarded to a core.
    fn enable(&self, intid: Intid) -> Result<(), GicError>;

    /// Stops the interrupt from being forwarded, and returns when that has taken effect.
    fn disable(&self, intid: Intid) -> Result<(), GicError>;

    /// Sets the priority; 0 is the most urgent, and how many of the upper bits count is up to the hardware.
    fn set_priority(&self, intid: Intid, priority: u8) -> Result<(), GicError>;

    /// Sets edge or level. The interrupt must be disabled. For an SPI, not at the same time on two cores.
    fn set_trigger(&self, intid: Intid, trigger: Trigger) -> Result<(), GicError>;

    /// Sends a shared interrupt to one core from now on.
    fn route(&self, intid: Intid, target: Mpidr) -> Result<(), GicError>;

    /// Makes the interrupt pending, or takes that back.
    fn set_pending(&self, intid: Intid, pending: bool) -> Result<(), GicError>;

    /// Whether the interrupt is pending (for a level-triggered one: asserted).
    fn is_pending(&self, intid: Intid) -> Result<bool, GicError>;

    /// Sends software-generated interrupt `sgi` to a core, which may be this one. What was written to memory
    /// before is visible to the receiver.
    fn send_sgi(&self, target: Mpidr, sgi: Intid) -> Result<(), GicError>;

    /// Takes the most urgent pending interrupt, making it active; `None` if there is none (any more).
    fn acknowledge(&self) -> Option<Intid>;

    /// Ends the handling of an interrupt: drops the running priority, and deactivates the interrupt too
    /// unless the core was set up to do that apart.
    fn end(&self, intid: Intid);

    /// Deactivates an interrupt, where [`end`](Self::end) only drops the priority.
    fn deactivate(&self, intid: Intid);
}
