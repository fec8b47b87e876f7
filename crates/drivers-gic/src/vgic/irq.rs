//! The state of one interrupt.

pub(super) const ENABLED: u16 = 1 << 0;
/// Made pending by an edge, a message, or a register.
pub(super) const LATCHED: u16 = 1 << 1;
/// Its line is high.
pub(super) const HIGH: u16 = 1 << 2;
pub(super) const ACTIVE: u16 = 1 << 3;
/// Edge-triggered; otherwise a level.
pub(super) const EDGE: u16 = 1 << 4;
/// In a list register of its target.
pub(super) const LISTED: u16 = 1 << 5;
/// It is pending there because of `LATCHED`.
pub(super) const FROM_LATCH: u16 = 1 << 6;
/// Tied to a physical SPI.
pub(super) const ASSIGNED: u16 = 1 << 7;
/// GICv3: `IROUTER.IRM`, any vCPU may take it.
pub(super) const TO_ANY: u16 = 1 << 8;
/// Tied to a physical PPI with the same number, which the guest's end deactivates.
pub(super) const LINKED: u16 = 1 << 9;

/// The state of one interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Irq {
    pub(super) flags: u16,
    pub(super) priority: u8,
    /// The vCPU that a shared interrupt goes to.
    pub(super) target: u16,
    /// What the guest wrote to say so: a byte of `GICD_ITARGETSR`, or the affinity of `GICD_IROUTER`.
    pub(super) route: u32,
}

impl Irq {
    /// Disabled, inactive, not pending, level-triggered, for vCPU 0.
    pub const RESET: Self = Self { flags: 0, priority: 0, target: 0, route: 0 };

    pub(super) const fn has(self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Pending as registers show it.
    pub(super) const fn is_pending(self) -> bool {
        self.has(LATCHED) || self.has(HIGH) && !self.has(EDGE) || self.has(FROM_LATCH)
    }

    /// To be delivered, if the distributor is on.
    pub(super) const fn is_ready(self) -> bool {
        let level = self.has(HIGH) && !self.has(EDGE) && !self.has(LISTED | ACTIVE);
        // What is pending and active shares a list register, unless that has a physical interrupt (GIC spec,
        // `ICH_LR<n>_EL2.State`).
        let latched = self.has(LATCHED) && (!self.has(ACTIVE) || self.has(LISTED) && !self.has(LINKED));
        self.has(ENABLED) && (latched || level)
    }
}
