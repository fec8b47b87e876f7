//! FF-A partition manifests: the root node of a device tree that is `arm,ffa-manifest-1.x`.
//!
//! The properties are those of the binding in the documentation of TF-A and Hafnium ("FF-A manifest binding to device
//! tree"); which of them must be there is decided as Hafnium decides it. What a property asks for and Margay cannot
//! give is refused rather than ignored.

use crate::{
    error::{At, BundleError, Problem},
    manifest::{MAX_VCPUS, VmSpec},
    place::{Place, Result},
};
use devtree::Node;
use hv_abi::layout;

const COMPATIBLE: [&str; 3] = ["arm,ffa-manifest-1.0", "arm,ffa-manifest-1.1", "arm,ffa-manifest-1.2"];
const VERSION_1_0: u64 = 0x1_0000;
const VERSION_1_2: u64 = 0x1_0002;
/// Direct requests received and sent, indirect messages, and the same of the second kind of direct request.
const MESSAGING: u64 = 0b111 | MESSAGING_REQ2;
const MESSAGING_REQ2: u64 = 1 << 9 | 1 << 10;
const UUIDS_MAX: usize = 4;
const WORDS: usize = 4;
/// What Margay has no way to give to a partition.
const UNSUPPORTED_NODES: [&str; 3] = ["memory-regions", "device-regions", "rx_tx-info"];

/// What a partition says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The FF-A version that it expects: major in bits 31:16, minor in bits 15:0.
    pub version: u32,
    /// The UUID of its (first) service, as four words in the manifest's order.
    pub uuid: [u32; WORDS],
    /// `messaging-method`: bit 0 receives direct requests, 1 sends them, 2 indirect messages, 9 and 10 as 0 and 1 for
    /// direct requests of the second kind.
    pub messaging_method: u16,
    /// Whether it receives notifications.
    pub notification_support: bool,
    /// Partitions boot in the order of these numbers; those without one come last.
    pub boot_order: Option<u16>,
}

/// Reads the partition manifest whose root is `root`, of the VM that `spec` describes.
pub(crate) fn read<'a>(file: &'a str, root: Node<'a>, spec: &VmSpec<'a>) -> Result<'a, Partition> {
    let place = Place { file, at: At::Root, node: root };
    let node = |node, why| BundleError::Node { file, node, why };
    if !COMPATIBLE.iter().any(|compatible| place.is_compatible(compatible)) {
        return Err(node("/", "compatible is not \"arm,ffa-manifest-1.0\", \"-1.1\" or \"-1.2\""));
    }
    for name in UNSUPPORTED_NODES {
        if root.child(name).is_some_and(|regions| regions.children().next().is_some() || name == "rx_tx-info")
        {
            return Err(node(name, "Margay cannot give regions or buffers to a partition"));
        }
    }
    let version = place.missing("ffa-version", place.ranged("ffa-version", VERSION_1_0, VERSION_1_2)?)?;
    let partition = Partition {
        version: version as u32,
        uuid: uuid(place)?,
        messaging_method: messaging(place, version)?,
        notification_support: place.flag("notification-support")?,
        boot_order: place.ranged("boot-order", 0, u16::MAX.into())?.map(|order| order as u16),
    };
    // EL1, AArch64, pages of 4 KiB: everything else has another number.
    for property in ["exception-level", "execution-state", "xlat-granule", "entrypoint-offset"] {
        match place.number(property)? {
            Some(0) => {}
            Some(other) => return Err(place.error(property, Problem::Unsupported(other))),
            None if property.starts_with("ex") => return Err(place.error(property, Problem::Missing)),
            None => {}
        }
    }
    let load_address = layout::RAM_BASE + layout::KERNEL_OFFSET;
    let contexts =
        place.missing("execution-ctx-count", place.ranged("execution-ctx-count", 1, MAX_VCPUS.into())?)?;
    expect(place, "id", place.number("id")?, spec.index.into())?;
    if spec.mem_size.is_some() {
        expect(place, "execution-ctx-count", Some(contexts), spec.vcpu_count.into())?;
        expect(place, "load-address", place.number("load-address")?, load_address)?;
    }
    place.ranged("auxiliary-id", 0, u32::MAX.into())?;
    place.text("description")?;
    Ok(partition)
}

fn expect<'a>(place: Place<'a>, property: &'a str, value: Option<u64>, expected: u64) -> Result<'a, ()> {
    match value {
        Some(value) if value != expected => {
            Err(place.error(property, Problem::Contradiction { value, expected }))
        }
        _ => Ok(()),
    }
}

/// One to four UUIDs of four words, none of them zero; the first.
fn uuid(place: Place<'_>) -> Result<'_, [u32; WORDS]> {
    let cells = place.cells("uuid")?;
    if cells.is_empty() {
        return Err(place.error("uuid", Problem::Missing));
    }
    if cells.len() % WORDS != 0 || cells.len() > WORDS * UUIDS_MAX {
        return Err(place.error("uuid", Problem::NotCells));
    }
    for first in (0..cells.len()).step_by(WORDS) {
        if cells.iter().skip(first).take(WORDS).all(|word| word == 0) {
            return Err(place.error("uuid", Problem::Unsupported(0)));
        }
    }
    let mut uuid = [0; WORDS];
    for (word, cell) in uuid.iter_mut().zip(cells.iter()) {
        *word = cell;
    }
    Ok(uuid)
}

fn messaging(place: Place<'_>, version: u64) -> Result<'_, u16> {
    let property = "messaging-method";
    let method = place.missing(property, place.number(property)?)?;
    let known = if version < VERSION_1_2 { MESSAGING & !MESSAGING_REQ2 } else { MESSAGING };
    match method & !known {
        0 => Ok(method as u16),
        _ => Err(place.error(property, Problem::Unsupported(method))),
    }
}
