//! The vDSO: functions that the kernel maps into every program, so that reading the clock needs no system
//! call.
//!
//! Two pages: a [`Clock`], readable, and behind it [`IMAGE`], readable and executable. A program finds the
//! image by `AT_SYSINFO_EHDR`, and in it `__kernel_clock_gettime`, `__kernel_gettimeofday`,
//! `__kernel_clock_getres` and `__kernel_rt_sigreturn`, all of version `LINUX_2.6.39`, as in Linux. Clocks
//! other than realtime, monotonic, their raw and coarse variants and boottime are left to system calls.
//!
//! ```
//! use linux_program::vdso::{Clock, IMAGE};
//!
//! let counter_at_boot = 1_000_000;
//! let clock = Clock::new(counter_at_boot, 62_500_000, 1_767_225_600_000_000_000);
//! let mut pages = [0; 2 * 4096];
//! pages[..Clock::SIZE].copy_from_slice(&clock.encode());
//! pages[4096..].copy_from_slice(&IMAGE.0);
//! // The kernel's own clock, for the system call: never apart from the program's.
//! assert_eq!(clock.nanoseconds(counter_at_boot + 62_500_000), 1_000_000_000);
//! ```

mod clock;
mod code;
mod image;

pub use clock::Clock;

use crate::address::{PAGE, UserAddr};

/// A page, aligned so that it can be mapped where it is.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Image(pub [u8; PAGE as usize]);

/// The page with the functions, the same for all programs.
pub static IMAGE: Image = Image(image::build());

/// First bytes of [`IMAGE`]; the rest of its page is zero.
pub static CONTENTS: [u8; image::END] = {
    let page = image::build();
    let mut contents = [0; image::END];
    let mut at = 0;
    while at < contents.len() {
        contents[at] = page[at];
        at += 1;
    }
    contents
};

/// Returns the address of `__kernel_rt_sigreturn`, to which signal handlers return, if [`IMAGE`] is at
/// `vdso`.
pub const fn signal_return(vdso: UserAddr) -> Option<UserAddr> {
    vdso.checked_add((image::CODE_AT + code::SIGRETURN) as u64)
}
