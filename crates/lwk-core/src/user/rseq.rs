//! Restartable sequences: a thread that was preempted, moved or sent a signal in a critical section begins it
//! again.
//!
//! Nothing is looked at in a system call or at a switch that a thread asks for: a program must not call the
//! kernel in a critical section. Ids are written at registration, and when a thread has been moved or
//! preempted.

use super::{
    copy,
    errno::{Errno, Result},
    signal::{Info, SI_KERNEL, SIGSEGV},
    thread::{self, UserThread, work},
};
use crate::arch::UserFrame;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_program::rseq::{self, CriticalSection};

/// Addresses of programs are below.
const LIMIT: u64 = 1 << 48;

/// Area of restartable sequences that a thread registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub address: u64,
    pub length: u32,
    pub signature: u32,
}

/// Registration of a thread's area; only the thread uses it.
#[derive(Debug, Default)]
pub struct Registration {
    /// 0: nothing.
    address: AtomicU64,
    length: AtomicU32,
    signature: AtomicU32,
}

impl Registration {
    fn area(&self) -> Option<Area> {
        let address = self.address.load(Ordering::Relaxed);
        let (length, signature) =
            (self.length.load(Ordering::Relaxed), self.signature.load(Ordering::Relaxed));
        (address != 0).then_some(Area { address, length, signature })
    }

    fn set(&self, area: Area) {
        self.length.store(area.length, Ordering::Relaxed);
        self.signature.store(area.signature, Ordering::Relaxed);
        self.address.store(area.address, Ordering::Relaxed);
    }

    /// As at a program's start.
    pub fn forget(&self) {
        self.address.store(0, Ordering::Relaxed);
    }
}

impl Area {
    /// Returns whether the registered area is this one.
    fn check(self, known: Self) -> Result<()> {
        if (self.address, self.length) != (known.address, known.length) {
            return Err(Errno::EINVAL);
        }
        if self.signature == known.signature { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Writes where the thread runs: `cpu_id_start` and `cpu_id`, `node_id` and `mm_cid`. Threads that run at
    /// a time are on different cores, and so have different ids.
    fn set_ids(self, core: u32, id: u32) -> Result<()> {
        copy::write(self.address, &[core, id])?;
        copy::write(self.address + rseq::FLAGS_AT + 4, &[0, core])
    }

    fn end_section(self) -> Result<()> {
        copy::write(self.address + rseq::SECTION_AT, &0_u64)
    }

    /// Where the program goes on that is at `pc`, if not there.
    fn restart(self, pc: u64) -> Result<Option<u64>> {
        let section = copy::read::<u64>(self.address + rseq::SECTION_AT)?;
        if section == 0 {
            return Ok(None);
        }
        let section = CriticalSection::new(copy::read(section)?, LIMIT).ok_or(Errno::EINVAL)?;
        if copy::load_u32(section.abort.wrapping_sub(4))? != self.signature {
            return Err(Errno::EINVAL);
        }
        if !section.contains(pc) {
            self.end_section()?;
            return Ok(None);
        }
        if section.flags | copy::load_u32(self.address + rseq::FLAGS_AT)? != 0 {
            return Err(Errno::EINVAL);
        }
        self.end_section()?;
        Ok(Some(section.abort))
    }
}

impl UserThread {
    /// Registers an area.
    pub fn register(&self, area: Area) -> Result<()> {
        if let Some(known) = self.rseq.area() {
            return area.check(known).and(Err(Errno::EBUSY));
        }
        if !rseq::is_area(area.address, area.length) {
            return Err(Errno::EINVAL);
        }
        area.end_section()?;
        let core = u32::from(self.core().0);
        area.set_ids(core, core)?;
        self.rseq.set(area);
        Ok(())
    }

    /// Takes the registration back.
    pub fn unregister(&self, area: Area) -> Result<()> {
        area.check(self.rseq.area().ok_or(Errno::EINVAL)?)?;
        area.set_ids(0, rseq::UNINITIALIZED)?;
        self.rseq.forget();
        Ok(())
    }

    /// Something else may have had the core.
    pub fn was_preempted(&self) {
        if self.rseq.area().is_some() {
            self.add_work(work::RSEQ);
        }
    }

    /// Brings ids up to date, and ends the critical section that the program is in.
    pub fn restart_sequence(&self, frame: &mut UserFrame) {
        let Some(area) = self.rseq.area() else { return };
        let core = u32::from(self.core().0);
        match area.set_ids(core, core).and_then(|()| area.restart(frame.pc)) {
            Ok(Some(abort)) => frame.pc = abort,
            Ok(None) => {}
            Err(_) => self.fault(Info { number: SIGSEGV, code: SI_KERNEL, value: 0, more: 0, syndrome: 0 }),
        }
    }
}

/// An interrupt has let another task run before the program goes on, from `user.S`.
#[unsafe(no_mangle)]
extern "C" fn lwk_user_preempted(frame: &mut UserFrame) {
    thread::running(frame).was_preempted();
}
