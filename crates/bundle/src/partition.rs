//! FF-A partition manifests: the root node of a device tree that is `arm,ffa-manifest-1.x`.
//!
//! The properties are those of the binding in the documentation of TF-A and Hafnium ("FF-A manifest binding
//! to device tree"), with services in either form that Hafnium has had: lists of UUIDs and messaging methods
//! in the root, or a node `services`. Which of them must be there is decided as Hafnium decides it. What a
//! property asks for and Margay cannot give is refused rather than ignored. `docs/manifest.md` has them all.

use crate::{
    error::{At, Problem},
    limits::{MAX_MEMORY, MAX_VCPUS},
    manifest::VmSpec,
    place::{Cells, Place, Result},
};
use alloc::vec::Vec;
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

/// Numbers in the root that must be in a range, and then change nothing.
const RANGES: [(&str, u64, u64); 5] = [
    ("load-address", 0, u64::MAX),
    ("run-time-model", 0, 1),
    ("vm-availability-messages", 0, 3),
    ("power-management-messages", 0, 0xffff_ffff),
    ("execution-ctx-count", 1, MAX_VCPUS as u64),
];
/// What Margay has one way only: EL1, AArch64, pages of 4 KiB; and what must be said.
const FIXED: [(&str, bool); 3] =
    [("exception-level", true), ("execution-state", true), ("xlat-granule", false)];

const MEMORY: &str = "memory-regions";
const DEVICES: &str = "device-regions";

// Attributes of regions. A fourth bit says which world memory belongs to, and has no meaning for VMs.
const READ: u64 = 1;
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;

/// Interrupts that a device can have: shared peripheral interrupts (GIC architecture, 2.2.1).
const SPI_MIN: u32 = 32;
const SPI_MAX: u32 = 1019;

/// No address is larger than this (Arm ARM, D8.1.6, without large addresses).
const MAX_ADDRESS: u64 = 1 << 48;

/// A service of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its UUID, as four words in the manifest's order.
    pub uuid: [u32; WORDS],
    /// `messaging-method`: bit 0 receives direct requests, 1 sends them, 2 indirect messages, 9 and 10 as 0
    /// and 1 for direct requests of the second kind.
    pub messaging_method: u16,
}

/// Partition manifest of FF-A.
#[derive(Clone, Debug)]
pub struct Partition<'a> {
    /// Its services, at least one.
    pub services: Vec<Service>,
    /// Its memory regions, in the manifest's order.
    pub memory_regions: Vec<MemoryRegion<'a>>,
    /// Its device regions, in the manifest's order.
    pub device_regions: Vec<DeviceRegion<'a>>,
    /// Which of its memory regions are its RX and TX buffers, in this order.
    pub rx_tx: Option<[usize; 2]>,
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

/// Memory that a partition asks for, besides `mem_size`, or a part of `mem_size` that it wants to use in one
/// way only.
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
    /// Returns whether all of it is part of the `memory` bytes that a secondary has anyway.
    pub fn is_within(&self, memory: u64) -> bool {
        let offset = self.address.checked_sub(layout::RAM_BASE);
        offset.is_some_and(|offset| offset + self.bytes <= memory)
    }
}

impl<'a> Partition<'a> {
    /// The UUID of its first service.
    pub fn uuid(&self) -> [u32; WORDS] {
        self.services.first().map_or([0; WORDS], |service| service.uuid)
    }

    pub(crate) fn has_regions(&self) -> bool {
        !self.memory_regions.is_empty() || !self.device_regions.is_empty()
    }

    /// The end of something that has an address and overlaps with these bytes.
    #[inline(never)]
    fn taken(&self, address: u64, bytes: u64) -> Option<u64> {
        let end =
            |start: u64, len: u64| (start < address + bytes && address < start + len).then_some(start + len);
        for region in &self.memory_regions {
            if let Some(end) = end(region.address, region.bytes).filter(|_| !region.anywhere) {
                return Some(end);
            }
        }
        self.device_regions.iter().find_map(|region| end(region.address, region.bytes))
    }

    /// Reads the nodes with regions and buffers.
    #[inline(never)]
    fn read_parts(&mut self, root: &Place<'a>, spec: &VmSpec<'a>) -> Result<'a, ()> {
        // What the partition sees where: its memory first.
        let own = spec.mem_size.unwrap_or(0);
        let overlaps_own = |address: u64, bytes: u64| {
            own != 0 && address < layout::RAM_BASE + own && layout::RAM_BASE < address + bytes
        };
        let load_address = layout::RAM_BASE + spec.loading().kernel;
        for place in list(root, MEMORY, "arm,ffa-manifest-memory-regions")? {
            let region = memory_region(&place, load_address)?;
            let MemoryRegion { address, bytes, anywhere, .. } = region;
            if anywhere && own == 0 {
                return Err(place.error("base-address", Problem::Missing));
            }
            let beside = !region.is_within(own) && overlaps_own(address, bytes);
            if !anywhere && (beside || self.taken(address, bytes).is_some()) {
                return Err(place.error_of("base-address", Problem::Overlap, address));
            }
            self.memory_regions.push(region);
        }
        for place in list(root, DEVICES, "arm,ffa-manifest-device-regions")? {
            let region = device_region(&place)?;
            let DeviceRegion { address, bytes, .. } = region;
            if overlaps_own(address, bytes) || self.taken(address, bytes).is_some() {
                return Err(place.error_of("base-address", Problem::Overlap, address));
            }
            self.device_regions.push(region);
        }
        // The first gaps between all that has an address.
        let mut free = layout::window(own);
        for index in 0..self.memory_regions.len() {
            let MemoryRegion { anywhere, bytes, .. } = self.memory_regions[index];
            if anywhere {
                while let Some(end) = self.taken(free, bytes) {
                    free = end;
                }
                self.memory_regions[index].address = free;
                free += bytes;
            }
        }
        if let Some(place) = root.child("rx_tx-info") {
            place.check_compatible("arm,ffa-manifest-rx_tx-buffer")?;
            let mut found = [usize::MAX; 2];
            for (index, property) in ["rx-buffer", "tx-buffer"].into_iter().enumerate() {
                let value = place.required(property, 0, u32::MAX.into())?;
                let at = self.memory_regions.iter().position(|region| region.phandle == Some(value as u32));
                let at = at.ok_or_else(|| place.error_of(property, Problem::NoRegion, value))?;
                if self.memory_regions[at].bytes != PAGE {
                    return Err(place.error(property, Problem::NotAPage));
                }
                if found[0] == at {
                    return Err(place.error_of(property, Problem::DuplicateNumber, value));
                }
                found[index] = at;
            }
            self.rx_tx = Some(found);
        }
        Ok(())
    }

    /// Compares it with another VM's partition.
    pub(crate) fn check_against(&self, root: &Place<'a>, other: &Partition<'a>) -> Result<'a, ()> {
        if let (Some(own), Some(theirs)) = (self.boot_order, other.boot_order)
            && own == theirs
        {
            return Err(root.error_of("boot-order", Problem::DuplicateNumber, own.into()));
        }
        for region in &self.device_regions {
            let place = Place { at: At::Child(DEVICES, region.name), ..*root };
            for theirs in &other.device_regions {
                if region.address < theirs.address + theirs.bytes
                    && theirs.address < region.address + region.bytes
                {
                    return Err(place.error_of("base-address", Problem::Taken, region.address));
                }
                for id in region.interrupts.iter().step_by(2) {
                    if has_id(theirs.interrupts, id) {
                        return Err(place.error_of("interrupts", Problem::DuplicateNumber, id.into()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The children of a child of the root.
#[inline(never)]
fn list<'a>(root: &Place<'a>, name: &'static str, compatible: &'static str) -> Result<'a, Vec<Place<'a>>> {
    let mut list = Vec::new();
    if let Some(place) = root.child(name) {
        place.check_compatible(compatible)?;
        for node in place.node.children() {
            if list.len() == REGIONS_MAX {
                return Err(place.node_error(Problem::TooMany, ""));
            }
            list.push(Place { at: At::Child(name, node.name()), node, ..place });
        }
        if list.is_empty() {
            return Err(place.node_error(Problem::Empty, ""));
        }
    }
    Ok(list)
}

/// Reads the partition manifest with this root, of the VM that `spec` describes.
#[inline(never)]
pub(crate) fn read<'a>(place: &Place<'a>, spec: &VmSpec<'a>) -> Result<'a, Partition<'a>> {
    if !COMPATIBLE.iter().any(|compatible| place.is_compatible(compatible)) {
        return Err(place.node_error(Problem::NotCompatible, "arm,ffa-manifest-1.0\", \"-1.1\" or \"-1.2"));
    }
    let primary = spec.mem_size.is_none();
    let version = place.required("ffa-version", VERSION_1_0, VERSION_1_2)? as u32;
    for (property, min, max) in RANGES {
        place.ranged(property, min, max)?;
    }
    // How many contexts there are is what the VM's node says, and where it is loaded the hypervisor decides.
    place.required("execution-ctx-count", 0, u64::MAX)?;
    for (property, required) in FIXED {
        match place.number(property)? {
            None if required => return Err(place.error(property, Problem::Missing)),
            None | Some(0) => {}
            Some(other) => return Err(place.error_of(property, Problem::Unsupported, other)),
        }
    }
    for (property, allowed) in
        [("has-primary-scheduler", primary), ("managed-exit", false), ("time-slice-mem", true)]
    {
        if place.flag(property)? && !allowed {
            return Err(place.error(property, Problem::NotAllowed));
        }
    }
    if let (Some(value), expected) = (place.number("id")?, u64::from(spec.index))
        && value != expected
    {
        return Err(place.refuse("id", Problem::Contradiction, value, expected, 0));
    }
    let entry = place.number("entrypoint-offset")?.unwrap_or(0);
    if !entry.is_multiple_of(4) {
        return Err(place.error_of("entrypoint-offset", Problem::Unsupported, entry));
    }
    if !primary && entry >= spec.image.memory_size {
        let max = spec.image.memory_size - 1;
        return Err(place.refuse("entrypoint-offset", Problem::Range, entry, 0, max));
    }
    // Interrupts of others are kept from the partition (0), or it is preempted by them (2).
    let action = place.ranged("ns-interrupts-action", 0, 2)?.unwrap_or(2);
    if action == 1 {
        return Err(place.error_of("ns-interrupts-action", Problem::Unsupported, action));
    }
    if place.ranged("other-s-interrupts-action", 0, 1)? == Some(0) && action != 0 {
        return Err(place.error_of("other-s-interrupts-action", Problem::Unsupported, 0));
    }
    place.text("description")?;
    let services = services(place, version.into())?;
    let mut partition = Partition {
        messaging_method: services.iter().fold(0, |all, service| all | service.messaging_method),
        services,
        memory_regions: Vec::new(),
        device_regions: Vec::new(),
        rx_tx: None,
        version,
        notification_support: place.flag("notification-support")?,
        boot_order: place.ranged("boot-order", 0, 0xffff)?.map(|order| order as u16),
        entrypoint_offset: if primary { 0 } else { entry },
        gp_register: place.ranged("gp-register-num", 0, 3)?.map(|number| number as u8),
        auxiliary_id: place.ranged("auxiliary-id", 0, 0xffff)?.map(|id| id as u16),
    };
    partition.read_parts(place, spec)?;
    Ok(partition)
}

/// Reads the services: children of `services`, or lists in the root.
fn services<'a>(root: &Place<'a>, version: u64) -> Result<'a, Vec<Service>> {
    let mut services = Vec::new();
    if root.child("services").is_some() {
        for place in list(root, "services", "arm,ffa-manifest-services")? {
            let text = place.required_text("uuid")?;
            let uuid = canonical(text).ok_or_else(|| place.error("uuid", Problem::NotAUuid))?;
            let method = place.required("messaging-method", 0, u64::MAX)?;
            services.push(service(&place, uuid, method, version)?);
        }
    } else {
        let (uuids, methods) = (root.cells("uuid", WORDS)?, root.cells("messaging-method", 1)?);
        for (property, cells) in [("uuid", uuids), ("messaging-method", methods)] {
            if cells.is_empty() {
                return Err(root.error(property, Problem::Missing));
            }
        }
        // One for all, or one for each.
        let count = uuids.len() / WORDS;
        if methods.len() != 1 && methods.len() != count {
            return Err(root.error("messaging-method", Problem::NotCells));
        }
        for index in 0..count {
            let uuid = core::array::from_fn(|word| uuids.get(index * WORDS + word));
            services.push(service(root, uuid, methods.get(index % methods.len()).into(), version)?);
        }
    }
    if services.len() > SERVICES_MAX {
        return Err(root.node_error(Problem::TooManyServices, ""));
    }
    Ok(services)
}

#[inline(never)]
fn service<'a>(place: &Place<'a>, uuid: [u32; WORDS], method: u64, version: u64) -> Result<'a, Service> {
    if uuid == [0; WORDS] {
        return Err(place.error_of("uuid", Problem::Unsupported, 0));
    }
    let known = if version < VERSION_1_2 { MESSAGING & !MESSAGING_REQ2 } else { MESSAGING };
    if method & !known != 0 {
        return Err(place.error_of("messaging-method", Problem::Unsupported, method));
    }
    Ok(Service { uuid, messaging_method: method as u16 })
}

/// A UUID as people write it, such as `b4b5671e-4a90-4fe1-b81f-fb13dae1dacb`.
fn canonical(text: &str) -> Option<[u32; WORDS]> {
    let mut number = 0u128;
    if text.len() != 36 {
        return None;
    }
    for (at, byte) in text.bytes().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
        } else {
            number = number << 4 | u128::from(char::from(byte).to_digit(16)?);
        }
    }
    Some([96, 64, 32, 0].map(|shift| (number >> shift) as u32))
}

/// Bytes and attributes of a region; the latter must be among `allowed`, a bit for each number.
#[inline(never)]
fn extent<'a>(place: &Place<'a>, allowed: u32) -> Result<'a, (u64, u64)> {
    let pages = place.required("pages-count", 1, MAX_MEMORY / PAGE)?;
    let attributes = place.required("attributes", 0, u64::MAX)?;
    if allowed >> (attributes & (READ | WRITE | EXECUTE)) & 1 == 0 {
        return Err(place.error_of("attributes", Problem::Unsupported, attributes));
    }
    place.text("description")?;
    Ok((pages * PAGE, attributes))
}

/// An address that is given, with `bytes` behind it.
#[inline(never)]
fn address<'a>(place: &Place<'a>, property: &'a str, value: u64, bytes: u64) -> Result<'a, u64> {
    if !value.is_multiple_of(PAGE) {
        return Err(place.error_of(property, Problem::Unaligned, value));
    }
    let max = MAX_ADDRESS - bytes;
    if value > max {
        return Err(place.refuse(property, Problem::Range, value, 0, max));
    }
    Ok(value)
}

#[inline(never)]
fn memory_region<'a>(place: &Place<'a>, load_address: u64) -> Result<'a, MemoryRegion<'a>> {
    let (bytes, attributes) = extent(place, 1 << READ | 1 << (READ | WRITE) | 1 << (READ | EXECUTE))?;
    let relative = "load-address-relative-offset";
    let (absolute, offset) = (place.number("base-address")?, place.number(relative)?);
    let address = match (absolute, offset) {
        (Some(_), Some(_)) => return Err(place.error(relative, Problem::Twice)),
        (Some(value), None) => Some(address(place, "base-address", value, bytes)?),
        (None, Some(value)) => Some(address(place, relative, value.saturating_add(load_address), bytes)?),
        (None, None) => None,
    };
    let (_, streams) = smmu(place)?;
    let permissions = place.cells("stream-ids-access-permissions", 1)?;
    if !permissions.is_empty() && permissions.len() != streams.len() {
        return Err(place.error("stream-ids-access-permissions", Problem::NotCells));
    }
    Ok(MemoryRegion {
        name: place.node.name(),
        address: address.unwrap_or(0),
        anywhere: address.is_none(),
        bytes,
        write: attributes & WRITE != 0,
        execute: attributes & EXECUTE != 0,
        phandle: place.ranged("phandle", 0, u32::MAX.into())?.map(|phandle| phandle as u32),
    })
}

#[inline(never)]
fn device_region<'a>(place: &Place<'a>) -> Result<'a, DeviceRegion<'a>> {
    let (bytes, attributes) = extent(place, 1 << READ | 1 << (READ | WRITE))?;
    let base = place.required("base-address", 0, u64::MAX)?;
    let interrupts = place.cells("interrupts", 2)?;
    let mut at = 0;
    while at < interrupts.len() {
        let id = interrupts.get(at);
        if !(SPI_MIN..=SPI_MAX).contains(&id) {
            let (value, min, max) = (id.into(), SPI_MIN.into(), SPI_MAX.into());
            return Err(place.refuse("interrupts", Problem::Range, value, min, max));
        }
        if has_id(interrupts.first(at), id) {
            return Err(place.error_of("interrupts", Problem::DuplicateNumber, id.into()));
        }
        at += 2;
    }
    let interrupt_targets = place.cells("interrupts-target", 3)?;
    at = 0;
    while at < interrupt_targets.len() {
        let id = interrupt_targets.get(at);
        if !has_id(interrupts, id) {
            return Err(place.error_of("interrupts-target", Problem::Unsupported, id.into()));
        }
        at += 3;
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

/// Streams of a device, which need an SMMU to be streams of.
#[inline(never)]
fn smmu<'a>(place: &Place<'a>) -> Result<'a, (Option<u32>, Cells<'a>)> {
    let id = place.ranged("smmu-id", 0, u32::MAX.into())?;
    let streams = place.cells("stream-ids", 1)?;
    if id.is_none() && !streams.is_empty() {
        return Err(place.error("smmu-id", Problem::Missing));
    }
    Ok((id.map(|id| id as u32), streams))
}

/// Returns whether an interrupt is in a list of ids, each with its attributes.
#[inline(never)]
fn has_id(interrupts: Cells<'_>, id: u32) -> bool {
    interrupts.iter().step_by(2).any(|other| other == id)
}
