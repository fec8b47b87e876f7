//! The contract of `/dev/margay`: how a control task, a program of the primary VM, manages the other VMs.
//!
//! The kernel has the mechanism: it runs vCPUs, each as a task of one core. The control task has the policy:
//! which VM runs when, where, and what is to be done when one ends. It opens the device, alone; asks and
//! orders by [`ioctl`](request); and reads [events](Event) of sixteen bytes, for which it may wait with
//! `poll`.
//!
//! How a VM is to be run may be said in its manifest: [`settings`] are the words of that.
//!
//! ```
//! use vm_control::{request, settings::{Settings, Restart}};
//!
//! // _IOWR('M', 1, struct vm_info)
//! assert_eq!(request::VM_INFO, 0xc118_4d01);
//! let settings = Settings::parse("autostart cores=1,2 restart=never").unwrap();
//! assert!(settings.autostart && settings.core(1) == Some(2));
//! assert_eq!(settings.restart, Restart::Never);
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod event;
pub mod request;
mod scheduling;
pub mod settings;

pub use event::{Event, EventKind};
pub use scheduling::{Policy, Scheduling};

/// State of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VmState {
    /// It has not run yet.
    Created = 0,
    /// Its vCPUs are run.
    Running = 1,
    /// They are not, until it is resumed.
    Paused = 2,
    /// It has switched itself off.
    Off = 3,
    /// It was stopped for a fault, or could not be run.
    Aborted = 4,
    /// It has asked to be started again.
    Reset = 5,
    /// The control task has stopped it.
    Stopped = 6,
}

impl VmState {
    /// All states, by number.
    const ALL: [Self; 7] =
        [Self::Created, Self::Running, Self::Paused, Self::Off, Self::Aborted, Self::Reset, Self::Stopped];

    /// The state with a number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns whether vCPUs of it are there: it can be stopped, and cannot be started.
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Returns the state's name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Off => "off",
            Self::Aborted => "aborted",
            Self::Reset => "reset",
            Self::Stopped => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_numbers_match_documentation() {
        for number in 0..=u8::MAX {
            let state = VmState::from_number(number);
            assert_eq!(state.is_some(), number < 7);
            assert!(state.is_none_or(|state| state as u8 == number));
        }
        assert!(VmState::Paused.is_alive() && !VmState::Reset.is_alive());
    }
}
