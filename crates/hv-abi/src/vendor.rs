//! Margay's own calls, in SMCCC's vendor-specific hypervisor service range (SMCCC 1.2, section 6.1): what
//! FF-A has no word for. Unless said otherwise they are the primary's, and return `FFA_SUCCESS` or
//! `FFA_ERROR` as FF-A's calls do.

/// Call UID: four words that identify Margay (SMCCC 1.2, section 6.2). For every VM.
pub const CALL_UID: u32 = 0x8600_FF01;
/// Revision of this interface: major in x0, minor in x1. For every VM.
pub const CALL_REVISION: u32 = 0x8600_FF03;
/// The last crash of VM w1. x0 = `FFA_SUCCESS`, x1 = vCPU (packed), x2 = `ESR_EL2`, x3 = `FAR_EL2`, x4 =
/// faulting IPA (page), x5 = PC, x6 = cause ([`crate::exit::AbortCause`]); `FFA_ERROR`/`NO_DATA` if it has
/// not crashed.
pub const CRASH_RECORD_GET: u32 = 0xC600_0010;
/// Stops VM w1, as if it had switched itself off: its vCPUs leave their cores, what it has borrowed goes
/// back. A VM that has stopped already stays as it is.
pub const VM_STOP: u32 = 0xC600_0011;
/// Makes VM w1, which has stopped, as it was at boot: memory zeroed and loaded again from the bundle, vCPU 0
/// ready, everything else off. One call does a part of the work, so that it takes no core for long: x2 holds
/// the bytes that are left, and the call is repeated until that is 0. `DENIED` if the VM runs, or memory of
/// it is with others; `BUSY` if another core is at it, or a vCPU has not left its core yet.
pub const VM_RESTART: u32 = 0xC600_0012;
/// Statistics of vCPU w1 (packed) since boot: x1 = ticks of the counter that it has run, x2 = how often it
/// was entered; then how often it left its core: x3 yielding, x4 waiting for an interrupt, x5 waiting for a
/// message or an answer, x6 interrupted, x7 for another reason. With w2 other than 0: x1 = external aborts
/// that it got, for accesses to addresses where its VM has nothing.
pub const VCPU_STATISTICS_GET: u32 = 0xC600_0013;
/// Whose interrupt w1 of a device is: x2 = vCPU (packed), 0 if it is nobody's. `INVALID_PARAMETERS` if no
/// device can have it.
pub const INTERRUPT_ROUTE_GET: u32 = 0xC600_0015;
/// Gives interrupt w1 of a device to vCPU w2 (packed; 0: to nobody). It is off until that VM enables it.
/// `DENIED` if the manifest has given it to another VM.
pub const INTERRUPT_ROUTE_SET: u32 = 0xC600_0016;
/// The hypervisor's version and build: x1 = major, minor and patch version in bits 47:32, 31:16 and 15:0, x2
/// = the first 16 hexadecimal digits of the source revision that it was built from, 0 if that is not known.
/// For every VM.
pub const BUILD_ID_GET: u32 = 0xC600_0014;

/// The UID that [`CALL_UID`] returns in w0 to w3: 6d617267-6179-5265-b861-682d68762031.
pub const UID: [u32; 4] = [0x6d61_7267, 0x6179_5265, 0xb861_682d, 0x6876_2031];
/// The revision of this interface (major, minor).
pub const REVISION: (u32, u32) = (0, 2);
