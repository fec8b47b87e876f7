//! What the hypervisor needs from its board: an interrupt controller and a console.
//!
//! An image crate implements [`Board`] once and names the type in [`image!`](crate::image). The implementation is
//! found at link time, so that the interrupt path is a direct call, inlined by link-time optimisation.

use core::fmt;
pub use drivers_gic::{
    hyp::{HypervisorInterface, SavedInterface},
    vgic::Version,
    virtual_cpu::VirtualCpu,
};
use machine::{ConsoleInfo, Machine, allowed::Allowed};

/// The physical address of something in the image.
pub fn physical(address: usize) -> u64 {
    crate::el2_map::physical(address as u64).0
}

/// Why a board cannot be driven, in one sentence.
pub type BoardError = &'static str;

/// The virtual CPU interface of the calling core.
pub trait VirtualInterface: HypervisorInterface + Sync {
    /// Opens it for a VM, with what that had left there.
    fn enter(&self, saved: &SavedInterface);
    /// Closes it: nothing of the VM stays, and the next one cannot reach it.
    fn leave(&self) -> SavedInterface;
    /// GICv3: what is behind the VM's accesses to its CPU interface, which can be made to trap.
    fn virtual_cpu(&self) -> Option<&dyn VirtualCpu> {
        None
    }
    /// What a VM's GIC is like with it: the VM's own side of the interface is one of GICv2 or of GICv3.
    fn version(&self) -> Version;
    /// GICv2: the registers of the VM's own side (`GICV_*`): physical address, and bytes. Asked before [`Board::init`].
    fn cpu_interface(&self, _machine: &Machine<'_>) -> Option<(u64, u64)> {
        None
    }
}

/// A board: its drivers, as the hypervisor uses them. Interrupt ids are those of the board's controller.
///
/// # Safety
/// The implementation touches only the device registers that the device tree gives for the devices it drives, and
/// none that could change memory (DMA) or the hypervisor's own execution other than by interrupts.
pub unsafe trait Board {
    /// Where a byte can be written to reach the console that firmware has left, before the device tree has been read.
    const EARLY_CONSOLE: u64;
    /// Whether PSCI may be called with HVC to stop the machine when the image was entered at EL1 by mistake.
    const EARLY_STOP: bool;

    /// Device registers that [`init_console`](Self::init_console) and [`init`](Self::init) will use: (base, bytes).
    fn devices(machine: &Machine<'_>, map: &mut dyn FnMut(u64, u64));
    /// Finds the console. After this, [`write`](Self::write) works.
    ///
    /// # Errors
    /// There is no console that this board can drive.
    fn init_console(machine: &Machine<'_>) -> Result<(), BoardError>;
    /// Writes text to the console.
    fn write(text: &[u8]);
    /// Writes as many of the first bytes, as they are, as there is room for, without waiting; returns how many.
    fn try_write(bytes: &[u8]) -> usize;
    /// Does so to another UART, which is a VM's, at a time when the VM does not run. It may be in any state. A UART that this board has
    /// no driver for takes everything.
    fn try_write_to(_uart: &ConsoleInfo, bytes: &[u8]) -> usize {
        bytes.len()
    }
    /// Sets the interrupt controller up; all interrupts off.
    ///
    /// # Errors
    /// The machine has no controller that this board can drive.
    fn init(machine: &Machine<'_>) -> Result<(), BoardError>;
    /// Sets this core's part of the controller up and enables the given private interrupts and the kick.
    ///
    /// # Errors
    /// This core has no part in the controller.
    fn init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError>;
    /// Acknowledges the most urgent interrupt of this core.
    fn acknowledge() -> Option<u32>;
    /// Ends an interrupt that was acknowledged.
    fn end(intid: u32);
    /// Lets a device's interrupt come to a core.
    fn enable(intid: u32, mpidr: u64);
    /// Masks a device's interrupt.
    fn disable(intid: u32);
    /// The hardware that brings interrupts into VMs with a virtual GIC; `None` if there is none, or no VM is to have one.
    fn virtual_interface() -> Option<&'static dyn VirtualInterface> {
        None
    }
    /// Whether VMs may have emulated BCM2836 interrupt controllers, on a board that has real ones.
    const EMULATED: bool = false;
    /// Whether a device's interrupt is asserted now. Controllers of BCM2836 know it only of one that is enabled.
    fn is_asserted(_intid: u32) -> bool {
        false
    }
    /// Returns whether a counter sample is valid; a sample that an erratum may have corrupted is read again.
    fn is_valid(_counter: u64) -> bool {
        true
    }
    /// What of memory the hypervisor needs for ever, besides what it allocates: (base, bytes).
    fn memory(_machine: &Machine<'_>, _keep: &mut dyn FnMut(u64, u64)) {}
    /// A PSCI function of the machine, where no firmware has them; `CPU_OFF` returns when the core is switched on again.
    fn power(_function: u32, _arguments: [u64; 3]) -> u64 {
        hv_abi::SMCCC_NOT_SUPPORTED
    }
    /// Makes a private interrupt of this core active, or inactive: the `index`th core, with this affinity. Only where there is a
    /// [`virtual_interface`](Self::virtual_interface).
    fn set_active(_intid: u32, _active: bool, _index: u16, _mpidr: u64) {}
    /// The kinds of devices that a VM may have without being granted them one by one.
    const ALLOWED: &'static [Allowed] = &[];
    /// The interrupt that [`kick`](Self::kick) causes.
    const KICK: u32;
    /// Interrupts another core with [`KICK`](Self::KICK).
    fn kick(mpidr: u64);
}

unsafe extern "Rust" {
    fn __margay_board_devices(machine: &Machine<'_>, map: &mut dyn FnMut(u64, u64));
    fn __margay_board_init_console(machine: &Machine<'_>) -> Result<(), BoardError>;
    fn __margay_board_write(text: &[u8]);
    fn __margay_board_try_write(bytes: &[u8]) -> usize;
    fn __margay_board_try_write_to(uart: &ConsoleInfo, bytes: &[u8]) -> usize;
    fn __margay_board_init(machine: &Machine<'_>) -> Result<(), BoardError>;
    fn __margay_board_init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError>;
    fn __margay_board_acknowledge() -> Option<u32>;
    fn __margay_board_end(intid: u32);
    fn __margay_board_enable(intid: u32, mpidr: u64);
    fn __margay_board_disable(intid: u32);
    fn __margay_board_virtual_interface() -> Option<&'static dyn VirtualInterface>;
    fn __margay_board_emulated() -> bool;
    fn __margay_board_is_asserted(intid: u32) -> bool;
    fn __margay_board_set_active(intid: u32, active: bool, index: u16, mpidr: u64);
    fn __margay_board_is_valid(counter: u64) -> bool;
    fn __margay_board_memory(machine: &Machine<'_>, keep: &mut dyn FnMut(u64, u64));
    fn __margay_board_power(function: u32, arguments: [u64; 3]) -> u64;
    fn __margay_board_kick_id() -> u32;
    fn __margay_board_kick(mpidr: u64);
    fn __margay_board_allowed() -> &'static [Allowed];
}

macro_rules! forward {
    ($($name:ident => $symbol:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)?;)+) => {
        $(
            #[inline]
            pub(crate) fn $name($($arg: $type),*) $(-> $ret)? {
                // SAFETY: `image!` defines the symbol with this very signature, calling a safe function.
                unsafe { $symbol($($arg),*) }
            }
        )+
    };
}

forward! {
    devices => __margay_board_devices(machine: &Machine<'_>, map: &mut dyn FnMut(u64, u64));
    init_console => __margay_board_init_console(machine: &Machine<'_>) -> Result<(), BoardError>;
    write => __margay_board_write(text: &[u8]);
    try_write => __margay_board_try_write(bytes: &[u8]) -> usize;
    try_write_to => __margay_board_try_write_to(uart: &ConsoleInfo, bytes: &[u8]) -> usize;
    init => __margay_board_init(machine: &Machine<'_>) -> Result<(), BoardError>;
    init_core => __margay_board_init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError>;
    acknowledge => __margay_board_acknowledge() -> Option<u32>;
    end => __margay_board_end(intid: u32);
    enable => __margay_board_enable(intid: u32, mpidr: u64);
    disable => __margay_board_disable(intid: u32);
    virtual_interface => __margay_board_virtual_interface() -> Option<&'static dyn VirtualInterface>;
    emulated => __margay_board_emulated() -> bool;
    is_asserted => __margay_board_is_asserted(intid: u32) -> bool;
    set_active => __margay_board_set_active(intid: u32, active: bool, index: u16, mpidr: u64);
    is_valid => __margay_board_is_valid(counter: u64) -> bool;
    memory => __margay_board_memory(machine: &Machine<'_>, keep: &mut dyn FnMut(u64, u64));
    power => __margay_board_power(function: u32, arguments: [u64; 3]) -> u64;
    kick_id => __margay_board_kick_id() -> u32;
    kick => __margay_board_kick(mpidr: u64);
    allowed => __margay_board_allowed() -> &'static [Allowed];
}

/// Makes the hypervisor image of a board: `hv_core::image!(MyBoard);` in a `no_std`, `no_main` binary.
///
/// With `measured` behind the board's name, the image counts how long each call keeps a core, and says so when the primary switches the machine
/// off (`measured.rs`).
#[macro_export]
macro_rules! image {
    ($board:ty) => {
        $crate::image!($board, false);
    };
    ($board:ty, measured) => {
        $crate::image!($board, true);
    };
    ($board:ty, $measured:literal) => {
        const _: () = {
            use $crate::board::{Board, BoardError};
            use $crate::machine::{ConsoleInfo, Machine};

            #[unsafe(no_mangle)]
            static BOARD_EARLY_CONSOLE: u64 = <$board as Board>::EARLY_CONSOLE;
            #[unsafe(no_mangle)]
            static BOARD_EARLY_STOP: u64 = <$board as Board>::EARLY_STOP as u64;

            #[unsafe(no_mangle)]
            fn __margay_board_devices(machine: &Machine<'_>, map: &mut dyn FnMut(u64, u64)) {
                <$board as Board>::devices(machine, map)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_init_console(machine: &Machine<'_>) -> Result<(), BoardError> {
                <$board as Board>::init_console(machine)
            }
            #[unsafe(no_mangle)]
            static BOARD_IS_MEASURED: bool = $measured;
            #[unsafe(no_mangle)]
            fn __margay_board_write(text: &[u8]) {
                <$board as Board>::write(text)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_try_write(bytes: &[u8]) -> usize {
                <$board as Board>::try_write(bytes)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_try_write_to(uart: &ConsoleInfo, bytes: &[u8]) -> usize {
                <$board as Board>::try_write_to(uart, bytes)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_init(machine: &Machine<'_>) -> Result<(), BoardError> {
                <$board as Board>::init(machine)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError> {
                <$board as Board>::init_core(mpidr, private)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_acknowledge() -> Option<u32> {
                <$board as Board>::acknowledge()
            }
            #[unsafe(no_mangle)]
            fn __margay_board_end(intid: u32) {
                <$board as Board>::end(intid)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_enable(intid: u32, mpidr: u64) {
                <$board as Board>::enable(intid, mpidr)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_disable(intid: u32) {
                <$board as Board>::disable(intid)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_virtual_interface() -> Option<&'static dyn $crate::board::VirtualInterface> {
                <$board as Board>::virtual_interface()
            }
            #[unsafe(no_mangle)]
            fn __margay_board_emulated() -> bool {
                <$board as Board>::EMULATED
            }
            #[unsafe(no_mangle)]
            fn __margay_board_is_asserted(intid: u32) -> bool {
                <$board as Board>::is_asserted(intid)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_set_active(intid: u32, active: bool, index: u16, mpidr: u64) {
                <$board as Board>::set_active(intid, active, index, mpidr)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_is_valid(counter: u64) -> bool {
                <$board as Board>::is_valid(counter)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_memory(machine: &Machine<'_>, keep: &mut dyn FnMut(u64, u64)) {
                <$board as Board>::memory(machine, keep)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_power(function: u32, arguments: [u64; 3]) -> u64 {
                <$board as Board>::power(function, arguments)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_kick_id() -> u32 {
                <$board as Board>::KICK
            }
            #[unsafe(no_mangle)]
            fn __margay_board_kick(mpidr: u64) {
                <$board as Board>::kick(mpidr)
            }
            #[unsafe(no_mangle)]
            fn __margay_board_allowed() -> &'static [$crate::machine::allowed::Allowed] {
                <$board as Board>::ALLOWED
            }
        };
    };
}

unsafe extern "C" {
    static BOARD_EARLY_CONSOLE: u64;
    static BOARD_IS_MEASURED: bool;
}

/// Whether the image measures itself.
#[inline(always)]
pub(crate) fn is_measured() -> bool {
    // SAFETY: a constant that `image!` defines.
    unsafe { BOARD_IS_MEASURED }
}

/// [`Board::EARLY_CONSOLE`].
pub(crate) fn early_console() -> u64 {
    // SAFETY: a constant that `image!` defines.
    unsafe { BOARD_EARLY_CONSOLE }
}

/// The console as a formatter.
pub(crate) struct ConsoleWriter;

impl fmt::Write for ConsoleWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// A board for host tests: a console that keeps nothing, and in tests an interrupt controller of words.
#[cfg(not(target_os = "none"))]
pub(crate) mod host {
    use super::{Board, BoardError, ConsoleInfo, Machine, VirtualInterface};

    /// What has been written to VMs' UARTs, each of which takes three bytes at a time, and the one at address 0 none.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) static TERMINAL: std::sync::Mutex<std::vec::Vec<u8>> =
        std::sync::Mutex::new(std::vec::Vec::new());

    /// The interrupt controller: bits are interrupts.
    #[cfg(any(test, feature = "testing"))]
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Controller {
        pub(crate) enabled: u128,
        pub(crate) asserted: u128,
        pub(crate) active: u128,
        /// Cores that have been sent a kick: bit n for the one with affinity n.
        pub(crate) kicked: u64,
        /// The affinity of the core that the last interrupt was enabled for.
        pub(crate) routed: u64,
    }

    #[cfg(any(test, feature = "testing"))]
    std::thread_local! {
        pub(crate) static CONTROLLER: core::cell::Cell<Controller> =
            const { core::cell::Cell::new(Controller { enabled: 0, asserted: 0, active: 0, kicked: 0, routed: 0 }) };
    }

    #[cfg(any(test, feature = "testing"))]
    impl Controller {
        pub(crate) fn now() -> Self {
            CONTROLLER.get()
        }

        pub(crate) fn change(change: impl FnOnce(&mut Self)) {
            let mut controller = CONTROLLER.get();
            change(&mut controller);
            CONTROLLER.set(controller);
        }
    }

    #[cfg(not(any(test, feature = "testing")))]
    #[derive(Default)]
    struct Controller {
        enabled: u128,
        asserted: u128,
        active: u128,
        kicked: u64,
        routed: u64,
    }

    #[cfg(not(any(test, feature = "testing")))]
    impl Controller {
        fn now() -> Self {
            Self::default()
        }

        fn change(_: impl FnOnce(&mut Self)) {}
    }

    impl Controller {
        fn first(self) -> Option<u32> {
            let pending = self.enabled & self.asserted & !self.active;
            (pending != 0).then(|| pending.trailing_zeros())
        }
    }

    fn bit(intid: u32) -> u128 {
        1_u128.checked_shl(intid).unwrap_or(0)
    }

    struct Host;

    crate::image!(Host);

    // SAFETY: touches nothing.
    unsafe impl Board for Host {
        const EARLY_CONSOLE: u64 = 0;
        const EARLY_STOP: bool = false;
        const KICK: u32 = 0;
        const EMULATED: bool = true;

        fn devices(_: &Machine<'_>, _: &mut dyn FnMut(u64, u64)) {}
        fn init_console(_: &Machine<'_>) -> Result<(), BoardError> {
            Ok(())
        }
        fn write(_: &[u8]) {}
        fn try_write(bytes: &[u8]) -> usize {
            bytes.len()
        }
        #[cfg(any(test, feature = "testing"))]
        fn try_write_to(uart: &ConsoleInfo, bytes: &[u8]) -> usize {
            let taken = if uart.region.base == 0 { 0 } else { bytes.len().min(3) };
            if let Ok(mut terminal) = TERMINAL.lock() {
                terminal.extend_from_slice(&bytes[..taken]);
            }
            taken
        }
        fn init(_: &Machine<'_>) -> Result<(), BoardError> {
            Ok(())
        }
        fn init_core(_: u64, _: &[u32]) -> Result<(), BoardError> {
            Ok(())
        }
        fn acknowledge() -> Option<u32> {
            Controller::now().first()
        }
        fn end(_: u32) {}
        fn enable(intid: u32, mpidr: u64) {
            Controller::change(|controller| {
                controller.enabled |= bit(intid);
                controller.routed = mpidr;
            });
        }
        fn disable(intid: u32) {
            Controller::change(|controller| controller.enabled &= !bit(intid));
        }
        fn set_active(intid: u32, active: bool, _: u16, _: u64) {
            let change = |now: u128| if active { now | bit(intid) } else { now & !bit(intid) };
            Controller::change(|controller| controller.active = change(controller.active));
        }
        fn kick(mpidr: u64) {
            Controller::change(|controller| controller.kicked |= 1 << mpidr);
        }
        fn is_asserted(intid: u32) -> bool {
            let now = Controller::now();
            now.asserted & bit(intid) != 0
        }
        fn virtual_interface() -> Option<&'static dyn VirtualInterface> {
            #[cfg(test)]
            return crate::testing::list_registers();
            #[cfg(not(test))]
            None
        }
    }
}
