//! SErrors: asynchronous external aborts, which report what went wrong some time ago (Arm ARM, "Asynchronous exceptions" and the
//! chapter on RAS). docs/serrors.md says which SError is attributed to which VM, and why.
//!
//! EL2 runs with `PSTATE.A` set, so an SError that is pending when a VM leaves its core would be taken when the next VM is entered. Hence
//! a VM that has devices is synchronised when it leaves ([`synchronise`]): what its accesses have caused is taken then.

use crate::{
    arch,
    console::{self, Text},
    percore::Core,
    report, run,
    vcpu::Vcpu,
    vm::VmKind,
};
use hv_abi::exit::Fault;
use plain_numbers::{Dec, Hex};

/// Class of an SError in `ESR_ELx`, with IL (Arm ARM, `ESR_EL2`).
const CLASS: u64 = 0x2f << 26 | 1 << 25;
/// ISS of an SError: IDS, AET and DFSC. `DISR_EL1` and `VSESR_EL2` have the same fields in the same places.
const ISS: u64 = 0x1ff_ffff;
const IDS: u64 = 1 << 24;
const AET: u32 = 10;
/// DFSC: an asynchronous SError, whose AET is valid.
const ASYNCHRONOUS: u64 = 0b01_0001;

/// What the processor says about an SError (Arm ARM, ISS encoding for an SError exception).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// UC: the error may have spread, and the state of the core is not to be trusted.
    Uncontainable,
    /// CE: corrected. UEO: what was executed is not affected.
    Harmless,
    /// UEU, UER: what was executed cannot go on as if nothing had happened. Or a core without FEAT_RAS, or one that has its own syndromes.
    Contained,
}

impl Severity {
    const fn of(esr: u64) -> Self {
        if esr & IDS != 0 || esr & 0x3f != ASYNCHRONOUS {
            return Self::Contained;
        }
        match esr >> AET & 0b111 {
            0b000 => Self::Uncontainable,
            0b010 | 0b110 => Self::Harmless,
            _ => Self::Contained,
        }
    }
}

/// What happens on an SError that is attributed to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Response {
    /// It is reported, and everybody goes on.
    Report,
    /// The VM is stopped.
    Stop,
    /// The VM gets a virtual SError, and decides itself.
    Inject,
    /// The machine is stopped.
    Fatal,
}

const fn response(kind: VmKind, severity: Severity) -> Response {
    match (severity, kind) {
        (Severity::Uncontainable, _) => Response::Fatal,
        (Severity::Harmless, _) => Response::Report,
        (Severity::Contained, VmKind::Secondary) => Response::Stop,
        (Severity::Contained, VmKind::Primary | VmKind::SuperSecondary) => Response::Inject,
    }
}

/// Deals with an SError of `vcpu`, which this core owns; returns whether that has stopped its VM, which the caller halts. `pc`: where the
/// VM was when the SError was taken.
#[cold]
#[inline(never)]
pub(crate) fn attribute(vcpu: &Vcpu, esr: u64, pc: u64) -> bool {
    let vm = vcpu.vm();
    let response = response(vm.kind, Severity::of(esr));
    if response == Response::Fatal {
        report::fatal(format_args!("uncontainable SError, syndrome {}, in {}", Hex(esr), Text(vm.name)));
    }
    console::info!(
        "{} ({}) vcpu {}: SError, syndrome {}, at {}",
        Text(vm.name),
        vm.id,
        Dec(vcpu.index().0.into()),
        Hex(esr),
        Hex(pc),
    );
    match response {
        Response::Stop => vm.abort(vcpu.index(), Fault { syndrome: esr, address: 0, ipa: 0, pc }),
        Response::Inject => {
            vcpu.hcr.set(vcpu.hcr.get() | arch::VSE);
            vcpu.virtual_serror.set(esr & ISS);
            false
        }
        Response::Report | Response::Fatal => false,
    }
}

/// Takes the SErrors that `vcpu`, which this core has just saved, has caused (`ESB`; without FEAT_RAS, what has arrived after a `DSB`), and
/// notes whether it has taken a virtual one.
pub(crate) fn synchronise(vcpu: &'static Vcpu, core: &'static Core, pc: u64) {
    if vcpu.hcr.get() & arch::VSE != 0 && !arch::has_deferred_virtual_serror(vcpu.hcr.get()) {
        // One that the VM has deferred, by an ESB, and not yet read, is raised again.
        update_virtual(vcpu);
    }
    if let Some(iss) = arch::take_serror(vcpu.hcr.get())
        && attribute(vcpu, CLASS | iss & ISS, pc)
    {
        run::halt(vcpu.vm(), core);
    }
}

/// Writes the syndrome of the virtual SError that is pending for `vcpu`, which is being loaded.
#[cold]
#[inline(never)]
pub(crate) fn load_virtual(vcpu: &Vcpu) {
    arch::set_virtual_serror(vcpu.hcr.get(), vcpu.virtual_serror.get());
}

/// Notes whether the loaded vCPU has taken its virtual SError, which clears `HCR_EL2.VSE`.
#[cold]
#[inline(never)]
pub(crate) fn update_virtual(vcpu: &Vcpu) {
    if !arch::has_virtual_serror() {
        vcpu.hcr.set(vcpu.hcr.get() & !arch::VSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn esr(aet: u64) -> u64 {
        CLASS | aet << AET | ASYNCHRONOUS
    }

    #[test]
    fn severity_is_that_of_the_error_type() {
        use Severity::{Contained, Harmless, Uncontainable};
        // UC, UEU, UEO, UER, reserved, reserved, CE, reserved.
        let of = [Uncontainable, Contained, Harmless, Contained, Contained, Contained, Harmless, Contained];
        for (aet, severity) in (0..).zip(of) {
            assert_eq!(Severity::of(esr(aet)), severity, "AET {aet:#b}");
            // IMPLEMENTATION DEFINED, and uncategorized, as from a core without FEAT_RAS: AET says nothing.
            assert_eq!(Severity::of(esr(aet) | IDS), Contained);
            assert_eq!(Severity::of(esr(aet) & !0x3f), Contained);
        }
    }

    #[test]
    fn only_an_uncontainable_error_stops_the_machine() {
        use VmKind::{Primary, Secondary, SuperSecondary};
        for kind in [Primary, Secondary, SuperSecondary] {
            for severity in [Severity::Uncontainable, Severity::Harmless, Severity::Contained] {
                let fatal = response(kind, severity) == Response::Fatal;
                assert_eq!(fatal, severity == Severity::Uncontainable, "{kind:?} {severity:?}");
                let stops = response(kind, severity) == Response::Stop;
                assert_eq!(stops, kind == Secondary && severity == Severity::Contained);
            }
        }
    }
}
