//! FF-A partition manifests: the root node of a device tree that is `arm,ffa-manifest-1.x`.
//!
//! The properties are those of the binding in the documentation of TF-A and Hafnium ("FF-A manifest binding to device
//! tree"), with services in either form that Hafnium has had: lists of UUIDs and messaging methods in the root, or a node
//! `services`. Which of them must be there is decided as Hafnium decides it. What a property asks for and Margay cannot
//! give is refused rather than ignored. `docs/manifest.md` has them all.

use crate::{
    error::{At, BundleError, Problem},
    manifest::{MAX_MEMORY, MAX_VCPUS, VmSpec},
    place::{Cells, Place, Result},
};
use devtree::Node;
use hv_abi::layout::{self, PAGE};

const COMPATIBLE: [&str; 3] = ["arm,ffa-manifest-1.0", "arm,ffa-manifest-1.1", "arm,ffa-manifest-1.2"];
const VERSION_1_0: u64 = 0x1_0000;
const VERSION_1_2: u64 = 0x1_0002;
/// Direct requests received and sent, indirect messages, and the same of the second kind of direct request.
const MESSAGING: u64 = 0b111 | MESSAGING_REQ2;
const MESSAGING_REQ2: u64 = 1 << 9 | 1 << 10;
const SERVICES_MAX: usize = 4;
const WORDS: usize = 4;
/// Most regions of either kind.
const REGIONS_MAX: usize = 32;
/// `ns-interrupts-action`: interrupts of others are kept from the partition, or it is preempted by them.
const ACTIONS: [u64; 2] = [0, 2];

/// The numbers in the root: from and to.
const NUMBERS: &[(&str, u64, u64)] = &[
    ("ffa-version", VERSION_1_0, VERSION_1_2),
    ("execution-ctx-count", 1, MAX_VCPUS as u64),
    ("exception-level", 0, u64::MAX),
    ("execution-state", 0, u64::MAX),
    ("xlat-granule", 0, u64::MAX),
    ("id", 0, u64::MAX),
    ("auxiliary-id", 0, 0xffff),
    ("load-address", 0, u64::MAX),
    ("entrypoint-offset", 0, u64::MAX),
    ("gp-register-num", 0, 3),
    ("boot-order", 0, 0xffff),
    ("ns-interrupts-action", 0, 2),
    ("other-s-interrupts-action", 0, 1),
    ("run-time-model", 0, 1),
    ("vm-availability-messages", 0, 3),
    ("power-management-messages", 0, 0xffff_ffff),
];
const REQUIRED: [&str; 4] = ["ffa-version", "execution-ctx-count", "exception-level", "execution-state"];

const MEMORY: &str = "memory-regions";
const DEVICES: &str = "device-regions";

// Attributes of regions. A fourth bit says which world memory belongs to, and has no meaning for VMs.
const READ: u64 = 1;
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;

/// Interrupts that a device can have: shared peripheral interrupts (GIC architecture, 2.2.1).
const SPIS: core::ops::RangeInclusive<u32> = 32..=1019;

/// A service of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its UUID, as four words in the manifest's order.
    pub uuid: [u32; WORDS],
    /// `messaging-method`: bit 0 receives direct requests, 1 sends them, 2 indirect messages, 9 and 10 as 0 and 1 for
    /// direct requests of the second kind.
    pub messaging_method: u16,
}

/// What a partition says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Partition<'a> {
    place: Place<'a>,
    load_address: u64,
    /// Where regions without an address begin; 0 for the primary, which has none.
    window: u64,
    services: [Service; SERVICES_MAX],
    service_count: usize,
    /// The FF-A version that it expects: major in bits 31:16, minor in bits 15:0.
    pub version: u32,
    /// The `messaging-method` of all services together.
    pub messaging_method: u16,
    /// Whether it receives notifications.
    pub notification_support: bool,
    /// Partitions boot in the order of these numbers; those without one come last.
    pub boot_order: Option<u16>,
    /// From its load address to the instruction that it starts with; only Hafnium's secondaries have one.
    pub entrypoint_offset: u64,
    /// The register, besides x0, that holds what x0 holds at the start.
    pub gp_register: Option<u8>,
    /// The id that stands for it in memory transactions of others.
    pub auxiliary_id: Option<u16>,
}

/// Memory that a partition asks for, besides `mem_size`, or a part of `mem_size` that it wants to use in one way only.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRegion<'a> {
    /// Its node's name.
    pub name: &'a str,
    /// Where the partition sees it.
    pub address: u64,
    /// Whether the manifest leaves that to the hypervisor.
    pub anywhere: bool,
    /// Bytes: whole pages.
    pub bytes: u64,
    /// Whether it may be written.
    pub write: bool,
    /// Whether it may be executed.
    pub execute: bool,
    phandle: Option<u32>,
}

/// Registers of a device that is a partition's alone.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRegion<'a> {
    /// Its node's name.
    pub name: &'a str,
    /// Physical, and where the partition sees it.
    pub address: u64,
    /// Bytes: whole pages.
    pub bytes: u64,
    /// Whether it may be written.
    pub write: bool,
    /// Its interrupts: two numbers each, the id and its attributes (type, configuration, priority).
    pub interrupts: Cells<'a>,
    /// Where they go: three numbers each, the id and the two halves of a core's affinity.
    pub interrupt_targets: Cells<'a>,
    /// The SMMU that it is behind.
    pub smmu_id: Option<u32>,
    /// Its streams there.
    pub stream_ids: Cells<'a>,
    /// Whether the partition insists on having it alone, as it does in any case.
    pub exclusive: bool,
}

impl MemoryRegion<'_> {
    /// Whether all of it is part of the `memory` bytes that a secondary has anyway.
    pub fn is_within(&self, memory: u64) -> bool {
        let offset = self.address.checked_sub(layout::RAM_BASE);
        offset.is_some_and(|offset| offset + self.bytes <= memory)
    }
}

impl<'a> Partition<'a> {
    /// Its services, at least one.
    pub fn services(&self) -> &[Service] {
        &self.services[..self.service_count]
    }

    /// The UUID of its first service.
    pub fn uuid(&self) -> [u32; WORDS] {
        self.services[0].uuid
    }

    /// Its memory regions, in the manifest's order.
    pub fn memory_regions(&self) -> impl Iterator<Item = MemoryRegion<'a>> + use<'a> {
        let own = *self;
        (0..).map_while(move |index| own.memory_region(index))
    }

    /// Its device regions, in the manifest's order.
    pub fn device_regions(&self) -> impl Iterator<Item = DeviceRegion<'a>> + use<'a> {
        let own = *self;
        (0..).map_while(move |index| own.device_region(index))
    }

    #[inline(never)]
    fn memory_region(&self, index: usize) -> Option<MemoryRegion<'a>> {
        let mut region = self.as_written(index)?;
        if region.anywhere {
            // The first gaps between all that has an address.
            let mut free = self.window;
            for earlier in (0..=index).filter_map(|index| self.as_written(index)).filter(|r| r.anywhere) {
                while let Some(end) = self.taken(free, earlier.bytes) {
                    free = end;
                }
                region.address = free;
                free += earlier.bytes;
            }
        }
        Some(region)
    }

    /// The end of something that has an address and overlaps with this range.
    fn taken(&self, address: u64, bytes: u64) -> Option<u64> {
        let given = (0..).map_while(|index| self.as_written(index)).filter(|region| !region.anywhere);
        let given = given.map(|region| (region.address, region.bytes));
        let devices = self.device_regions().map(|device| (device.address, device.bytes));
        let mut all = given.chain(devices);
        all.find(|other| overlap(*other, (address, bytes))).map(|(address, bytes)| address + bytes)
    }

    #[inline(never)]
    fn as_written(&self, index: usize) -> Option<MemoryRegion<'a>> {
        memory_region(self.part(MEMORY, index)?, self.load_address).ok()
    }

    #[inline(never)]
    fn device_region(&self, index: usize) -> Option<DeviceRegion<'a>> {
        device_region(self.part(DEVICES, index)?).ok()
    }

    /// Which of its memory regions are its RX and TX buffers, in this order.
    pub fn rx_tx(&self) -> Option<[usize; 2]> {
        let place = self.child("rx_tx-info")?;
        let index = |property| {
            let wanted = place.number(property).ok()??;
            self.memory_regions().position(|region| region.phandle.map(u64::from) == Some(wanted))
        };
        Some([index("rx-buffer")?, index("tx-buffer")?])
    }

    #[inline(never)]
    fn child(&self, name: &'static str) -> Option<Place<'a>> {
        let node = self.place.node.child(name)?;
        Some(Place { at: At::Child(name, ""), node, ..self.place })
    }

    /// A child of a child of the root, by its number.
    #[inline(never)]
    fn part(&self, of: &'static str, index: usize) -> Option<Place<'a>> {
        let node = self.child(of)?.node.children().nth(index)?;
        Some(Place { at: At::Child(of, node.name()), node, ..self.place })
    }

    fn children(&self, of: &'static str) -> impl Iterator<Item = Place<'a>> + use<'a> {
        let own = *self;
        (0..).map_while(move |index| own.part(of, index))
    }

    /// Checks the parts that are read when they are asked for.
    fn check_parts(&self, spec: &VmSpec<'a>) -> Result<'a, ()> {
        for (name, compatible, only) in [
            (
                MEMORY,
                "arm,ffa-manifest-memory-regions",
                "compatible is not \"arm,ffa-manifest-memory-regions\"",
            ),
            (
                DEVICES,
                "arm,ffa-manifest-device-regions",
                "compatible is not \"arm,ffa-manifest-device-regions\"",
            ),
            (
                "rx_tx-info",
                "arm,ffa-manifest-rx_tx-buffer",
                "compatible is not \"arm,ffa-manifest-rx_tx-buffer\"",
            ),
        ] {
            let Some(place) = self.child(name) else { continue };
            let node = |why| Err(BundleError::Node { file: place.file, node: name, why });
            if !place.is_compatible(compatible) {
                return node(only);
            }
            match place.node.children().take(REGIONS_MAX + 1).count() {
                0 if name != "rx_tx-info" => return node("there is none"),
                1..=REGIONS_MAX | 0 => {}
                _ => return node("more than 32"),
            }
        }
        // What the partition sees where: its memory first.
        let own = spec.mem_size.map(|bytes| (layout::RAM_BASE, bytes));
        for (index, place) in self.children(MEMORY).enumerate() {
            let region = memory_region(place, self.load_address)?;
            if region.anywhere {
                if own.is_none() {
                    return Err(place.error("base-address", Problem::Missing));
                }
                continue;
            }
            let (this, address) = ((region.address, region.bytes), region.address);
            let beside = own.filter(|own| !region.is_within(own.1)).is_some_and(|own| overlap(own, this));
            let earlier =
                (0..index).filter_map(|index| self.as_written(index)).filter(|other| !other.anywhere);
            let mut earlier = earlier.map(|other| (other.address, other.bytes));
            if beside || earlier.any(|other| overlap(other, this)) {
                return Err(place.error("base-address", Problem::Overlap(address)));
            }
        }
        for (index, place) in self.children(DEVICES).enumerate() {
            let region = device_region(place)?;
            let this = (region.address, region.bytes);
            let memory = self.memory_regions().filter(|other| !other.anywhere);
            let memory = memory.map(|other| (other.address, other.bytes));
            let earlier = self.device_regions().take(index).map(|other| (other.address, other.bytes));
            if memory.chain(earlier).chain(own).any(|other| overlap(other, this)) {
                return Err(place.error("base-address", Problem::Overlap(region.address)));
            }
        }
        if let Some(place) = self.child("rx_tx-info") {
            for property in ["rx-buffer", "tx-buffer"] {
                let value = place.missing(property, place.number(property)?)?;
                let mut regions = self.memory_regions();
                let region = regions.find(|region| region.phandle.map(u64::from) == Some(value));
                match region {
                    Some(region) if region.bytes == PAGE => {}
                    Some(_) => return Err(place.error(property, Problem::NotAPage)),
                    None => return Err(place.error(property, Problem::NoRegion(value))),
                }
            }
            if place.number("rx-buffer")? == place.number("tx-buffer")? {
                let value = place.number("tx-buffer")?.unwrap_or_default();
                return Err(place.error("tx-buffer", Problem::DuplicateNumber(value)));
            }
        }
        Ok(())
    }

    /// Compares its devices with those of another VM's partition.
    pub(crate) fn check_devices(&self, other: &Partition<'a>) -> Result<'a, ()> {
        for place in self.children(DEVICES) {
            let region = device_region(place)?;
            for theirs in other.device_regions() {
                let end = |region: &DeviceRegion<'a>| region.address + region.bytes;
                if region.address < end(&theirs) && theirs.address < end(&region) {
                    return Err(place.error("base-address", Problem::Taken(region.address)));
                }
                for id in ids(region.interrupts) {
                    if ids(theirs.interrupts).any(|other| other == id) {
                        return Err(place.error("interrupts", Problem::DuplicateNumber(id.into())));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads the partition manifest whose root is `root`, of the VM that `spec` describes, whose kernel is at `load_address`.
#[inline(never)]
pub(crate) fn read<'a>(
    file: &'a str,
    root: Node<'a>,
    spec: &VmSpec<'a>,
    load_address: u64,
) -> Result<'a, Partition<'a>> {
    let place = Place { file, at: At::Root, node: root };
    if !COMPATIBLE.iter().any(|compatible| place.is_compatible(compatible)) {
        let why = "compatible is not \"arm,ffa-manifest-1.0\", \"-1.1\" or \"-1.2\"";
        return Err(BundleError::Node { file, node: "/", why });
    }
    for &(property, min, max) in NUMBERS {
        let value = place.ranged(property, min, max)?;
        if REQUIRED.contains(&property) {
            place.missing(property, value)?;
        }
    }
    // They have just been read.
    let number = |property| place.number(property).ok().flatten();
    let version = number("ffa-version").unwrap_or(VERSION_1_0);
    let entry = number("entrypoint-offset").unwrap_or(0);
    let mut partition = Partition {
        place,
        load_address,
        window: spec.mem_size.map_or(0, layout::window),
        services: [Service::default(); SERVICES_MAX],
        service_count: 0,
        version: version as u32,
        messaging_method: 0,
        notification_support: place.flag("notification-support")?,
        boot_order: number("boot-order").map(|order| order as u16),
        entrypoint_offset: if spec.mem_size.is_some() { entry } else { 0 },
        gp_register: number("gp-register-num").map(|number| number as u8),
        auxiliary_id: number("auxiliary-id").map(|id| id as u16),
    };
    services(&mut partition, version)?;
    if !entry.is_multiple_of(4) {
        return Err(place.error("entrypoint-offset", Problem::Unsupported(entry)));
    }
    // EL1, AArch64, pages of 4 KiB: everything else has another number. How many contexts there are is what the VM's node
    // says, and where it is loaded the hypervisor decides.
    for property in ["exception-level", "execution-state", "xlat-granule"] {
        if let Some(other) = number(property).filter(|number| *number != 0) {
            return Err(place.error(property, Problem::Unsupported(other)));
        }
    }
    if let (Some(value), expected) = (number("id"), u64::from(spec.index))
        && value != expected
    {
        return Err(place.error("id", Problem::Contradiction { value, expected }));
    }
    let primary = spec.mem_size.is_none();
    for (property, allowed) in
        [("has-primary-scheduler", primary), ("managed-exit", false), ("time-slice-mem", true)]
    {
        if place.flag(property)? && !allowed {
            return Err(place.error(property, Problem::NotAllowed));
        }
    }
    let action = number("ns-interrupts-action").unwrap_or(2);
    if !ACTIONS.contains(&action) {
        return Err(place.error("ns-interrupts-action", Problem::Unsupported(action)));
    }
    if number("other-s-interrupts-action") == Some(0) && action != 0 {
        return Err(place.error("other-s-interrupts-action", Problem::Unsupported(0)));
    }
    place.text("description")?;
    partition.check_parts(spec)?;
    Ok(partition)
}

/// Reads the services: children of `services`, or lists in the root.
#[inline(never)]
fn services<'a>(partition: &mut Partition<'a>, version: u64) -> Result<'a, ()> {
    let root = partition.place;
    if let Some(parent) = partition.child("services") {
        let node = |why| BundleError::Node { file: parent.file, node: "services", why };
        if !parent.is_compatible("arm,ffa-manifest-services") {
            return Err(node("compatible is not \"arm,ffa-manifest-services\""));
        }
        for (index, child) in parent.node.children().enumerate() {
            let place = Place { at: At::Child("services", child.name()), node: child, ..parent };
            let slot = partition.services.get_mut(index).ok_or(node("more than four"))?;
            let text = place.missing("uuid", place.text("uuid")?)?;
            slot.uuid = canonical(text).ok_or_else(|| place.error("uuid", Problem::NotAUuid(text)))?;
            let method = place.missing("messaging-method", place.number("messaging-method")?)?;
            slot.messaging_method = messaging(place, method, version)?;
            partition.service_count = index + 1;
        }
        if partition.service_count == 0 {
            return Err(node("there is none"));
        }
    } else {
        let (uuids, methods) = (root.cells("uuid")?, root.cells("messaging-method")?);
        for (property, cells) in [("uuid", uuids), ("messaging-method", methods)] {
            if cells.is_empty() {
                return Err(root.error(property, Problem::Missing));
            }
        }
        let count = uuids.len() / WORDS;
        if uuids.len() % WORDS != 0 || count > SERVICES_MAX {
            return Err(root.error("uuid", Problem::NotCells));
        }
        // One for all, or one for each.
        if methods.len() != 1 && methods.len() != count {
            return Err(root.error("messaging-method", Problem::NotCells));
        }
        for index in 0..count {
            let slot = &mut partition.services[index];
            for (word, cell) in slot.uuid.iter_mut().zip(uuids.iter().skip(index * WORDS)) {
                *word = cell;
            }
            let method = methods.iter().nth(index % methods.len()).unwrap_or_default();
            slot.messaging_method = messaging(root, method.into(), version)?;
        }
        partition.service_count = count;
    }
    if partition.services().iter().any(|service| service.uuid == [0; WORDS]) {
        return Err(root.error("uuid", Problem::Unsupported(0)));
    }
    let all = partition.services().iter().fold(0, |all, service| all | service.messaging_method);
    partition.messaging_method = all;
    Ok(())
}

/// A UUID as people write it, such as `b4b5671e-4a90-4fe1-b81f-fb13dae1dacb`.
#[inline(never)]
fn canonical(text: &str) -> Option<[u32; WORDS]> {
    let mut number = 0u128;
    if text.len() != 36 {
        return None;
    }
    for (at, byte) in text.bytes().enumerate() {
        match (at, byte) {
            (8 | 13 | 18 | 23, b'-') => {}
            (8 | 13 | 18 | 23, _) => return None,
            (_, byte) => number = number << 4 | u128::from(char::from(byte).to_digit(16)?),
        }
    }
    Some([96, 64, 32, 0].map(|shift| (number >> shift) as u32))
}

fn messaging(place: Place<'_>, method: u64, version: u64) -> Result<'_, u16> {
    let known = if version < VERSION_1_2 { MESSAGING & !MESSAGING_REQ2 } else { MESSAGING };
    match method & !known {
        0 => Ok(method as u16),
        _ => Err(place.error("messaging-method", Problem::Unsupported(method))),
    }
}

/// Bytes and attributes of a region; the latter must be among `allowed`.
#[inline(never)]
fn extent<'a>(place: Place<'a>, allowed: &[u64]) -> Result<'a, (u64, u64)> {
    let most = MAX_MEMORY / PAGE;
    let pages = place.missing("pages-count", place.ranged("pages-count", 1, most)?)?;
    let attributes = place.missing("attributes", place.number("attributes")?)?;
    if !allowed.contains(&(attributes & (READ | WRITE | EXECUTE))) {
        return Err(place.error("attributes", Problem::Unsupported(attributes)));
    }
    place.text("description")?;
    Ok((pages * PAGE, attributes))
}

/// An address that is given, with `bytes` behind it.
#[inline(never)]
fn address<'a>(place: Place<'a>, property: &'a str, value: u64, bytes: u64) -> Result<'a, u64> {
    if !value.is_multiple_of(PAGE) {
        return Err(place.error(property, Problem::Unaligned(value)));
    }
    if value > MAX_ADDRESS - bytes {
        return Err(place.error(property, Problem::Range { value, min: 0, max: MAX_ADDRESS - bytes }));
    }
    Ok(value)
}

/// No address is larger than this (Arm ARM, D8.1.6, without large addresses).
const MAX_ADDRESS: u64 = 1 << 48;

#[inline(never)]
fn memory_region(place: Place<'_>, load_address: u64) -> Result<'_, MemoryRegion<'_>> {
    let (bytes, attributes) = extent(place, &[READ, READ | WRITE, READ | EXECUTE])?;
    let relative = "load-address-relative-offset";
    let (absolute, offset) = (place.number("base-address")?, place.number(relative)?);
    let address = match (absolute, offset) {
        (Some(_), Some(_)) => return Err(place.error(relative, Problem::Twice("base-address"))),
        (Some(value), None) => Some(address(place, "base-address", value, bytes)?),
        (None, Some(value)) => Some(address(place, relative, value.saturating_add(load_address), bytes)?),
        (None, None) => None,
    };
    smmu(place)?;
    let permissions = place.cells("stream-ids-access-permissions")?;
    if !permissions.is_empty() && permissions.len() != place.cells("stream-ids")?.len() {
        return Err(place.error("stream-ids-access-permissions", Problem::NotCells));
    }
    let phandle = place.ranged("phandle", 0, u32::MAX.into())?;
    Ok(MemoryRegion {
        name: place.node.name(),
        address: address.unwrap_or(0),
        anywhere: address.is_none(),
        bytes,
        write: attributes & WRITE != 0,
        execute: attributes & EXECUTE != 0,
        phandle: phandle.map(|phandle| phandle as u32),
    })
}

#[inline(never)]
fn device_region(place: Place<'_>) -> Result<'_, DeviceRegion<'_>> {
    let (bytes, attributes) = extent(place, &[READ, READ | WRITE])?;
    let base = place.missing("base-address", place.number("base-address")?)?;
    let (interrupts, interrupt_targets) = (place.cells("interrupts")?, place.cells("interrupts-target")?);
    if interrupts.len() % 2 != 0 {
        return Err(place.error("interrupts", Problem::NotCells));
    }
    for (index, id) in ids(interrupts).enumerate() {
        if !SPIS.contains(&id) {
            let (value, min, max) = (id.into(), (*SPIS.start()).into(), (*SPIS.end()).into());
            return Err(place.error("interrupts", Problem::Range { value, min, max }));
        }
        if ids(interrupts).take(index).any(|other| other == id) {
            return Err(place.error("interrupts", Problem::DuplicateNumber(id.into())));
        }
    }
    if interrupt_targets.len() % 3 != 0 {
        return Err(place.error("interrupts-target", Problem::NotCells));
    }
    for id in interrupt_targets.iter().step_by(3) {
        if !ids(interrupts).any(|known| known == id) {
            return Err(place.error("interrupts-target", Problem::Unsupported(id.into())));
        }
    }
    let (smmu_id, stream_ids) = smmu(place)?;
    Ok(DeviceRegion {
        name: place.node.name(),
        address: address(place, "base-address", base, bytes)?,
        bytes,
        write: attributes & WRITE != 0,
        interrupts,
        interrupt_targets,
        smmu_id,
        stream_ids,
        exclusive: place.flag("exclusive-access")?,
    })
}

/// Whether two ranges, each with its length, have bytes in common.
fn overlap((a, bytes): (u64, u64), (b, more): (u64, u64)) -> bool {
    a < b + more && b < a + bytes
}

/// Streams of a device, which need an SMMU to be streams of.
#[inline(never)]
fn smmu(place: Place<'_>) -> Result<'_, (Option<u32>, Cells<'_>)> {
    let id = place.ranged("smmu-id", 0, u32::MAX.into())?;
    let streams = place.cells("stream-ids")?;
    if id.is_none() && !streams.is_empty() {
        return Err(place.error("smmu-id", Problem::Missing));
    }
    Ok((id.map(|id| id as u32), streams))
}

/// The ids in a list of interrupts.
fn ids(interrupts: Cells<'_>) -> impl Iterator<Item = u32> {
    interrupts.iter().step_by(2)
}
