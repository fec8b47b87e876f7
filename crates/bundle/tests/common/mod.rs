//! Bundles made for tests.
#![allow(dead_code, missing_docs)]

use bundle::{MachineLimits, Manifest};
use vm_fdt::FdtWriter;

pub const MIB: u64 = 1 << 20;
pub const LIMITS: MachineLimits = MachineLimits { memory: 1 << 30 };

#[derive(Clone, Debug)]
pub enum Value {
    None,
    Text(String),
    Cells(Vec<u32>),
    Long(u64),
    Bytes(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}
impl From<i32> for Value {
    fn from(cell: i32) -> Self {
        Self::Cells(vec![cell as u32])
    }
}
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Long(number)
    }
}
impl From<&[u32]> for Value {
    fn from(cells: &[u32]) -> Self {
        Self::Cells(cells.into())
    }
}

#[derive(Clone, Debug, Default)]
pub struct Node(pub Vec<(String, Value)>);

impl Node {
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self = self.without(name);
        self.0.push((name.into(), value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    pub fn write(&self, fdt: &mut FdtWriter) {
        for (name, value) in &self.0 {
            match value {
                Value::None => fdt.property_null(name),
                Value::Text(text) => fdt.property_string(name, text),
                Value::Cells(cells) => fdt.property_array_u32(name, cells),
                Value::Long(number) => fdt.property_u64(name, *number),
                Value::Bytes(bytes) => fdt.property(name, bytes),
            }
            .unwrap();
        }
    }
}

/// A name, a node, and its own children.
pub type Branch<'a> = (&'a str, Node, Vec<(&'a str, Node)>);

/// A root node, with children and their children.
pub fn nested(root: &Node, children: &[Branch<'_>]) -> Vec<u8> {
    let mut fdt = FdtWriter::new().unwrap();
    let node = fdt.begin_node("").unwrap();
    root.write(&mut fdt);
    for (name, child, grandchildren) in children {
        let node = fdt.begin_node(name).unwrap();
        child.write(&mut fdt);
        for (name, grandchild) in grandchildren {
            let inner = fdt.begin_node(name).unwrap();
            grandchild.write(&mut fdt);
            fdt.end_node(inner).unwrap();
        }
        fdt.end_node(node).unwrap();
    }
    fdt.end_node(node).unwrap();
    fdt.finish().unwrap()
}

/// A root node, with the names of empty-but-for-one-child children.
pub fn blob(root: &Node, children: &[&str]) -> Vec<u8> {
    let one = || vec![("one", Node::default())];
    let children: Vec<_> = children.iter().map(|name| (*name, Node::default(), one())).collect();
    nested(root, &children)
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub hypervisor: Node,
    pub vms: Vec<(String, Node)>,
    pub files: Vec<(String, Vec<u8>)>,
}

impl Spec {
    /// A primary, and two secondaries, the second an FF-A partition.
    pub fn good() -> Self {
        let primary = Node::default().with("debug_name", "sched").with("kernel_filename", "sched.img");
        let first = Node::default()
            .with("debug_name", "one")
            .with("kernel_filename", "guest.img")
            .with("ramdisk_filename", "ramdisk")
            .with("vcpu_count", 2)
            .with("mem_size", 64 << 20)
            .with("margay,bootargs", "workload=stream");
        let second = Node::default()
            .with("debug_name", "two")
            .with("kernel_filename", "flat")
            .with("fdt_filename", "two.dtb")
            .with("is_ffa_partition", Value::None)
            .with("vcpu_count", 4)
            .with("mem_size", 128 * MIB)
            .with("smc_whitelist", &[0x8400_0000, 0x3200_ffff][..])
            .with("smc_whitelist_permissive", Value::None);
        Self {
            hypervisor: Node::default().with("compatible", "hafnium,hafnium"),
            vms: vec![("vm1".into(), primary), ("vm2".into(), first), ("vm3".into(), second)],
            files: vec![
                ("sched.img".into(), image(0, 3 * MIB, 0, 10_000)),
                ("guest.img".into(), image(0x1000, MIB, 0b1010, 5000)),
                ("flat".into(), vec![0x14; 4096]),
                ("ramdisk".into(), vec![7; 12345]),
                ("two.dtb".into(), blob(&partition(), &[])),
            ],
        }
    }

    pub fn vm(&mut self, number: usize) -> &mut Node {
        &mut self.vms[number - 1].1
    }

    pub fn set(mut self, vm: usize, name: &str, value: impl Into<Value>) -> Self {
        *self.vm(vm) = self.vm(vm).clone().with(name, value);
        self
    }

    pub fn unset(mut self, vm: usize, name: &str) -> Self {
        *self.vm(vm) = self.vm(vm).clone().without(name);
        self
    }

    pub fn file(mut self, name: &str, content: Vec<u8>) -> Self {
        self.files.retain(|(other, _)| other != name);
        self.files.push((name.into(), content));
        self
    }

    pub fn manifest(&self) -> Vec<u8> {
        let mut fdt = FdtWriter::new().unwrap();
        let root = fdt.begin_node("").unwrap();
        let hypervisor = fdt.begin_node("hypervisor").unwrap();
        self.hypervisor.write(&mut fdt);
        for (name, vm) in &self.vms {
            let node = fdt.begin_node(name).unwrap();
            vm.write(&mut fdt);
            fdt.end_node(node).unwrap();
        }
        fdt.end_node(hypervisor).unwrap();
        fdt.end_node(root).unwrap();
        fdt.finish().unwrap()
    }

    pub fn entries(&self) -> Vec<(String, Vec<u8>)> {
        let mut entries = self.files.clone();
        if !entries.iter().any(|(name, _)| name == "manifest.dtb") {
            entries.insert(0, ("manifest.dtb".into(), self.manifest()));
        }
        entries
    }

    pub fn bundle(&self) -> Vec<u8> {
        newc(&self.entries())
    }

    /// The sentence that checking it ends in.
    pub fn sentence(&self) -> String {
        match Manifest::check(&self.bundle(), &LIMITS) {
            Ok(_) => "no error".into(),
            Err(why) => why.to_string(),
        }
    }
}

/// The root of a partition manifest that fits vm3 of [`Spec::good`].
pub fn partition() -> Node {
    Node::default()
        .with("compatible", "arm,ffa-manifest-1.0")
        .with("ffa-version", 0x1_0001)
        .with("uuid", &[1, 2, 3, 4][..])
        .with("execution-ctx-count", 4)
        .with("exception-level", 0)
        .with("execution-state", 0)
        .with("messaging-method", 3)
        .with("notification-support", Value::None)
}

pub fn image(text_offset: u64, image_size: u64, flags: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[..4].copy_from_slice(&0x1400_0010u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
    bytes[24..32].copy_from_slice(&flags.to_le_bytes());
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes
}

pub fn newc(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |name: &str, data: &[u8]| {
        bytes.extend_from_slice(b"070701");
        for (index, field) in [0; 13].into_iter().enumerate() {
            let value = match index {
                6 => data.len(),
                11 => name.len() + 1,
                _ => field,
            };
            bytes.extend_from_slice(format!("{value:08x}").as_bytes());
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    };
    for (name, data) in entries {
        put(name, data);
    }
    put("TRAILER!!!", b"");
    bytes
}

pub fn old_binary(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |name: &str, data: &[u8]| {
        let mut words = [0u16; 13];
        words[0] = 0o070_707;
        words[10] = name.len() as u16 + 1;
        words[11] = (data.len() >> 16) as u16;
        words[12] = data.len() as u16;
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
    };
    for (name, data) in entries {
        put(name, data);
    }
    put("TRAILER!!!", b"");
    bytes
}
