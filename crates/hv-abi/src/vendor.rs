//! Margay's own calls, in SMCCC's vendor-specific hypervisor service range (SMCCC 1.2, section 6.1): what FF-A has
//! no word for.

/// Call UID: four words that identify Margay (SMCCC 1.2, section 6.2).
pub const CALL_UID: u32 = 0x8600_FF01;
/// Revision: major in x0, minor in x1.
pub const CALL_REVISION: u32 = 0x8600_FF03;
/// Primary only: the last crash of VM w1. x0 = `FFA_SUCCESS`, x1 = vCPU (packed), x2 = `ESR_EL2`, x3 = `FAR_EL2`,
/// x4 = faulting IPA (page), x5 = PC, x6 = cause ([`crate::exit::AbortCause`]); `FFA_ERROR`/`NO_DATA` if it has not
/// crashed.
pub const CRASH_RECORD_GET: u32 = 0x8600_0010;

/// The UID that [`CALL_UID`] returns in w0 to w3: 6d617267-6179-5265-b861-682d68762031.
pub const UID: [u32; 4] = [0x6d61_7267, 0x6179_5265, 0xb861_682d, 0x6876_2031];
/// The revision of this interface (major, minor).
pub const REVISION: (u32, u32) = (0, 1);
