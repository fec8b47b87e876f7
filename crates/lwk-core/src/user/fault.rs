//! Exceptions of programs that are no system calls.

use super::{
    copy, image,
    signal::{self, Info},
    space::Fault,
    thread,
};
use crate::arch::UserFrame;
use crate::syndrome::Syndrome;
use linux_program::{UserAddr, cpuid::Mrs};

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRALN: i32 = 1;
const BUS_ADRERR: i32 = 2;
const ILL_ILLOPC: i32 = 1;
const TRAP_BRKPT: i32 = 1;

/// Exception classes (Arm ARM, ESR_EL1.EC).
mod class {
    pub const UNKNOWN: u8 = 0x00;
    pub const SYSTEM_REGISTER: u8 = 0x18;
    pub const INSTRUCTION_ABORT: u8 = 0x20;
    pub const PC_ALIGNMENT: u8 = 0x22;
    pub const DATA_ABORT: u8 = 0x24;
    pub const SP_ALIGNMENT: u8 = 0x26;
    pub const FLOATING_POINT: u8 = 0x2c;
    pub const BRK: u8 = 0x3c;
}

/// Returns whether a fault status says that a translation or a permission is missing.
const fn is_mapping(status: u32) -> bool {
    matches!(status & 0x3c, 0x04 | 0x08 | 0x0c)
}

/// Does an `MRS` of an identification register for a program, as `HWCAP_CPUID` promises. False if it is
/// another instruction.
fn emulate_mrs(frame: &mut UserFrame) -> bool {
    let mrs = copy::load_u32(frame.pc).ok().and_then(Mrs::decode);
    let Some(mrs) = mrs else { return false };
    if let Some(target) = frame.x.get_mut(mrs.target) {
        *target = image::read_id_register(mrs);
    }
    frame.pc += 4;
    true
}

/// An exception of a program, from `user.S`.
#[unsafe(no_mangle)]
extern "C" fn lwk_user_exception(frame: &mut UserFrame, esr: u64, far: u64) {
    let thread = thread::running(frame);
    let syndrome = Syndrome(esr);
    let (class, status) = (syndrome.class(), syndrome.iss() & 0x3f);
    let (number, code, value) = match class {
        class::INSTRUCTION_ABORT | class::DATA_ABORT if is_mapping(status) => {
            let execute = class == class::INSTRUCTION_ABORT;
            let write = !execute && syndrome.is_write();
            let address = UserAddr::new(far);
            match thread.process().with_space(|space| Ok(space.fault(address, write, execute))) {
                Ok(Fault::TryAgain) => {
                    // The memory came from what may have waited for others.
                    thread.was_preempted();
                    return;
                }
                Ok(Fault::NotAllowed) => (signal::SIGSEGV, SEGV_ACCERR, far),
                Ok(Fault::NoMemory) => (signal::SIGBUS, BUS_ADRERR, far),
                Ok(Fault::NotMapped) | Err(_) => (signal::SIGSEGV, SEGV_MAPERR, far),
            }
        }
        class::INSTRUCTION_ABORT | class::DATA_ABORT if status == 0x21 => (signal::SIGBUS, BUS_ADRALN, far),
        class::INSTRUCTION_ABORT | class::DATA_ABORT => (signal::SIGBUS, BUS_ADRERR, far),
        class::PC_ALIGNMENT => (signal::SIGBUS, BUS_ADRALN, frame.pc),
        class::SP_ALIGNMENT => (signal::SIGBUS, BUS_ADRALN, frame.sp),
        class::FLOATING_POINT => (signal::SIGFPE, 0, frame.pc),
        class::UNKNOWN | class::SYSTEM_REGISTER if emulate_mrs(frame) => return,
        class::BRK => (signal::SIGTRAP, TRAP_BRKPT, frame.pc),
        _ => (signal::SIGILL, ILL_ILLOPC, frame.pc),
    };
    thread.fault(Info { number, code, value, more: 0, syndrome: esr });
}

/// The kernel could not touch a program's memory for it, from `user.S`: whether to try again.
#[unsafe(no_mangle)]
extern "C" fn lwk_user_access_fault(esr: u64, far: u64) -> bool {
    let syndrome = Syndrome(esr);
    if syndrome.class() != class::DATA_ABORT + 1 || !is_mapping(syndrome.iss() & 0x3f) {
        return false;
    }
    let Some(thread) = thread::current() else { return false };
    let address = UserAddr::new(far);
    let outcome = thread.process().with_space(|space| Ok(space.fault(address, syndrome.is_write(), false)));
    outcome == Ok(Fault::TryAgain)
}
