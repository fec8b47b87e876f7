//! What a vCPU is doing, which core owns it, and which direct request it works on: two words, each changed by
//! single atomic accesses.

use core::sync::atomic::{AtomicU64, Ordering};
use hv_abi::ids::{VcpuId, VmId};

/// Run state of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VcpuState {
    /// Not started, or has switched itself off.
    Off,
    /// Has work, waits to be run.
    Ready,
    /// Waits for an interrupt or its timer.
    Waiting,
    /// Waits for a message.
    WaitingForMessage,
    /// Has sent the direct request with this number, and waits for the response to it: nothing else wakes it.
    WaitingForResponse(u32),
    /// Its VM has stopped, and no core can claim it: it belongs to who holds the VM's teardown token.
    Parked,
    /// Runs on the core with this index, or is being started by it.
    Running(u16),
}

impl VcpuState {
    #[inline(always)]
    const fn bits(self) -> u64 {
        match self {
            Self::Off => 0,
            Self::Ready => 1,
            Self::Waiting => 2,
            Self::WaitingForMessage => 3,
            Self::WaitingForResponse(request) => 5 | (request as u64) << 8,
            Self::Parked => 6,
            Self::Running(core) => 4 | (core as u64) << 8,
        }
    }

    #[inline(always)]
    const fn from_bits(bits: u64) -> Self {
        match bits & 0xff {
            0 => Self::Off,
            1 => Self::Ready,
            2 => Self::Waiting,
            3 => Self::WaitingForMessage,
            5 => Self::WaitingForResponse((bits >> 8) as u32),
            6 => Self::Parked,
            _ => Self::Running((bits >> 8) as u16),
        }
    }
}

/// A state as [`StateCell`] holds it: for a core that decides on a state before it publishes it, on its
/// fastest path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedState(u64);

impl PackedState {
    /// The state in this form.
    #[inline(always)]
    pub const fn new(state: VcpuState) -> Self {
        Self(state.bits())
    }

    /// Returns whether the vCPU waits for an interrupt or a message: [`VcpuState::Waiting`],
    /// [`VcpuState::WaitingForMessage`].
    #[inline(always)]
    pub const fn is_idle(self) -> bool {
        self.0 >> 1 == 1
    }

    /// Returns the state.
    #[inline(always)]
    pub const fn state(self) -> VcpuState {
        VcpuState::from_bits(self.0)
    }
}

/// The state of one vCPU, shared by all cores.
#[derive(Debug)]
#[repr(transparent)]
pub struct StateCell(AtomicU64);

impl StateCell {
    /// Returns a vCPU in `state`.
    pub const fn new(state: VcpuState) -> Self {
        Self(AtomicU64::new(state.bits()))
    }

    /// Loads the current state.
    #[inline(always)]
    pub fn load(&self) -> VcpuState {
        VcpuState::from_bits(self.0.load(Ordering::SeqCst))
    }

    /// Makes `core` the owner of a vCPU that is in state `from`; returns whether it still was.
    #[inline(always)]
    pub fn claim(&self, from: VcpuState, core: u16) -> bool {
        let running = VcpuState::Running(core).bits();
        self.0.compare_exchange(from.bits(), running, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Takes the vCPU out of all cores' reach, if none owns it; returns whether it is. For the holder of its
    /// stopped VM's teardown token.
    pub fn park(&self) -> bool {
        let park = |bits| match VcpuState::from_bits(bits) {
            VcpuState::Running(_) => None,
            _ => Some(VcpuState::Parked.bits()),
        };
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, park).is_ok()
    }

    /// Gives the vCPU up. For its owner: a core, or the holder of its stopped VM's teardown token.
    #[inline(always)]
    pub fn publish(&self, state: VcpuState) {
        self.publish_packed(PackedState::new(state));
    }

    /// Publishes a packed state, as [`Self::publish`] does.
    #[inline(always)]
    pub fn publish_packed(&self, state: PackedState) {
        self.0.store(state.0, Ordering::SeqCst);
    }
}

/// No request has this form, because no VM has the hypervisor's id.
const NO_REQUEST: u64 = 0;

/// A direct request: who sent it, and its number among the sender's. A response goes to a sender that waits
/// with that number, so that one to a request of the sender's last life answers no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The vCPU that waits for the response.
    pub sender: VcpuId,
    /// Zero, which no sender waits with, for one whose sender is gone, and for those of the primary, which
    /// waits for nothing.
    pub number: u32,
}

impl Request {
    fn pack(self) -> u64 {
        self.sender.pack() & 0xffff_ffff | u64::from(self.number) << 32
    }

    fn unpack(bits: u64) -> Option<Self> {
        let sender = VcpuId::unpack(bits & 0xffff_ffff);
        (bits != NO_REQUEST).then_some(Self { sender, number: (bits >> 32) as u32 })
    }

    /// The number after `last`.
    pub fn number_after(last: u32) -> u32 {
        last.wrapping_add(1).max(1)
    }
}

/// The direct request that one vCPU works on, shared by all cores.
#[derive(Debug)]
#[repr(transparent)]
pub struct RequestCell(AtomicU64);

impl RequestCell {
    /// A vCPU that works on this request.
    pub fn new(request: Option<Request>) -> Self {
        Self(AtomicU64::new(request.map_or(NO_REQUEST, Request::pack)))
    }

    /// Returns the pending direct request, if any.
    #[inline(always)]
    pub fn get(&self) -> Option<Request> {
        Request::unpack(self.0.load(Ordering::Acquire))
    }

    /// Records a direct request.
    #[inline(always)]
    pub fn set(&self, request: Request) {
        self.0.store(request.pack(), Ordering::Release);
    }

    /// Ends the work on the request, and returns it. Of several callers one gets it.
    #[inline(always)]
    pub fn take(&self) -> Option<Request> {
        Request::unpack(self.0.swap(NO_REQUEST, Ordering::AcqRel))
    }

    /// Forgets the request. For the owner of the vCPU, which starts afresh.
    #[inline(always)]
    pub fn clear(&self) {
        self.0.store(NO_REQUEST, Ordering::Relaxed);
    }

    /// Drops the requester if it is `vm`, which has stopped: its response is then discarded.
    pub fn orphan(&self, vm: VmId) {
        let orphan = |bits| {
            let request = Request::unpack(bits).filter(|request| request.sender.vm == vm)?;
            Some(Request { number: 0, ..request }.pack())
        };
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, orphan);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_abi::ids::VcpuIndex;

    #[test]
    fn states_survive_their_bits() {
        for state in [
            VcpuState::Off,
            VcpuState::Ready,
            VcpuState::Waiting,
            VcpuState::WaitingForMessage,
            VcpuState::WaitingForResponse(1),
            VcpuState::WaitingForResponse(u32::MAX),
            VcpuState::Parked,
            VcpuState::Running(0),
            VcpuState::Running(127),
        ] {
            assert_eq!(PackedState::new(state).state(), state);
            let idle = matches!(state, VcpuState::Waiting | VcpuState::WaitingForMessage);
            assert_eq!(PackedState::new(state).is_idle(), idle);
        }
    }

    #[test]
    fn responses_to_stopped_vm_are_dropped() {
        let request = |vm| Request { sender: VcpuId { vm: VmId(vm), index: VcpuIndex(1) }, number: 7 };
        let cell = RequestCell::new(Some(request(2)));
        cell.orphan(VmId(3));
        assert_eq!(cell.get(), Some(request(2)));
        cell.orphan(VmId(2));
        assert_eq!(cell.take(), Some(Request { number: 0, ..request(2) }));
        assert_eq!(cell.take(), None);
    }
}
