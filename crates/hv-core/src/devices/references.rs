//! Properties that refer to other nodes by phandle (DT spec, 2.3.3, and the bindings of devices).

use devtree::{Node, split};

/// Lists of references: the property, and what each one's arguments are counted by in the node that it refers to (`#WORD-cells`). Without
/// a word a reference has none.
const LISTS: &str = "\
assigned-clock-parents clock
assigned-clocks clock
brcm,firmware
clocks clock
cooling-device cooling
cpu
cpu-idle-states
dmas dma
firmware
hwlocks hwlock
interrupt-affinity
interrupt-parent
interrupts-extended interrupt
io-channels io-channel
iommus iommu
mboxes mbox
memory-region
mmc-pwrseq
msi-parent msi
next-level-cache
nvmem-cells
operating-points-v2
phy-handle
phys phy
power-domains power-domain
pwms pwm
remote-endpoint
resets reset
sound-dai sound-dai
syscon
thermal-sensors thermal-sensor
trip
usb-phy";

/// How the value of a property is laid out.
#[derive(Clone, Copy)]
enum Layout<'a> {
    /// References with arguments.
    List(&'a str),
    /// `interrupt-map`: an address and a specifier of the child, a reference, an address and a specifier of the parent.
    InterruptMap,
    /// `msi-map` and `iommu-map`: a number, a reference, two numbers.
    IdMap,
}

fn layout(name: &str) -> Option<Layout<'static>> {
    match name {
        "interrupt-map" => return Some(Layout::InterruptMap),
        "msi-map" | "iommu-map" => return Some(Layout::IdMap),
        _ if name.ends_with("gpios") || name.ends_with("-gpio") => return Some(Layout::List("gpio")),
        _ if name.ends_with("-supply") || name.starts_with("pinctrl-") => return Some(Layout::List("")),
        _ => {}
    }
    let mut rest = LISTS;
    while !rest.is_empty() {
        let line;
        (line, rest) = split(rest, b'\n');
        let (property, word) = split(line, b' ');
        if property == name {
            return Some(Layout::List(word));
        }
    }
    None
}

/// Whether a VM without what it refers to does as well without the property: its device works without, or stays as firmware has set it.
pub(super) fn is_optional(name: &str) -> bool {
    name.starts_with("pinctrl-")
        || name.starts_with("assigned-clock")
        || ["dmas", "msi-map", "msi-parent"].contains(&name)
}

/// `#WORD-cells` of a node; 0 without.
fn cells(node: &Node<'_>, word: &str) -> usize {
    let mut properties = node.properties();
    let found = properties.find(|property| {
        let name = property.name().strip_prefix('#').and_then(|rest| rest.strip_suffix("-cells"));
        name == Some(word)
    });
    let value =
        found.and_then(|property| property.value().first_chunk().map(|cell| u32::from_be_bytes(*cell)));
    value.unwrap_or(0) as usize
}

/// Whether the property refers to a node that `find` does not find.
pub(super) fn dangles<'a>(
    node: &Node<'_>,
    name: &str,
    value: &[u8],
    find: &dyn Fn(u32) -> Option<Node<'a>>,
) -> bool {
    let Some(layout) = layout(name).filter(|_| name != "pinctrl-names") else { return false };
    let before = match layout {
        Layout::List(_) => 0,
        Layout::InterruptMap => cells(node, "address") + cells(node, "interrupt"),
        Layout::IdMap => 1,
    };
    let mut at = before;
    while let Some(cell) = value.as_chunks().0.get(at) {
        let phandle = u32::from_be_bytes(*cell);
        let after = match (find(phandle), layout) {
            // There is none where one could be.
            _ if phandle == 0 => 0,
            (None, _) => return true,
            (Some(target), Layout::List(word)) => cells(&target, word),
            (Some(target), Layout::InterruptMap) => cells(&target, "address") + cells(&target, "interrupt"),
            (Some(_), Layout::IdMap) => 2,
        };
        at = at.saturating_add(1 + after + before);
    }
    false
}
