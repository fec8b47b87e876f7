//! A virtual machine.

use crate::{
    arch::Traps,
    bcm2836::{self, Bcm2836},
    firmware::Whitelist,
    gic::{self, Gic},
    lock::{Guard, Lock},
    notifications::Notifications,
    reload::Reload,
    routing::{self, Pending},
    tables::VmTables,
    vcpu::Vcpu,
};
use alloc::boxed::Box;
use bundle::Service;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use hv_abi::{
    Regs,
    exit::{Exit, Fault},
    ffa::{
        Error, Version,
        memory::{Handle, Header, Written},
    },
    ids::{Ipa, VcpuIndex, VmId},
};
use vm_lifecycle::{Event, LifeCycle, Status, StopReason};

/// What a VM is allowed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmKind {
    /// Schedules all others, owns what memory is nobody else's.
    Primary,
    /// Isolated, run by the primary; has the devices, and sees physical addresses.
    SuperSecondary,
    /// Isolated, run by the primary.
    Secondary,
}

/// RX and TX pages, and who has the RX page.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// The registered pages: (TX, RX), physical.
    pub(crate) pages: Option<(hv_abi::ids::Pa, hv_abi::ids::Pa)>,
    /// What the RX page is used for.
    pub(crate) rx: Rx,
    /// The memory transaction that the VM is sending in fragments.
    pub(crate) sending: Option<Sending>,
    /// The memory call that the VM is making, whose steps are not all done.
    pub(crate) ongoing: Option<Ongoing>,
}

/// What a VM's RX page is used for. Only a free one is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rx {
    /// Nothing.
    #[default]
    Free,
    /// A message, of which the VM has not been told by `FFA_NOTIFICATION_GET`.
    Message,
    /// The response to a retrieve request of this vCPU's that is not over ([`Mailbox::ongoing`]).
    Promised(VcpuIndex),
    /// What this vCPU has asked for, or a message that it has been told of, until it is released.
    Held(VcpuIndex),
}

/// A memory call that is not over, and which its caller makes again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ongoing {
    /// The call, by which it is known again.
    pub(crate) call: Regs,
    pub(crate) handle: Handle,
    pub(crate) what: What,
}

impl Ongoing {
    /// Whether both are the same call.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.call, self.handle) == (other.call, other.handle)
    }
}

/// What a memory call does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// Sends a fragment of a transaction, or all of it.
    Send,
    /// Retrieves.
    Retrieve {
        /// The head of the request.
        request: Header,
        /// The response that is in the RX page.
        response: Option<Written>,
    },
    /// Relinquishes.
    Relinquish,
}

/// A memory transaction of which some fragments have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) handle: Handle,
    /// Bytes of the whole descriptor, and of what has come of it.
    pub(crate) total: u32,
    pub(crate) received: u32,
}

/// What a VM has asked for, and been promised, by FF-A.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messaging {
    /// `PROPERTY_*` bits of its partition information.
    pub(crate) properties: u32,
    /// The version that it speaks if it does not ask for another.
    pub(crate) version: Version,
    /// It receives notifications from the start.
    pub(crate) notifications: bool,
}

impl Messaging {
    /// For a VM that has no partition manifest: everything that its kind may do, in the newest version.
    pub(crate) const fn of(kind: VmKind) -> Self {
        use hv_abi::ffa;
        let receives = match kind {
            // Its vCPUs never wait for messages: they schedule.
            VmKind::Primary => 0,
            VmKind::SuperSecondary | VmKind::Secondary => {
                ffa::PROPERTY_DIRECT_RECV | ffa::PROPERTY_DIRECT2_RECV
            }
        };
        let sends = ffa::PROPERTY_DIRECT_SEND | ffa::PROPERTY_DIRECT2_SEND | ffa::PROPERTY_INDIRECT;
        let properties = receives | sends | ffa::PROPERTY_NOTIFICATIONS | ffa::PROPERTY_AARCH64;
        Self { properties, version: ffa::VERSION_1_2, notifications: false }
    }

    /// For a VM whose partition manifest asks for these properties.
    pub(crate) fn by_manifest(kind: VmKind, methods: u16, notifications: bool, version: u32) -> Self {
        use hv_abi::ffa;
        let possible = Self::of(kind);
        let asked = u32::from(methods) | if notifications { ffa::PROPERTY_NOTIFICATIONS } else { 0 };
        Self {
            properties: possible.properties & (asked | ffa::PROPERTY_AARCH64),
            version: Version::from_bits(version).unwrap_or(possible.version),
            notifications,
        }
    }
}

/// What a VM without partition manifest is known by.
pub(crate) const ANY_SERVICE: Service = Service { uuid: [0; 4], messaging_method: u16::MAX };

/// What is done when a vCPU leaves a core: one byte, so that nothing, which is most VMs' case, is found in one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure(u8);

impl Departure {
    const PRIMARY: u8 = 1 << 0;
    const DEVICES: u8 = 1 << 1;

    const fn of(kind: VmKind) -> Self {
        Self(match kind {
            VmKind::Primary => Self::PRIMARY,
            VmKind::SuperSecondary => Self::DEVICES,
            VmKind::Secondary => 0,
        })
    }

    /// Whether there is nothing to do: a secondary without devices.
    #[inline(always)]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 == 0
    }

    /// Whether it stays on its core, with its FP/SIMD registers and keys: the primary's.
    #[inline(always)]
    pub(crate) const fn stays(self) -> bool {
        self.0 & Self::PRIMARY != 0
    }

    /// Whether it can cause SErrors late, by what it has written to devices.
    #[inline(always)]
    pub(crate) const fn has_devices(self) -> bool {
        self.0 & Self::DEVICES != 0
    }
}

/// A virtual machine.
pub struct Vm {
    pub(crate) id: VmId,
    pub(crate) kind: VmKind,
    pub(crate) name: &'static str,
    /// What it is known by, at least one.
    pub(crate) services: Box<[Service]>,
    pub(crate) vcpus: Box<[Vcpu]>,
    pub(crate) traps: Traps,
    /// VTTBR_EL2: table root and VMID.
    pub(crate) vttbr: u64,
    pub(crate) stage2: Lock<VmTables>,
    /// From where it receives memory, if it does not see physical addresses.
    pub(crate) window: Ipa,
    pub(crate) mailbox: Lock<Mailbox>,
    pub(crate) notifications: Lock<Notifications>,
    /// There is something to be read, which ends a wait for messages even if the VM has enabled no interrupt: a message in the RX
    /// page, or a notification for the VM.
    pub(crate) attention: AtomicBool,
    /// Which of its devices' interrupts are pending.
    pub(crate) device_irqs: Pending,
    /// Its virtual GIC, if it has one in place of the para-virtual controller.
    pub(crate) gic: Option<Box<Gic>>,
    /// Its controllers of BCM2836, likewise.
    pub(crate) bcm2836: Option<Box<Bcm2836>>,
    /// What is done when one of its vCPUs leaves a core, besides saving its registers.
    pub(crate) departure: Departure,
    /// Its para-virtual interrupts come by list registers.
    pub(crate) list_registers: bool,
    /// Its virtual counter starts when it does; otherwise it is the physical one.
    pub(crate) time_from_start: bool,
    /// CNTVOFF_EL2: how far its virtual counter is behind the physical one.
    pub(crate) counter_offset: AtomicU64,
    /// What FF-A lets it do.
    pub(crate) messaging: Messaging,
    /// What of firmware it may call.
    pub(crate) whitelist: Whitelist,
    /// What its memory held at boot, and how far its teardown has come. This lock is the token of teardown: nobody waits for it
    /// ([`Lock::try_lock`]), and only its holder makes transitions other than a stop.
    pub(crate) reload: Lock<Option<Reload>>,
    /// FF-A version that the VM negotiated, with [`VERSION_USED`].
    ffa_version: AtomicU32,
    /// How many of its vCPUs are on.
    pub(crate) vcpus_on: AtomicU16,
    life: LifeCycle,
    /// The fault that stopped it. Taken before the stop, so that who sees the reason finds the fault.
    crash: Lock<(VcpuIndex, Fault)>,
}

/// The VM has used a call whose form depends on the version, which is therefore fixed. No version has this bit.
const VERSION_USED: u32 = 1 << 31;

const NO_FAULT: Fault = Fault { syndrome: 0, address: 0, ipa: 0, pc: 0 };

impl Vm {
    #[allow(clippy::too_many_arguments, reason = "called by boot and the test bed, once each")]
    pub(crate) fn new(
        id: VmId,
        kind: VmKind,
        name: &'static str,
        services: &[Service],
        messaging: Messaging,
        vcpus: Box<[Vcpu]>,
        mut stage2: VmTables,
        [window, spare]: [u64; 2],
    ) -> Self {
        Self {
            id,
            kind,
            name,
            services: services.into(),
            vcpus,
            traps: Traps::of(kind),
            vttbr: stage2.complete(id, spare as usize),
            stage2: Lock::new(stage2),
            window: Ipa(window),
            mailbox: Lock::new(Mailbox::default()),
            notifications: Lock::new(Notifications::new(messaging.notifications)),
            attention: AtomicBool::new(false),
            device_irqs: routing::NOTHING,
            gic: None,
            bcm2836: None,
            departure: Departure::of(kind),
            list_registers: false,
            time_from_start: false,
            counter_offset: AtomicU64::new(0),
            messaging,
            whitelist: Whitelist::default(),
            reload: Lock::new(None),
            ffa_version: AtomicU32::new(messaging.version.to_bits()),
            vcpus_on: AtomicU16::new(1),
            life: LifeCycle::new(Status::Running),
            crash: Lock::new((VcpuIndex(0), NO_FAULT)),
        }
    }

    /// Whether it runs a system that takes it for a machine: it has the machine's kind of interrupt controller, or its devices, or
    /// schedules. An access to an address where it has nothing is an external abort then, as on the machine.
    pub(crate) fn is_machine_like(&self) -> bool {
        self.kind != VmKind::Secondary || self.gic.is_some() || self.bcm2836.is_some()
    }

    /// Whether it schedules the others.
    #[inline]
    pub(crate) fn is_primary(&self) -> bool {
        self.id == VmId::PRIMARY
    }

    /// Whether its interrupts come by list registers, and not by the virtual interrupt line.
    #[inline(always)]
    pub(crate) fn by_list_registers(&self) -> bool {
        self.gic.is_some() || self.list_registers
    }

    /// Lets it have devices.
    pub(crate) fn set_devices(&mut self) {
        self.departure.0 |= Departure::DEVICES;
    }

    /// Whether it has a service with this UUID; zero stands for any.
    pub(crate) fn serves(&self, uuid: [u32; 4]) -> bool {
        uuid == [0; 4] || self.services.iter().any(|service| service.uuid == uuid)
    }

    /// The FF-A version that it speaks. Asked by calls whose form depends on it, and fixed from then on.
    pub(crate) fn ffa_version(&self) -> Version {
        version_of(self.ffa_version.fetch_or(VERSION_USED, Ordering::Relaxed))
    }

    /// The FF-A version that it speaks unless it asks for another.
    pub(crate) fn ffa_version_so_far(&self) -> Version {
        version_of(self.ffa_version.load(Ordering::Relaxed))
    }

    /// Makes it speak `version`; `false` if it is too late for that.
    pub(crate) fn negotiate(&self, version: Version) -> bool {
        let bits = version.to_bits();
        let change = |old: u32| (old & VERSION_USED == 0).then_some(bits);
        let changed = self.ffa_version.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        changed.map_or_else(|old| old & !VERSION_USED == bits, |_| true)
    }

    /// Whether it sees all memory at its physical address, and so what it receives.
    pub(crate) fn receives_at_physical_addresses(&self) -> bool {
        self.kind != VmKind::Secondary
    }

    /// The vCPU with affinity `mpidr`.
    pub(crate) fn vcpu_by_affinity(&self, mpidr: u64) -> Option<&Vcpu> {
        self.vcpus.iter().find(|v| v.affinity() == mpidr)
    }

    /// Whether it may run: its vCPUs may be entered, and calls by it or about it may change anything.
    #[inline(always)]
    pub(crate) fn is_active(&self) -> bool {
        self.life.accepts_calls()
    }

    /// Whether it may call others, as far as this core knows. What it does to them is not undone by its teardown, so nothing depends on who is
    /// first.
    #[inline(always)]
    pub(crate) fn may_call(&self) -> bool {
        self.life.accepted_calls()
    }

    /// Its phase.
    pub(crate) fn status(&self) -> Status {
        self.life.status()
    }

    /// Makes a transition that only the holder of the teardown token makes.
    pub(crate) fn proceed(&self, _token: &Guard<'_, Option<Reload>>, event: Event) -> bool {
        self.life.apply(event)
    }

    /// Takes a lock that teardown takes too, and then looks whether the VM runs: what is done under it is either refused, or seen by
    /// teardown.
    ///
    /// # Errors
    /// `ABORTED`: the VM has been stopped.
    pub(crate) fn lock_running<'a, T>(&self, lock: &'a Lock<T>) -> Result<Guard<'a, T>, Error> {
        let guard = lock.lock();
        if self.is_active() { Ok(guard) } else { Err(Error::Aborted) }
    }

    /// Why the VM does not run any more, as its vCPUs' exits tell; `None` if it may run.
    #[inline(always)]
    pub(crate) fn stop_reason(&self) -> Option<Exit> {
        if self.is_active() { None } else { self.stopped() }
    }

    #[cold]
    #[inline(never)]
    fn stopped(&self) -> Option<Exit> {
        Some(match self.status().reason()? {
            StopReason::Aborted => Exit::Aborted(self.crash().map_or(NO_FAULT, |(_, fault)| fault)),
            reason => Exit::Off { reset: reason == StopReason::Reset },
        })
    }

    /// Stops the VM because of a fault; returns whether it ran. Only the first fault counts. If it ran, [`crate::run::halt`] must follow.
    pub(crate) fn abort(&self, vcpu: VcpuIndex, fault: Fault) -> bool {
        let mut crash = self.crash.lock();
        let first = self.life.apply(Event::Stop(StopReason::Aborted));
        if first {
            *crash = (vcpu, fault);
        }
        first
    }

    /// Stops the VM at its own request, or the primary's; returns whether it ran. If it did, [`crate::run::halt`] must follow.
    #[inline(never)]
    pub(crate) fn switch_off(&self, reason: StopReason) -> bool {
        self.life.apply(Event::Stop(reason))
    }

    /// The core that has stopped the VM has looked at all of its vCPUs.
    pub(crate) fn halted(&self) {
        self.life.apply(Event::Halted);
    }

    /// The fault that stopped the VM, and the vCPU that caused it.
    pub(crate) fn crash(&self) -> Option<(VcpuIndex, Fault)> {
        let crash = self.crash.lock();
        (self.status().reason() == Some(StopReason::Aborted)).then_some(*crash)
    }

    /// Forgets what the VM has agreed on with others; it does not run.
    pub(crate) fn renew(&self) {
        *self.notifications.lock() = Notifications::new(self.messaging.notifications);
        self.attention.store(false, Ordering::Relaxed);
        gic::reset(self);
        bcm2836::reset(self);
        self.start_time();
        self.ffa_version.store(self.messaging.version.to_bits(), Ordering::Relaxed);
        self.vcpus_on.store(1, Ordering::Relaxed);
    }

    /// The VM starts now. Counters with an erratum are recognised by their low bits, which an offset leaves as they are.
    #[inline(never)]
    pub(crate) fn start_time(&self) {
        if self.time_from_start {
            self.counter_offset.store(crate::arch::counter_now() & !0xffff, Ordering::Relaxed);
        }
    }
}

/// The version that [`Vm::ffa_version`] holds.
fn version_of(bits: u32) -> Version {
    Version::from_bits(bits & !VERSION_USED).unwrap_or(hv_abi::ffa::VERSION_1_2)
}
