//! Tells the terminal of the VM that has the machine's devices why that VM stopped.
//!
//! That VM may own a UART, at which people see nothing of the hypervisor's console. They learn why the VM stopped in two ways:
//!
//! * When it stops, the hypervisor writes one line to the VM's UART ([`stopped`], [`drain`]), because nothing of the VM runs that could.
//!   No core waits for the UART, which the VM may have left in any state: a core writes as many bytes as the UART has room for, when it
//!   looks after the [console](crate::console), and never while a core has a vCPU of the VM loaded.
//! * When it is started again, its device tree has the reason in `/hypervisor`: `margay,last-stop` ([`property`]). [`crate::teardown`]
//!   fills it in.

use crate::{
    board,
    console::{self, Piece, Text},
    lock::Lock,
    vcpu::VcpuState,
    vm::Vm,
};
use core::fmt::Write as _;
use machine::ConsoleInfo;
use plain_numbers::{Dec, Hex};
use vm_lifecycle::StopReason;

/// The property's name.
pub(crate) const PROPERTY: &str = "margay,last-stop";
/// Bytes of the property's value: text, and zeros. The longest reason has 122.
pub(crate) const REASON_LEN: usize = 128;

/// The property's value.
pub(crate) type Reason = [u8; REASON_LEN];

/// A VM's UART, and the line that is being written to it.
struct Terminal {
    vm: &'static Vm,
    uart: ConsoleInfo,
    /// Empty: there is nothing to write.
    line: Piece,
    written: usize,
    /// How often a core may still find that the UART takes nothing.
    tries: u32,
}

/// A UART whose VM has left it so that it sends nothing (flow control) shall not cost each interrupt a look at it for ever.
const TRIES: u32 = 100_000;

impl Terminal {
    fn clear(&mut self) {
        (self.line, self.written, self.tries) = (Piece::new(), 0, TRIES);
        console::set_terminal_pending(false);
    }

    fn write(&mut self) {
        // A core that is about to leave one has not saved it yet, and until then the VM may be writing to the UART.
        let is_running = |vcpu: &crate::vcpu::Vcpu| matches!(vcpu.state(), VcpuState::Running(_));
        if self.vm.is_active() || self.vm.vcpus.iter().any(is_running) {
            return;
        }
        let rest = self.line.bytes().get(self.written..).unwrap_or_default();
        let (count, taken) = (rest.len(), board::try_write_to(&self.uart, rest));
        self.written += taken;
        self.tries -= u32::from(taken == 0);
        if taken == count || self.tries == 0 {
            self.clear();
        }
    }
}

/// The lock is held for as long as a UART takes bytes without waiting, and who only wants to write does not wait for it.
static TERMINAL: Lock<Option<Terminal>> = Lock::new(None);

/// Makes the UART of `vm` known, which is mapped for the hypervisor.
pub(crate) fn attach(vm: &'static Vm, uart: ConsoleInfo) {
    *TERMINAL.lock() = Some(Terminal { vm, uart, line: Piece::new(), written: 0, tries: TRIES });
}

/// Whether a line waits for the UART.
#[cfg(test)]
pub(crate) fn is_queued() -> bool {
    TERMINAL.lock().as_ref().is_some_and(|terminal| !terminal.line.bytes().is_empty())
}

/// Forgets the UART, with the VM.
#[cfg(test)]
pub(crate) fn detach() {
    *TERMINAL.lock() = None;
    console::set_terminal_pending(false);
}

/// Does `with` to the terminal of `vm`, if it has one.
fn with_terminal_of(vm: &Vm, with: impl FnOnce(&mut Terminal)) {
    if let Some(terminal) = TERMINAL.lock().as_mut().filter(|terminal| core::ptr::eq(terminal.vm, vm)) {
        with(terminal);
    }
}

/// Queues the line that says why `vm` stopped. Teardown waits for the caller, so that the line is not of an earlier life.
pub(crate) fn stopped(vm: &Vm) {
    with_terminal_of(vm, |terminal| {
        terminal.clear();
        let line = &mut terminal.line;
        let _ = write!(line, "\n[hv] {} stopped: ", Text(vm.name));
        write_reason(vm, line);
        let _ = line.write_str("\n");
        console::set_terminal_pending(true);
    });
}

/// Drops what is left of the line, because `vm` is about to run, and to write to its UART, again.
pub(crate) fn cancel(vm: &Vm) {
    with_terminal_of(vm, Terminal::clear);
}

/// Writes as much of the line as the UART takes, unless another core does.
pub(crate) fn drain() {
    if let Some(mut guard) = TERMINAL.try_lock()
        && let Some(terminal) = guard.as_mut()
    {
        terminal.write();
    }
}

/// Why `vm`, which has been stopped, did so: the value of the property.
pub(crate) fn reason(vm: &Vm) -> Reason {
    let mut text = Piece::new();
    write_reason(vm, &mut text);
    let (mut reason, text) = ([0; REASON_LEN], text.bytes());
    // A zero stays at the end.
    let len = text.len().min(REASON_LEN - 1);
    reason[..len].copy_from_slice(&text[..len]);
    reason
}

fn write_reason(vm: &Vm, to: &mut Piece) {
    let _ = match (vm.status().reason(), vm.crash()) {
        (None, _) => Ok(()),
        (Some(StopReason::Aborted), Some((vcpu, fault))) => write!(
            to,
            "a fault: vcpu {} at {}, syndrome {}, address {}, ipa {}",
            Dec(vcpu.0.into()),
            Hex(fault.pc),
            Hex(fault.syndrome),
            Hex(fault.address),
            Hex(fault.ipa)
        ),
        (Some(StopReason::Aborted), None) => to.write_str("a fault"),
        (Some(StopReason::Off), _) => to.write_str("it switched itself off"),
        (Some(StopReason::Reset), _) => to.write_str("it asked for a reset"),
        (Some(StopReason::Stopped), _) => to.write_str("the primary stopped it"),
    };
}

/// Where in the tree `dtb` the value of the property is, if the tree has it.
pub(crate) fn property(dtb: &[u8]) -> Option<u64> {
    let hypervisor = devtree::Tree::new(dtb).ok()?.root().child("hypervisor")?;
    let value = hypervisor.value(PROPERTY).filter(|value| value.len() == REASON_LEN)?;
    Some((value.as_ptr() as usize - dtb.as_ptr() as usize) as u64)
}
