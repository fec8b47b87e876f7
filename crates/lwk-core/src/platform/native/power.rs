//! How the machine's cores are started, and how it is switched off.

use super::{Map, psci::Psci};
use crate::{arch, memory, platform::PlatformError};
use drivers_power::{MmioBlock, bcm2835::PowerManagement, spin_table};
use machine::{EnableMethod, Machine, Mpidr, Region};

/// The ways there are.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per machine")]
pub(super) enum Power {
    /// Firmware does both.
    Psci(Psci),
    /// Cores look at words of memory; the watchdog, if there is one, stops the machine.
    SpinTable {
        release: heapless::Vec<(Mpidr, usize), { spin_table::MAX_CORES }>,
        watchdog: Option<PowerManagement<MmioBlock>>,
    },
}

impl Power {
    /// What the device tree says.
    pub(super) fn find(machine: &Machine<'_>, map: Map<'_>) -> Result<Self, PlatformError> {
        if let Some(psci) = machine.psci() {
            return Ok(Self::Psci(Psci { conduit: psci.conduit, version: psci.version }));
        }
        let mut release = heapless::Vec::new();
        for core in machine.cores().filter(|core| core.enabled) {
            if let EnableMethod::SpinTable { release_addr } = core.enable_method {
                let word =
                    Region::new(release_addr, 8).ok_or(PlatformError("a core's release address wraps"))?;
                let full = PlatformError("the spin table has more cores than can be started");
                release.push((core.mpidr, map(word)?)).map_err(|_| full)?;
            }
        }
        let block = machine.device("brcm,bcm2835-pm-wdt");
        if release.is_empty() && block.is_none() {
            return Err(PlatformError("the device tree has neither PSCI nor a spin table"));
        }
        let watchdog = block.map(&mut *map).transpose()?;
        // SAFETY: the device tree says that the block is there; it has just been mapped as a device, for this
        // driver.
        let watchdog = watchdog.map(|base| PowerManagement(unsafe { MmioBlock::new(base) }));
        Ok(Self::SpinTable { release, watchdog })
    }

    /// Starts another core at the physical address `entry` with `context` in x0.
    pub(super) fn start_core(&self, mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError> {
        match self {
            Self::Psci(psci) => psci.cpu_on(mpidr, entry, context),
            Self::SpinTable { release, .. } => {
                let (_, word) = release
                    .iter()
                    .find(|(core, _)| *core == mpidr)
                    .ok_or(PlatformError("the device tree does not say how to start the core"))?;
                let trampoline = memory::image_phys(spin_table::trampoline());
                let word = core::ptr::with_exposed_provenance_mut(*word);
                // SAFETY: the word is the core's own, by the device tree; cores are started once, with the
                // kernel's own entry.
                unsafe { spin_table::start(word, trampoline.0, mpidr.raw(), entry, context) }
                    .map_err(|_| PlatformError("more cores than the spin table has room for"))
            }
        }
    }

    /// Switches the calling core off; returns if it cannot.
    pub(super) fn stop_core(&self) -> PlatformError {
        match self {
            Self::Psci(psci) => psci.cpu_off(),
            // A core that has left the table has nowhere to go back to.
            Self::SpinTable { .. } => PlatformError("a spin table takes no cores back"),
        }
    }

    /// Returns whether cores can be switched off, and on again.
    pub(super) const fn can_stop_cores(&self) -> bool {
        matches!(self, Self::Psci(psci) if psci.can_stop_cores())
    }

    /// Switches the machine off.
    pub(super) fn off(&self) -> ! {
        match self {
            Self::Psci(psci) => psci.system_off(),
            Self::SpinTable { watchdog: Some(watchdog), .. } => watchdog.halt(),
            Self::SpinTable { .. } => {}
        }
        arch::halt()
    }
}
