//! Interrupt identifiers.
use core::fmt;

/// An interrupt identifier as the GIC counts them (GIC spec, section 2.2 "INTIDs").
///
/// Only SGIs (0..16), PPIs (16..32) and SPIs (32..1020) are used here; the special numbers 1020..1024 never
/// leave [`acknowledge`](crate::InterruptController::acknowledge).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Intid(u32);

impl Intid {
    /// Number of software-generated interrupts.
    pub const SGI_COUNT: u32 = 16;
    /// First private peripheral interrupt.
    pub const PPI_BASE: u32 = 16;
    /// First shared peripheral interrupt.
    pub const SPI_BASE: u32 = 32;
    /// First of the four special identifiers: one past the last SPI.
    pub const SPECIAL_BASE: u32 = 1020;

    /// The identifier with this number, whatever it is.
    #[inline]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Software-generated interrupt `n`.
    ///
    /// # Panics
    /// If `n` is not below 16.
    #[inline]
    pub const fn sgi(n: u32) -> Self {
        assert!(n < Self::SGI_COUNT);
        Self(n)
    }

    /// Private peripheral interrupt `n`: identifier `16 + n`.
    ///
    /// # Panics
    /// If `n` is not below 16.
    #[inline]
    pub const fn ppi(n: u32) -> Self {
        assert!(n < 16);
        Self(Self::PPI_BASE + n)
    }

    /// Shared peripheral interrupt `n`: identifier `32 + n`.
    ///
    /// # Panics
    /// If `n` is not below 988.
    #[inline]
    pub const fn spi(n: u32) -> Self {
        assert!(n < Self::SPECIAL_BASE - Self::SPI_BASE);
        Self(Self::SPI_BASE + n)
    }

    /// The number.
    #[inline]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether this is a software-generated interrupt.
    #[inline]
    pub const fn is_sgi(self) -> bool {
        self.0 < Self::PPI_BASE
    }

    /// Whether this is a private peripheral interrupt.
    #[inline]
    pub const fn is_ppi(self) -> bool {
        self.0 >= Self::PPI_BASE && self.0 < Self::SPI_BASE
    }

    /// Whether each core has its own interrupt with this number (SGI or PPI).
    #[inline]
    pub const fn is_private(self) -> bool {
        self.0 < Self::SPI_BASE
    }

    /// Whether this is a shared peripheral interrupt.
    #[inline]
    pub const fn is_spi(self) -> bool {
        self.0 >= Self::SPI_BASE && self.0 < Self::SPECIAL_BASE
    }
}

impl From<Intid> for u32 {
    #[inline]
    fn from(intid: Intid) -> u32 {
        intid.0
    }
}

#[cfg(feature = "arm-gic")]
impl From<arm_gic::IntId> for Intid {
    #[inline]
    fn from(intid: arm_gic::IntId) -> Self {
        Self(intid.raw_value())
    }
}

impl fmt::Display for Intid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n @ 0..16 => write!(f, "SGI {n}"),
            n @ 16..32 => write!(f, "PPI {}", n - Self::PPI_BASE),
            n @ 32..1020 => write!(f, "SPI {}", n - Self::SPI_BASE),
            n => write!(f, "INTID {n}"),
        }
    }
}

impl fmt::Debug for Intid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
