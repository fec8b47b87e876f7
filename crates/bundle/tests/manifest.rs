//! Manifests: what is read, and the sentence in which everything that can be wrong ends.
mod common;

use bundle::{Image, Kind, Loading, MachineLimits, Manifest};
use common::{LIMITS, MIB, Node, Spec, Value, blob, image, newc, old_binary, partition};

#[track_caller]
fn refused(spec: &Spec, sentence: &str) {
    assert_eq!(spec.sentence(), sentence);
}

fn good() -> Spec {
    Spec::good()
}

#[test]
fn a_good_bundle_is_read() {
    for bytes in [good().bundle(), old_binary(&good().entries())] {
        let manifest = Manifest::check(&bytes, &LIMITS).unwrap();
        let vms: Vec<_> = manifest.vms().collect();
        let [sched, one, two] = &vms[..] else { panic!("{} VMs", vms.len()) };
        assert_eq!((sched.index, sched.kind, sched.debug_name), (1, Kind::Primary, "sched"));
        assert_eq!((sched.vcpu_count, sched.mem_size, sched.bootargs), (0, None, None));
        assert_eq!((one.index, one.kind, one.vcpu_count), (2, Kind::Secondary, 2));
        assert_eq!((one.mem_size, one.bootargs), (Some(64 * MIB), Some("workload=stream")));
        assert_eq!(manifest.file(one.ramdisk_filename.unwrap()).len(), 12345);
        assert!(!one.is_ffa_partition && one.partition.is_none() && one.smc_whitelist.is_empty());
        assert_eq!((two.mem_size, two.uuid, two.is_ffa_partition), (Some(128 * MIB), [1, 2, 3, 4], true));
        assert_eq!(two.smc_whitelist.iter().collect::<Vec<_>>(), [0x8400_0000, 0x3200_ffff]);
        assert!(two.smc_whitelist_permissive);
        let partition = two.partition.unwrap();
        assert_eq!((partition.version, partition.messaging_method), (0x1_0001, 3));
        assert!(partition.notification_support);
        assert!(!manifest.ffa_tee_enabled());
        assert_eq!(manifest.archive().entries().count(), 6);
    }
}

#[test]
fn what_hafnium_ignores_is_ignored() {
    let mut spec = good().set(2, "someone,elses", 1).set(1, "vcpus", 3).set(2, "margay,kind", "secondary");
    spec.hypervisor = spec.hypervisor.with("ffa_tee_enabled", Value::None).with("x", 1);
    spec.vms.insert(0, ("vmlinux".into(), Node::default()));
    spec.vms.push(("other".into(), Node::default()));
    spec.vms.swap(1, 3);
    let bytes = spec.bundle();
    let manifest = Manifest::check(&bytes, &LIMITS).unwrap();
    assert_eq!(manifest.vms().count(), 3);
    assert!(manifest.ffa_tee_enabled());
}

#[test]
fn the_manifest_itself() {
    let without = newc(&good().files);
    let error = |bytes: &[u8]| Manifest::check(bytes, &LIMITS).unwrap_err().to_string();
    assert_eq!(error(&without), "bundle: there is no manifest.dtb");
    assert_eq!(error(b""), "bundle: at byte 0: the archive ends without a trailer");
    let spec = good().file("manifest.dtb", b"text".to_vec());
    refused(&spec, "manifest.dtb: this is not a device tree");
    let mut cut = good().manifest();
    cut.truncate(cut.len() - 40);
    assert!(good().file("manifest.dtb", cut).sentence().starts_with("manifest.dtb: the device tree is "));
    let spec = good().file("manifest.dtb", blob(&Node::default(), &["hypervizor"]));
    refused(&spec, "manifest.dtb: /hypervisor: missing");
    let mut spec = good();
    spec.hypervisor = Node::default().with("compatible", "someone,else");
    refused(&spec, "manifest.dtb: /hypervisor: compatible is not \"hafnium,hafnium\"");
    let mut spec = good();
    spec.hypervisor = spec.hypervisor.with("ffa_tee_enabled", 1);
    refused(
        &spec,
        "manifest.dtb: /hypervisor: ffa_tee_enabled: has a value, but can only be present or absent",
    );
}

#[test]
fn the_numbers_of_vms() {
    let renamed = |vm: usize, name: &str| {
        let mut spec = good();
        spec.vms[vm - 1].0 = name.into();
        spec
    };
    refused(&renamed(1, "vm4"), "manifest.dtb: /hypervisor/vm1: missing: there is no primary VM");
    refused(&renamed(2, "vm4"), "manifest.dtb: /hypervisor: the numbers of the VMs have a gap");
    for name in ["vm0", "vm67", "vm99999999999999999999999"] {
        refused(&renamed(3, name), "manifest.dtb: /hypervisor: a VM's number is not from 1 to 66");
    }
    refused(&renamed(3, "vm02"), "manifest.dtb: /hypervisor: two VMs have the same number");
}

#[test]
fn as_many_vms_as_there_may_be() {
    let mut spec = good();
    spec.vms.truncate(1);
    for number in 2..=66 {
        let node = Node::default()
            .with("debug_name", &*format!("vm number {number}"))
            .with("kernel_filename", "flat")
            .with("vcpu_count", 15)
            .with("mem_size", 4 << 20);
        spec.vms.push((format!("vm{number}"), node));
    }
    let bytes = spec.bundle();
    assert_eq!(Manifest::check(&bytes, &LIMITS).unwrap().vms().count(), 66);
    refused(
        &spec.clone().set(66, "vcpu_count", 65),
        "manifest.dtb: /hypervisor/vm66: vcpu_count: 0x401 is not between 0x1 and 0x400",
    );
    assert!(Manifest::check(&spec.clone().set(66, "vcpu_count", 64).bundle(), &LIMITS).is_ok());
    refused(
        &spec.set(66, "vcpu_count", 513),
        "manifest.dtb: /hypervisor/vm66: vcpu_count: 0x201 is not between 0x1 and 0x200",
    );
}

#[test]
fn missing_properties() {
    for (vm, property) in [
        (1, "debug_name"),
        (2, "debug_name"),
        (1, "kernel_filename"),
        (3, "kernel_filename"),
        (2, "vcpu_count"),
        (2, "mem_size"),
        (3, "fdt_filename"),
    ] {
        refused(
            &good().unset(vm, property),
            &format!("manifest.dtb: /hypervisor/vm{vm}: {property}: missing"),
        );
    }
}

#[test]
fn names() {
    let at = "manifest.dtb: /hypervisor/vm2: debug_name:";
    refused(&good().set(2, "debug_name", "sched"), &format!("{at} another VM is also named sched"));
    for name in ["", "0123456789abcdef0123456789abcdef", "bell\x07", "[hv]", "naïve"] {
        refused(
            &good().set(2, "debug_name", name),
            &format!("{at} \"{name}\" is not a name of 1 to 31 printable characters"),
        );
    }
    for bytes in [b"no zero".to_vec(), b"two\0strings\0".to_vec(), b"\xff\0".to_vec(), vec![]] {
        refused(&good().set(2, "debug_name", Value::Bytes(bytes)), &format!("{at} not a string"));
    }
}

#[test]
fn numbers() {
    let at = "manifest.dtb: /hypervisor/vm2:";
    for value in [Value::None, Value::Cells(vec![0, 0, 1]), "a lot of it".into()] {
        refused(
            &good().set(2, "mem_size", value),
            &format!("{at} mem_size: not a number of one or two cells"),
        );
    }
    refused(&good().set(2, "vcpu_count", 0), &format!("{at} vcpu_count: 0x0 is not between 0x1 and 0x200"));
    refused(
        &good().set(2, "vcpu_count", u64::MAX),
        &format!("{at} vcpu_count: 0xffffffffffffffff is not between 0x1 and 0x200"),
    );
    refused(
        &good().set(2, "mem_size", 0),
        &format!("{at} mem_size: 0x0 is not between 0x1 and 0x10000000000"),
    );
    let bytes = good().set(2, "mem_size", 0x400_1001).bundle();
    let rounded = Manifest::check(&bytes, &LIMITS).unwrap().vms().nth(1).unwrap().mem_size;
    assert_eq!(rounded, Some(0x400_2000));
    refused(
        &good().set(2, "smc_whitelist", Value::Bytes(vec![1, 2, 3])),
        &format!("{at} smc_whitelist: not a list of whole cells of the right length"),
    );
}

#[test]
fn memory_has_to_hold_what_is_loaded() {
    let at = "manifest.dtb: /hypervisor/vm2: mem_size:";
    // 2 MiB for the tree, text_offset 0x1000, image 1 MiB; then a ramdisk on a 2 MiB boundary.
    let needed = 0x40_0000 + 12345u64;
    let sentence = format!("{at} too small: kernel, ramdisk and device tree need {needed:#x}");
    refused(&good().set(2, "mem_size", 0x40_3000u64), &sentence);
    refused(&good().set(2, "mem_size", 0x40_4000u64), "no error");
    refused(
        &good().unset(2, "ramdisk_filename").set(2, "mem_size", 0x30_0000u64),
        &format!("{at} too small: kernel, ramdisk and device tree need 0x301000"),
    );
}

#[test]
fn flat_kernels_are_loaded_as_hafnium_loads_them() {
    let flat = Image::parse(&[0x14; 5000]).unwrap();
    let all = Loading::of(&flat, MIB, Some(4097), Some(100));
    let tree = MIB - 0x2000;
    let expected = Loading {
        kernel: 0,
        ramdisk: Some(tree - 0x2000),
        tree: Some(tree),
        tree_room: 0x2000,
        needed: 0x6000,
    };
    assert_eq!((all, all.argument(0x4000_0000, MIB)), (expected, 0x4000_0000 + tree));
    let alone = Loading::of(&flat, MIB, None, None);
    assert_eq!(
        (alone.kernel, alone.tree, alone.needed, alone.argument(0x4000_0000, MIB)),
        (0, None, 0x2000, MIB)
    );
    let image = Image::parse(&image(0x1000, MIB, 0, 100)).unwrap();
    let alone = Loading::of(&image, 8 * MIB, Some(1), None);
    assert_eq!((alone.kernel, alone.ramdisk, alone.tree), (0x20_1000, Some(0x40_0000), Some(0)));
    assert_eq!((alone.needed, alone.argument(0x4000_0000, 8 * MIB)), (0x40_0001, 0x4000_0000));

    // A flat kernel with its partition manifest as tree, of a page, and a page to spare.
    let at = "manifest.dtb: /hypervisor/vm3:";
    refused(&good().set(3, "mem_size", 0x3000), "no error");
    refused(
        &good().set(3, "mem_size", 0x2000),
        &format!("{at} mem_size: too small: kernel, ramdisk and device tree need 0x3000"),
    );
    for property in ["ramdisk_filename", "margay,bootargs"] {
        let spec = good().unset(3, "is_ffa_partition").set(3, property, "ramdisk");
        refused(&spec, "no error");
        let sentence = format!("{at} {property}: a flat kernel needs an fdt_filename to be told of it");
        refused(&spec.unset(3, "fdt_filename"), &sentence);
    }
}

#[test]
fn the_machine_has_to_hold_all() {
    refused(
        &good().set(2, "mem_size", 64u64 << 30),
        "manifest.dtb: /hypervisor/vm2: mem_size: with this VM, 0x1000500000 bytes are wanted, but the machine \
         has 0x40000000",
    );
    refused(
        &good().set(3, "mem_size", 1000 * MIB),
        "manifest.dtb: /hypervisor/vm3: mem_size: with this VM, 0x42d00000 bytes are wanted, but the machine has \
         0x40000000",
    );
    refused(
        &good().file("sched.img", image(0, 2 << 30, 0, 100)),
        "manifest.dtb: /hypervisor/vm1: kernel_filename: with this VM, 0x80200000 bytes are wanted, but the machine \
         has 0x40000000",
    );
    let bytes = good().bundle();
    Manifest::check(&bytes, &MachineLimits { memory: 197 * MIB }).unwrap();
    Manifest::check(&bytes, &MachineLimits { memory: 196 * MIB }).unwrap_err();
}

#[test]
fn the_primary_has_all_that_is_left() {
    for (property, value) in
        [("mem_size", Value::from(1)), ("vcpu_count", 1.into()), ("fdt_filename", "two.dtb".into())]
    {
        refused(
            &good().set(1, property, value),
            &format!("manifest.dtb: /hypervisor/vm1: {property}: not allowed for this VM"),
        );
    }
    refused(
        &good().set(1, "margay,kind", "secondary"),
        "manifest.dtb: /hypervisor/vm1: margay,kind: not allowed for this VM",
    );
}

#[test]
fn files() {
    let at = "manifest.dtb: /hypervisor/vm2:";
    for property in ["kernel_filename", "ramdisk_filename", "fdt_filename"] {
        refused(
            &good().set(2, property, "nowhere"),
            &format!("{at} {property}: the bundle holds no file nowhere"),
        );
    }
    refused(
        &good().file("guest.img", vec![]),
        &format!("{at} kernel_filename: guest.img: the file is empty"),
    );
    refused(
        &good().set(2, "fdt_filename", "ramdisk"),
        &format!("{at} fdt_filename: ramdisk is not a device tree"),
    );
    let mut large = blob(&Node::default(), &[]);
    large.resize((2 << 20) + 4, 0);
    refused(
        &good().file("large", large).set(2, "fdt_filename", "large"),
        &format!("{at} fdt_filename: 0x200004 is not between 0x1 and 0x200000"),
    );
    refused(&good().file("tree", blob(&Node::default(), &[])).set(2, "fdt_filename", "tree"), "no error");
}

#[test]
fn margays_own_properties() {
    let at = "manifest.dtb: /hypervisor/vm2:";
    refused(
        &good().set(2, "margay,bootarg", "x"),
        &format!("{at} margay,bootarg: Margay has no such property"),
    );
    refused(
        &good().set(2, "margay,kind", "tertiary"),
        &format!("{at} margay,kind: there is no choice \"tertiary\""),
    );
    refused(&good().set(2, "margay,kind", "super-secondary"), "no error");
    refused(
        &good().set(2, "margay,kind", "super-secondary").file("tree", blob(&Node::default(), &[])).set(
            2,
            "fdt_filename",
            "tree",
        ),
        &format!("{at} fdt_filename: not allowed for this VM"),
    );
    let mut spec = good();
    spec.hypervisor = spec.hypervisor.with("margay,bootargs", "x");
    refused(&spec, "manifest.dtb: /hypervisor: margay,bootargs: Margay has no such property");
}

#[track_caller]
fn partition_refused(root: &Node, sentence: &str) {
    refused(&good().file("two.dtb", blob(root, &[])), sentence);
}

#[test]
fn partition_manifests() {
    for property in [
        "ffa-version",
        "uuid",
        "execution-ctx-count",
        "exception-level",
        "execution-state",
        "messaging-method",
    ] {
        partition_refused(&partition().without(property), &format!("two.dtb: /: {property}: missing"));
    }
    partition_refused(
        &partition().with("compatible", "arm,ffa-manifest-2.0"),
        "two.dtb: /: compatible is not \"arm,ffa-manifest-1.0\", \"-1.1\" or \"-1.2\"",
    );
    for (property, value, what) in [
        ("ffa-version", Value::from(0x2_0000), "0x20000 is not between 0x10000 and 0x10002"),
        ("execution-ctx-count", 2.into(), "0x2 contradicts the manifest, which makes it 0x4"),
        ("id", 7.into(), "0x7 contradicts the manifest, which makes it 0x3"),
        (
            "load-address",
            0x8000_0000u64.into(),
            "0x80000000 contradicts the manifest, which makes it 0x40200000",
        ),
        ("exception-level", 2.into(), "0x2 is not supported"),
        ("execution-state", 1.into(), "0x1 is not supported"),
        ("xlat-granule", 2.into(), "0x2 is not supported"),
        ("entrypoint-offset", 0x2000u64.into(), "0x2000 is not supported"),
        ("messaging-method", 0x200.into(), "0x200 is not supported"),
        ("messaging-method", 8.into(), "0x8 is not supported"),
        ("boot-order", 0x1_0000.into(), "0x10000 is not between 0x0 and 0xffff"),
        ("uuid", (&[1, 2, 3][..]).into(), "not a list of whole cells of the right length"),
        ("uuid", (&[1; 20][..]).into(), "not a list of whole cells of the right length"),
        ("uuid", (&[1, 2, 3, 4, 0, 0, 0, 0][..]).into(), "0x0 is not supported"),
        ("description", 1.into(), "not a string"),
        ("notification-support", 1.into(), "has a value, but can only be present or absent"),
    ] {
        partition_refused(&partition().with(property, value), &format!("two.dtb: /: {property}: {what}"));
    }
    for (property, value) in [
        ("id", Value::from(3)),
        ("load-address", 0x4020_0000u64.into()),
        ("boot-order", 5.into()),
        ("xlat-granule", 0.into()),
        ("uuid", (&[1, 0, 0, 0, 0, 0, 0, 1][..]).into()),
        ("description", "something".into()),
    ] {
        partition_refused(&partition().with(property, value), "no error");
    }
    let second = partition().with("ffa-version", 0x1_0002).with("messaging-method", 0x600);
    partition_refused(&second, "no error");
    for node in ["memory-regions", "device-regions", "rx_tx-info"] {
        refused(
            &good().file("two.dtb", blob(&partition(), &[node])),
            &format!("two.dtb: {node}: Margay cannot give regions or buffers to a partition"),
        );
    }
    refused(&good().file("two.dtb", vec![0; 64]), "two.dtb: this is not a device tree");
}

#[test]
fn partitions_boot_in_different_places() {
    let root = partition().with("boot-order", 5);
    let spec = good()
        .file("two.dtb", blob(&root, &[]))
        .file("one.dtb", blob(&root.with("execution-ctx-count", 2), &[]))
        .set(2, "is_ffa_partition", Value::None)
        .set(2, "fdt_filename", "one.dtb");
    refused(&spec, "two.dtb: /: boot-order: another VM also has 5");
}
