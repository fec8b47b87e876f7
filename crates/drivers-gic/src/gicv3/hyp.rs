//! GICv3's hypervisor interface: `ICH_*_EL2` (GIC spec, 12.4).
#![cfg_attr(not(any(target_arch = "aarch64", doc)), allow(unused_imports, dead_code))]
use crate::hyp::{
    ACTIVE_PRIORITY_WORDS, Control, HypervisorInterface, ListRegister, SavedInterface, active_priority_words,
    end_count, list_registers, preemption_bits,
};
use crate::virtual_cpu::VirtualCpu;

/// The interface of the calling core, at EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    vtr: u64,
}

#[cfg(any(target_arch = "aarch64", doc))]
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading a register of the hypervisor interface touches no memory.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack, preserves_flags)) };
        value
    }};
}

#[cfg(any(target_arch = "aarch64", doc))]
macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: what these registers do is to interrupt the guest, or EL2; no memory is touched.
        unsafe { core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
    }};
}

/// Reads the `n`th of the registers with these names; 0 if there are fewer.
#[cfg(any(target_arch = "aarch64", doc))]
macro_rules! read_nth {
    ($n:expr, [$($index:literal => $register:literal),+ $(,)?]) => {
        match $n { $($index => read!($register),)+ _ => 0 }
    };
}

/// Writes the `n`th of the registers with these names.
#[cfg(any(target_arch = "aarch64", doc))]
macro_rules! write_nth {
    ($n:expr, $value:expr, [$($index:literal => $register:literal),+ $(,)?]) => {{
        let value: u64 = $value;
        match $n { $($index => write!($register, value),)+ _ => {} }
    }};
}

/// Names of registers that there are several of, for one of the macros above.
#[cfg(any(target_arch = "aarch64", doc))]
macro_rules! named {
    ($do:ident!(list_register, $($argument:expr),+)) => {
        $do!($($argument),+, [
            0 => "s3_4_c12_c12_0",
            1 => "s3_4_c12_c12_1",
            2 => "s3_4_c12_c12_2",
            3 => "s3_4_c12_c12_3",
            4 => "s3_4_c12_c12_4",
            5 => "s3_4_c12_c12_5",
            6 => "s3_4_c12_c12_6",
            7 => "s3_4_c12_c12_7",
            8 => "s3_4_c12_c13_0",
            9 => "s3_4_c12_c13_1",
            10 => "s3_4_c12_c13_2",
            11 => "s3_4_c12_c13_3",
            12 => "s3_4_c12_c13_4",
            13 => "s3_4_c12_c13_5",
            14 => "s3_4_c12_c13_6",
            15 => "s3_4_c12_c13_7",
        ])
    };
    ($do:ident!(active_0, $($argument:expr),+)) => {
        $do!($($argument),+, [0 => "s3_4_c12_c8_0", 1 => "s3_4_c12_c8_1", 2 => "s3_4_c12_c8_2", 3 => "s3_4_c12_c8_3"])
    };
    ($do:ident!(active_1, $($argument:expr),+)) => {
        $do!($($argument),+, [0 => "s3_4_c12_c9_0", 1 => "s3_4_c12_c9_1", 2 => "s3_4_c12_c9_2", 3 => "s3_4_c12_c9_3"])
    };
}

#[cfg(any(target_arch = "aarch64", doc))]
impl Interface {
    /// What the calling core has. The core has a GICv3 system-register interface, and that is switched on at
    /// EL2 (`ICC_SRE_EL2.SRE`).
    #[inline]
    pub fn find() -> Self {
        Self { vtr: read!("s3_4_c12_c11_1") }
    }

    /// Saves what a guest has set up and what is active, and leaves nothing of it behind. List registers are
    /// apart.
    pub fn save(&self) -> SavedInterface {
        let mut saved = SavedInterface { control: read!("s3_4_c12_c11_7"), ..SavedInterface::default() };
        for n in 0..active_priority_words(self.vtr) {
            saved.active_0[n] = named!(read_nth!(active_0, n)) as u32;
            saved.active_1[n] = named!(read_nth!(active_1, n)) as u32;
        }
        saved
    }

    /// Loads it.
    pub fn restore(&self, saved: &SavedInterface) {
        write!("s3_4_c12_c11_7", saved.control);
        for n in 0..active_priority_words(self.vtr).min(ACTIVE_PRIORITY_WORDS) {
            named!(write_nth!(active_0, n, saved.active_0[n].into()));
            named!(write_nth!(active_1, n, saved.active_1[n].into()));
        }
    }

    /// Whether there is something that a maintenance interrupt tells (`ICH_MISR_EL2`).
    pub fn has_maintenance(&self) -> bool {
        read!("s3_4_c12_c11_2") != 0
    }

    /// Those list registers, a bit each, that have been ended, are to tell so, and have not been written
    /// since (`ICH_EISR_EL2`).
    pub fn ended(&self) -> u16 {
        read!("s3_4_c12_c11_3") as u16
    }

    /// Those list registers, a bit each, that are free to be used (`ICH_ELRSR_EL2`): no interrupt is in them,
    /// and no end is to be told.
    pub fn free(&self) -> u16 {
        read!("s3_4_c12_c11_5") as u16
    }
}

#[cfg(any(target_arch = "aarch64", doc))]
impl VirtualCpu for Interface {
    fn settings(&self) -> u64 {
        read!("s3_4_c12_c11_7")
    }

    fn set_settings(&self, value: u64) {
        write!("s3_4_c12_c11_7", value);
    }

    fn active(&self, group: u8, n: usize) -> u32 {
        if n >= active_priority_words(self.vtr) {
            return 0;
        }
        let value = if group == 0 { named!(read_nth!(active_0, n)) } else { named!(read_nth!(active_1, n)) };
        value as u32
    }

    fn set_active(&self, group: u8, n: usize, value: u32) {
        if n >= active_priority_words(self.vtr) {
        } else if group == 0 {
            named!(write_nth!(active_0, n, value.into()));
        } else {
            named!(write_nth!(active_1, n, value.into()));
        }
    }

    fn preemption_bits(&self) -> u32 {
        preemption_bits(self.vtr)
    }

    fn count_end(&self) {
        let hcr = read!("s3_4_c12_c11_0");
        write!("s3_4_c12_c11_0", hcr.wrapping_add(1 << 27) & 0xffff_ffff);
    }
}

#[cfg(any(target_arch = "aarch64", doc))]
impl HypervisorInterface for Interface {
    #[inline]
    fn count(&self) -> usize {
        list_registers(self.vtr)
    }

    #[inline(never)]
    fn read(&self, n: usize) -> ListRegister {
        ListRegister::from_v3(named!(read_nth!(list_register, n)))
    }

    #[inline(never)]
    fn write(&self, n: usize, value: ListRegister) {
        named!(write_nth!(list_register, n, value.to_v3()));
    }

    #[inline]
    fn control(&self, control: Control) {
        write!("s3_4_c12_c11_0", control.bits().into());
    }

    #[inline]
    fn end_count(&self) -> u32 {
        end_count(read!("s3_4_c12_c11_0"))
    }
}
