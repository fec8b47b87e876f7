//! Makes `seeds/`: a few small inputs for each target, from which fuzzing starts. In `fuzz/`:
//! `cargo run --example seeds`.

#[path = "../../crates/bundle/tests/common/mod.rs"]
mod common;

use common::{Node, Spec, Value, blob, nested, newc, old_binary, partition};
use hv_abi::{
    ffa::{
        VERSION_1_0, VERSION_1_1, VERSION_1_2,
        memory::{
            self, Attributes, Composite, Handle, Header, Kind, Permissions, Range, Receiver, Relinquish,
        },
        message::Message,
    },
    ids::VmId,
};
use std::{error::Error, fs, path::Path};
use vm_fdt::FdtWriter;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    archives()?;
    manifests()?;
    partitions()?;
    let tree = machine()?;
    machine::Machine::from_dtb(&tree).map_err(|why| format!("device_tree: {why:?}"))?;
    save("device_tree", "small", &tree)?;
    descriptors()?;
    for (index, name) in ["one", "two", "three", "four"].iter().enumerate() {
        save("hypercalls", name, &noise(index as u64 + 1, 150 << (2 * index.min(2))))?;
    }
    Ok(())
}

fn save(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&dir)?;
    Ok(fs::write(dir.join(name), bytes)?)
}

/// Bytes without a pattern (xorshift64), always the same.
fn noise(mut state: u64, length: usize) -> Vec<u8> {
    state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn archives() -> Result<()> {
    let entry = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec());
    let entries = [entry("a", b"first"), entry("manifest.dtb", &[1; 40]), entry("empty", b"")];
    save("cpio", "newc", &newc(&entries))?;
    save("cpio", "old-binary", &old_binary(&entries))
}

/// A seed that is refused at the first look is of little use.
fn accepted(name: &str, spec: &Spec) -> Result<()> {
    let sentence = spec.sentence();
    if sentence == "no error" { Ok(()) } else { Err(format!("{name}: {sentence}").into()) }
}

fn manifests() -> Result<()> {
    let devices = Spec::good().set(2, "margay,kind", "super-secondary").unset(3, "smc_whitelist");
    for (name, spec) in [("good", Spec::good()), ("super-secondary", devices)] {
        accepted(name, &spec)?;
        save("manifest", name, &spec.manifest())?;
    }
    Ok(())
}

fn partitions() -> Result<()> {
    let plain = partition().with("execution-ctx-count", 2).with("uuid", &[5, 6, 7, 8][..]);
    let second = plain
        .clone()
        .with("ffa-version", 0x1_0002)
        .with("messaging-method", 0x600)
        .with("description", "a service")
        .with("gp-register-num", 0)
        .with("boot-order", 1);
    let all =
        [("plain", blob(&plain, &[])), ("version-1-2", blob(&second, &[])), ("regions", regions(&second))];
    for (name, bytes) in all {
        let spec =
            Spec::good().set(2, "is_ffa_partition", Value::None).set(2, "fdt_filename", "partition.dtb");
        accepted(name, &spec.file("partition.dtb", bytes.clone()))?;
        save("partition", name, &bytes)?;
    }
    Ok(())
}

/// A partition manifest with memory, a device, buffers and services.
fn regions(root: &Node) -> Vec<u8> {
    let list = |kind: &str| Node::default().with("compatible", &*format!("arm,ffa-manifest-{kind}"));
    let region = |attributes| Node::default().with("pages-count", 1).with("attributes", attributes);
    let memory = vec![
        ("tx", region(5).with("load-address-relative-offset", 0x1_0000).with("phandle", 8)),
        ("rx", region(9).with("phandle", 7)),
        ("more", region(3).with("base-address", 0x7000_0000u64)),
    ];
    let device = region(3).with("base-address", 0x0a00_0000u64).with("interrupts", &[48, 0x900][..]);
    let service =
        Node::default().with("uuid", "b4b5671e-4a90-4fe1-b81f-fb13dae1dacb").with("messaging-method", 1);
    let rx_tx = list("rx_tx-buffer").with("rx-buffer", 7).with("tx-buffer", 8);
    let children = [
        ("memory-regions", list("memory-regions"), memory),
        ("device-regions", list("device-regions"), vec![("one", device)]),
        ("rx_tx-info", rx_tx, vec![]),
        ("services", list("services"), vec![("one", service)]),
    ];
    nested(&root.clone().without("uuid").without("messaging-method"), &children)
}

/// The least that is a machine.
fn machine() -> Result<Vec<u8>> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", 1)?;
    let node = fdt.begin_node("memory@40000000")?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[0x4000_0000, 0x1000_0000])?;
    fdt.end_node(node)?;
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for (name, number) in [("cpu@0", 0), ("cpu@1", 1)] {
        let cpu = fdt.begin_node(name)?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("enable-method", "psci")?;
        fdt.property_u32("reg", number)?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)?;
    let node = fdt.begin_node("psci")?;
    fdt.property_string("compatible", "arm,psci-1.0")?;
    fdt.property_string("method", "smc")?;
    fdt.end_node(node)?;
    let node = fdt.begin_node("intc@8000000")?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("phandle", 1)?;
    fdt.property_array_u64("reg", &[0x0800_0000, 0x1_0000, 0x080a_0000, 0xf6_0000])?;
    fdt.end_node(node)?;
    let node = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    fdt.property_array_u32("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4])?;
    fdt.end_node(node)?;
    let node = fdt.begin_node("pl011@9000000")?;
    fdt.property_string("compatible", "arm,pl011")?;
    fdt.property_array_u32("interrupts", &[0, 1, 4])?;
    fdt.property_array_u64("reg", &[0x0900_0000, 0x1000])?;
    fdt.end_node(node)?;
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", "a=b")?;
    fdt.property_string("stdout-path", "/pl011@9000000")?;
    fdt.property_u64("linux,initrd-start", 0x4800_0000)?;
    fdt.property_u64("linux,initrd-end", 0x4810_0000)?;
    fdt.end_node(node)?;
    fdt.end_node(root)?;
    Ok(fdt.finish()?)
}

/// As the target reads them: the first byte is the version, and how many ranges are in further fragments.
fn descriptors() -> Result<()> {
    let permissions = Permissions::from_bits(0b0110).ok_or("permissions")?;
    let receivers = [3, 4].map(|vm| Receiver { vm: VmId(vm), permissions, flags: 0 });
    let request = Header {
        sender: VmId(2),
        attributes: Attributes::NORMAL_WB_INNER,
        flags: Kind::Lend.flags(),
        handle: Handle(Handle::HYPERVISOR | 5),
        tag: 7,
    };
    let send = Header { flags: memory::FLAG_ZERO, handle: Handle(0), ..request };
    let ranges = (0..4).map(|i| Range { address: 0x4000_0000 + i * 0x4000, pages: 2 });
    let all = Some(Composite { pages: 8, ranges: 4 });
    let mut bytes = [0; 512];
    for (index, version) in [VERSION_1_0, VERSION_1_1, VERSION_1_2].into_iter().enumerate() {
        let keep = |name: &str, further: u8, content: &[u8]| {
            let first = index as u8 + 3 * further;
            save("descriptors", &format!("{name}-1-{index}"), &[&[first], content].concat())
        };
        let whole =
            memory::write(&mut bytes, version, &send, &receivers, all, ranges.clone()).ok_or("room")?;
        keep("send", 0, &bytes[..whole.total])?;
        keep("fragment", 2, &bytes[..whole.total - 2 * memory::RANGE_SIZE])?;
        let empty = std::iter::empty();
        let short =
            memory::write(&mut bytes, version, &request, &receivers[..1], None, empty).ok_or("room")?;
        keep("retrieve", 0, &bytes[..short.total])?;
        let offset = Message::header_size(version);
        let message = Message { sender: VmId(2), receiver: VmId(3), offset, size: 8, uuid: [1, 2, 3, 4] };
        bytes.fill(0xa5);
        message.write(&mut bytes, version).ok_or("room")?;
        keep("message", 0, &bytes[..offset + 8])?;
    }
    let relinquish = Relinquish { handle: request.handle, flags: 1, vm: VmId(3) }.to_bytes();
    save("descriptors", "relinquish", &[&[0], &relinquish[..]].concat())
}
