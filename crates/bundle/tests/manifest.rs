//! Manifests: what is read, and the sentence in which everything that can be wrong ends.
mod common;

use bundle::{Image, Kind, Loading, MachineLimits, Manifest, VmSpec};
use common::{LIMITS, MIB, Node, Spec, Value, blob, image, nested, newc, old_binary, partition};

#[track_caller]
fn refused(spec: &Spec, sentence: &str) {
    assert_eq!(spec.sentence(), sentence);
}

fn good() -> Spec {
    Spec::good()
}

#[test]
fn reads_valid_bundle() {
    for bytes in [good().bundle(), old_binary(&good().entries())] {
        let manifest = Manifest::check(&bytes, &LIMITS).unwrap();
        let vms = manifest.vms();
        let [sched, one, two] = vms else { panic!("{} VMs", vms.len()) };
        assert_eq!((sched.index, sched.kind, sched.debug_name), (1, Kind::Primary, "sched"));
        assert_eq!((sched.vcpu_count, sched.mem_size, sched.bootargs), (0, None, None));
        assert_eq!((one.index, one.kind, one.vcpu_count), (2, Kind::Secondary, 2));
        assert_eq!((one.mem_size, one.bootargs), (Some(64 * MIB), Some("workload=stream")));
        assert_eq!(one.ramdisk.unwrap().len(), 12345);
        assert!(one.partition.is_none() && one.smc_whitelist.is_empty());
        assert_eq!((two.mem_size, two.uuid()), (Some(128 * MIB), [1, 2, 3, 4]));
        assert_eq!(two.smc_whitelist.iter().collect::<Vec<_>>(), [0x8400_0000, 0x3200_ffff]);
        assert!(two.smc_whitelist_permissive);
        let partition = two.partition.as_ref().unwrap();
        assert_eq!((partition.version, partition.messaging_method), (0x1_0001, 3));
        assert!(partition.notification_support);
        assert!(!manifest.ffa_tee_enabled() && !manifest.forwards_interrupts());
        assert_eq!(manifest.archive().entries().count(), 6);
    }
}

#[test]
fn keeps_each_sentence_on_one_line() {
    let at = "manifest.dtb: /hypervisor/vm2:";
    let spec = good().set(2, "kernel_filename", "a\n[hv] b\u{9b}c");
    refused(&spec, &format!("{at} kernel_filename: file a.[hv] b.c is not in the bundle"));
}

#[test]
fn ignores_what_hafnium_ignores() {
    let mut spec = good().set(2, "someone,elses", 1).set(1, "vcpus", 3).set(2, "margay,kind", "secondary");
    spec.hypervisor = spec.hypervisor.with("ffa_tee_enabled", Value::None).with("x", 1);
    spec.hypervisor = spec.hypervisor.with("margay,forward-interrupts", Value::None);
    spec.vms.insert(0, ("vmlinux".into(), Node::default()));
    spec.vms.push(("other".into(), Node::default()));
    spec.vms.swap(1, 3);
    let bytes = spec.bundle();
    let manifest = Manifest::check(&bytes, &LIMITS).unwrap();
    assert_eq!(manifest.vms().len(), 3);
    assert!(manifest.ffa_tee_enabled() && manifest.forwards_interrupts());
}

#[test]
fn what_a_vm_may_have_of_its_own() {
    let of = |vm: &VmSpec<'_>| [vm.gic, vm.time_from_start, vm.list_registers, vm.devices];
    let cases = [
        ("margay,gic", true, true),
        ("margay,time-from-start", false, true),
        ("margay,list-registers", false, true),
        ("margay,devices", true, false),
    ];
    for (n, (property, primary, others)) in cases.into_iter().enumerate() {
        for (vm, may) in [(1, primary), (2, others)] {
            let spec = good().set(vm, property, Value::None);
            if !may {
                let sentence =
                    format!("manifest.dtb: /hypervisor/vm{vm}: {property}: not allowed for this VM");
                refused(&spec, &sentence);
                continue;
            }
            let bytes = spec.bundle();
            let manifest = Manifest::check(&bytes, &LIMITS).unwrap();
            for spec in manifest.vms() {
                let mut expected = [false; 4];
                expected[n] = usize::from(spec.index) == vm;
                assert_eq!(of(spec), expected, "{property} of vm{vm}, vm{}", spec.index);
            }
        }
    }
    // One controller or the other.
    let both = good().set(2, "margay,gic", Value::None).set(2, "margay,list-registers", Value::None);
    refused(&both, "manifest.dtb: /hypervisor/vm2: margay,list-registers: not allowed for this VM");
}

#[test]
fn one_vm_has_the_devices() {
    let spec = good().set(2, "margay,kind", "super-secondary");
    let bytes = spec.bundle();
    let manifest = Manifest::check(&bytes, &LIMITS).unwrap();
    let with: Vec<_> = manifest.vms().iter().filter(|vm| vm.devices).map(|vm| vm.index).collect();
    assert_eq!(with, [2]);
    refused(
        &spec.set(1, "margay,devices", Value::None),
        "manifest.dtb: /hypervisor/vm2: margay,kind: not allowed for this VM",
    );
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
    refused(&renamed(1, "vm4"), "manifest.dtb: /hypervisor: vm1, the primary VM, is missing");
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
    assert_eq!(Manifest::check(&bytes, &LIMITS).unwrap().vms().len(), 66);
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
        let shown = name.replace('\x07', ".");
        refused(
            &good().set(2, "debug_name", name),
            &format!("{at} \"{shown}\" is not a name of 1 to 31 printable characters"),
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
    let rounded = Manifest::check(&bytes, &LIMITS).unwrap().vms()[1].mem_size;
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
fn loads_flat_kernels_as_hafnium_does() {
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
        let sentence =
            format!("{at} {property}: a flat kernel needs a device tree that describes it: set fdt_filename");
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
            &format!("{at} {property}: file nowhere is not in the bundle"),
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
    refused(&good().set(2, "margay,bootarg", "x"), &format!("{at} margay,bootarg: unknown property"));
    refused(
        &good().set(2, "margay,kind", "tertiary"),
        &format!("{at} margay,kind: unknown value \"tertiary\""),
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
    refused(&spec, "manifest.dtb: /hypervisor: margay,bootargs: unknown property");
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
        ("id", 7.into(), "0x7 contradicts the manifest, which makes it 0x3"),
        ("exception-level", 2.into(), "0x2 is not supported"),
        ("execution-state", 1.into(), "0x1 is not supported"),
        ("xlat-granule", 2.into(), "0x2 is not supported"),
        ("entrypoint-offset", 0x1000u64.into(), "0x1000 is not between 0x0 and 0xfff"),
        ("entrypoint-offset", 0x101.into(), "0x101 is not supported"),
        ("gp-register-num", 4.into(), "0x4 is not between 0x0 and 0x3"),
        ("auxiliary-id", 0x1_0000.into(), "0x10000 is not between 0x0 and 0xffff"),
        ("has-primary-scheduler", Value::None, "not allowed for this VM"),
        ("managed-exit", Value::None, "not allowed for this VM"),
        ("time-slice-mem", 1.into(), "has a value, but can only be present or absent"),
        ("ns-interrupts-action", 1.into(), "0x1 is not supported"),
        ("ns-interrupts-action", 3.into(), "0x3 is not between 0x0 and 0x2"),
        ("other-s-interrupts-action", 0.into(), "0x0 is not supported"),
        ("run-time-model", 2.into(), "0x2 is not between 0x0 and 0x1"),
        ("vm-availability-messages", 4.into(), "0x4 is not between 0x0 and 0x3"),
        ("messaging-method", (&[1, 2][..]).into(), "not a list of whole cells of the right length"),
        ("messaging-method", 0x200.into(), "0x200 is not supported"),
        ("messaging-method", 8.into(), "0x8 is not supported"),
        ("boot-order", 0x1_0000.into(), "0x10000 is not between 0x0 and 0xffff"),
        ("uuid", (&[1, 2, 3][..]).into(), "not a list of whole cells of the right length"),
        ("uuid", (&[1, 2, 3, 4, 0, 0, 0, 0][..]).into(), "0x0 is not supported"),
        ("description", 1.into(), "not a string"),
        ("notification-support", 1.into(), "has a value, but can only be present or absent"),
    ] {
        partition_refused(&partition().with(property, value), &format!("two.dtb: /: {property}: {what}"));
    }
    for (property, value) in [
        ("id", Value::from(3)),
        ("load-address", 0x9000_0000u64.into()),
        ("execution-ctx-count", 8.into()),
        ("entrypoint-offset", 0xffc.into()),
        ("gp-register-num", 3.into()),
        ("ns-interrupts-action", 0.into()),
        ("time-slice-mem", Value::None),
        ("boot-order", 5.into()),
        ("xlat-granule", 0.into()),
        ("uuid", (&[1, 0, 0, 0, 0, 0, 0, 1][..]).into()),
        ("description", "something".into()),
    ] {
        partition_refused(&partition().with(property, value), "no error");
    }
    partition_refused(&partition().with("uuid", &[1; 20][..]), "two.dtb: /: more than four services");
    let second = partition().with("ffa-version", 0x1_0002).with("messaging-method", 0x600);
    partition_refused(&second, "no error");
    refused(&good().file("two.dtb", vec![0; 64]), "two.dtb: this is not a device tree");
}

#[test]
fn services_have_two_forms() {
    let root =
        || partition().without("uuid").without("messaging-method").with("compatible", "arm,ffa-manifest-1.1");
    let service =
        |uuid: &str, method: i32| Node::default().with("uuid", uuid).with("messaging-method", method);
    let compatible = Node::default().with("compatible", "arm,ffa-manifest-services");
    let tree =
        |services: Vec<(&'static str, Node)>| nested(&root(), &[("services", compatible.clone(), services)]);
    let (one, two) = ("b4b5671e-4a90-4fe1-b81f-fb13dae1dacb", "00000000-0000-0000-0000-00000000000A");
    let bytes = good().file("two.dtb", tree(vec![("a", service(one, 1)), ("b", service(two, 4))])).bundle();
    let spec = Manifest::check(&bytes, &LIMITS).unwrap().vms()[2].clone();
    let read = spec.partition.as_ref().unwrap();
    let expected = [0xb4b5_671e, 0x4a90_4fe1, 0xb81f_fb13, 0xdae1_dacb];
    assert_eq!((spec.uuid(), read.messaging_method), (expected, 5));
    assert_eq!((read.services[1].uuid, read.services[1].messaging_method), ([0, 0, 0, 10], 4));

    let sentence = |tree: Vec<u8>| good().file("two.dtb", tree).sentence();
    assert_eq!(sentence(tree(vec![])), "two.dtb: /services: empty");
    let names = ["a", "b", "c", "d", "e"];
    let many = names.iter().map(|name| (*name, service(one, 1))).collect();
    assert_eq!(sentence(tree(many)), "two.dtb: /: more than four services");
    let wrong = nested(&root(), &[("services", Node::default(), vec![("a", service(one, 1))])]);
    assert_eq!(sentence(wrong), "two.dtb: /services: compatible is not \"arm,ffa-manifest-services\"");
    for bad in ["b4b5671e", "b4b5671e-4a90-4fe1-b81f+fb13dae1dacb", "b4b5671e-4a90-4fe1-b81f-fb13dae1dacg"] {
        let expected = format!("two.dtb: /services/a: uuid: \"{bad}\" is not a UUID");
        assert_eq!(sentence(tree(vec![("a", service(bad, 1))])), expected);
    }
    let method = tree(vec![("a", service(one, 8))]);
    assert_eq!(sentence(method), "two.dtb: /services/a: messaging-method: 0x8 is not supported");
    for property in ["uuid", "messaging-method"] {
        let tree = tree(vec![("a", service(one, 1).without(property))]);
        assert_eq!(sentence(tree), format!("two.dtb: /services/a: {property}: missing"));
    }
    // One messaging method for all, or one for each.
    let lists = partition().with("uuid", &[1, 2, 3, 4, 5, 6, 7, 8][..]);
    for (methods, second) in [(&[1][..], 1), (&[1, 4], 4)] {
        let tree = blob(&lists.clone().with("messaging-method", methods), &[]);
        let bytes = good().file("two.dtb", tree).bundle();
        let vm = Manifest::check(&bytes, &LIMITS).unwrap().vms()[2].clone();
        let expected = ([5, 6, 7, 8], second);
        let of = vm.partition.unwrap();
        let service = of.services[1];
        assert_eq!((service.uuid, service.messaging_method), expected);
    }
}

fn memory_region() -> Node {
    Node::default().with("base-address", 0x7000_0000u64).with("pages-count", 4).with("attributes", 3)
}

fn device_region() -> Node {
    Node::default()
        .with("base-address", 0x0a00_0000u64)
        .with("pages-count", 1)
        .with("attributes", 3)
        .with("interrupts", &[48, 0x900][..])
}

/// A partition manifest with these regions.
fn with_regions(memory: &[Node], devices: &[Node], rx_tx: Option<Node>) -> Vec<u8> {
    let names = ["one", "two", "three"];
    let list = |nodes: &[Node]| names.into_iter().zip(nodes.iter().cloned()).collect::<Vec<_>>();
    let node = |kind: &str| Node::default().with("compatible", &*format!("arm,ffa-manifest-{kind}"));
    let mut children = Vec::new();
    if !memory.is_empty() {
        children.push(("memory-regions", node("memory-regions"), list(memory)));
    }
    if !devices.is_empty() {
        children.push(("device-regions", node("device-regions"), list(devices)));
    }
    if let Some(rx_tx) = rx_tx {
        children.push(("rx_tx-info", rx_tx.with("compatible", "arm,ffa-manifest-rx_tx-buffer"), vec![]));
    }
    nested(&partition(), &children)
}

#[test]
fn regions_are_read() {
    let anywhere = Node::default().with("pages-count", 1).with("attributes", 9).with("phandle", 7);
    let inside = memory_region()
        .without("base-address")
        .with("load-address-relative-offset", 0x1_0000)
        .with("pages-count", 1)
        .with("attributes", 5)
        .with("phandle", 8);
    let rx_tx = Node::default().with("rx-buffer", 8).with("tx-buffer", 7);
    let device = device_region()
        .with("interrupts-target", &[48, 0, 1][..])
        .with("smmu-id", 1)
        .with("stream-ids", &[4, 5][..])
        .with("exclusive-access", Value::None);
    let at_window = memory_region().with("base-address", 0x8000_0000u64);
    let tree = with_regions(
        &[at_window, anywhere.clone()],
        &[device.clone().with("base-address", 0x8000_4000u64)],
        None,
    );
    let bytes = good().file("two.dtb", tree).bundle();
    let vm = Manifest::check(&bytes, &LIMITS).unwrap().vms()[2].clone();
    assert_eq!(vm.partition.unwrap().memory_regions[1].address, 0x8000_5000);
    let tree = with_regions(&[memory_region(), anywhere, inside], &[device], Some(rx_tx));
    let bytes = good().file("two.dtb", tree).bundle();
    let vm = Manifest::check(&bytes, &LIMITS).unwrap().vms()[2].clone();
    let partition = vm.partition.unwrap();
    let [fixed, anywhere, inside] = &partition.memory_regions[..] else { panic!("not three regions") };
    assert_eq!((fixed.name, fixed.address, fixed.bytes), ("one", 0x7000_0000, 0x4000));
    assert_eq!((fixed.write, fixed.execute, fixed.is_within(128 * MIB)), (true, false, false));
    assert_eq!((anywhere.address, anywhere.anywhere, anywhere.write), (0x8000_0000, true, false));
    assert_eq!((inside.address, inside.execute, inside.is_within(128 * MIB)), (0x4001_0000, true, true));
    assert_eq!(partition.rx_tx, Some([2, 1]));
    let device = &partition.device_regions[0];
    assert_eq!(
        (device.address, device.bytes, device.write, device.exclusive),
        (0x0a00_0000, 4096, true, true)
    );
    assert_eq!((device.smmu_id, device.stream_ids.len(), device.interrupt_targets.len()), (Some(1), 2, 3));
    assert_eq!(device.interrupts.iter().collect::<Vec<_>>(), [48, 0x900]);
}

#[test]
fn rejects_impossible_regions() {
    let memory = |nodes: &[Node], sentence: &str| {
        refused(&good().file("two.dtb", with_regions(nodes, &[], None)), &format!("two.dtb: {sentence}"));
    };
    let device = |nodes: &[Node], sentence: &str| {
        refused(&good().file("two.dtb", with_regions(&[], nodes, None)), &format!("two.dtb: {sentence}"));
    };
    for (property, value, what) in [
        ("pages-count", Value::from(0), "0x0 is not between 0x1 and 0x10000000"),
        ("attributes", 7.into(), "0x7 is not supported"),
        ("attributes", 2.into(), "0x2 is not supported"),
        ("base-address", 0x7000_0800u64.into(), "0x70000800 is not a multiple of 4096"),
        ("base-address", (1u64 << 48).into(), "0x1000000000000 is not between 0x0 and 0xffffffffc000"),
        (
            "base-address",
            0x3fff_f000u64.into(),
            "the region at 0x3ffff000 overlaps other memory or registers of this VM",
        ),
        (
            "base-address",
            0x47ff_f000u64.into(),
            "the region at 0x47fff000 overlaps other memory or registers of this VM",
        ),
        ("load-address-relative-offset", 0.into(), "redundant with base-address"),
        ("description", 1.into(), "not a string"),
        ("stream-ids-access-permissions", 1.into(), "not a list of whole cells of the right length"),
    ] {
        let sentence = format!("/memory-regions/one: {property}: {what}");
        memory(&[memory_region().with(property, value)], &sentence);
    }
    memory(&[memory_region().with("stream-ids", 1)], "/memory-regions/one: smmu-id: missing");
    memory(
        &[memory_region(), memory_region().with("base-address", 0x7000_3000u64)],
        "/memory-regions/two: base-address: the region at 0x70003000 overlaps other memory or registers of this VM",
    );
    for (property, value, what) in [
        ("attributes", Value::from(5), "0x5 is not supported"),
        (
            "base-address",
            0x4000_0000u64.into(),
            "the region at 0x40000000 overlaps other memory or registers of this VM",
        ),
        ("interrupts", 48.into(), "not a list of whole cells of the right length"),
        ("interrupts", (&[27, 0][..]).into(), "0x1b is not between 0x20 and 0x3fb"),
        ("interrupts", (&[48, 0, 48, 0][..]).into(), "0x30 is used twice"),
        ("interrupts-target", (&[48, 0][..]).into(), "not a list of whole cells of the right length"),
        ("interrupts-target", (&[49, 0, 0][..]).into(), "0x31 is not supported"),
        ("exclusive-access", 1.into(), "has a value, but can only be present or absent"),
    ] {
        let sentence = format!("/device-regions/one: {property}: {what}");
        device(&[device_region().with(property, value)], &sentence);
    }
    device(&[device_region().without("base-address")], "/device-regions/one: base-address: missing");
    device(
        &[device_region(), device_region().with("interrupts", &[49, 0][..])],
        "/device-regions/two: base-address: the region at 0xa000000 overlaps other memory or registers of this VM",
    );

    let buffers = |rx: i32, tx: i32| Some(Node::default().with("rx-buffer", rx).with("tx-buffer", tx));
    let one = memory_region().with("phandle", 1);
    let two = memory_region().with("phandle", 2).with("base-address", 0x7100_0000u64).with("pages-count", 1);
    for (rx_tx, what) in [
        (buffers(2, 3), "tx-buffer: no memory region has the phandle 0x3"),
        (buffers(2, 1), "tx-buffer: the memory region has more than one page"),
        (buffers(2, 2), "tx-buffer: 0x2 is used twice"),
        (Some(Node::default()), "rx-buffer: missing"),
    ] {
        let tree = with_regions(&[one.clone(), two.clone()], &[], rx_tx);
        refused(&good().file("two.dtb", tree), &format!("two.dtb: /rx_tx-info: {what}"));
    }
    for node in ["memory-regions", "device-regions"] {
        refused(
            &good().file("two.dtb", blob(&partition(), &[node])),
            &format!("two.dtb: /{node}: compatible is not \"arm,ffa-manifest-{node}\""),
        );
    }
    let tree = nested(
        &partition().with("execution-ctx-count", 2),
        &[(
            "memory-regions",
            Node::default().with("compatible", "arm,ffa-manifest-memory-regions"),
            vec![("x", memory_region())],
        )],
    );
    let spec = good().file("one.dtb", tree).set(2, "is_ffa_partition", Value::None);
    refused(
        &spec.set(2, "fdt_filename", "one.dtb").set(2, "margay,kind", "super-secondary"),
        "manifest.dtb: /hypervisor/vm2: fdt_filename: the super-secondary has all devices already, and no regions",
    );
    // More than the machine has, with what the VMs have anyway.
    let sentence =
        good().file("two.dtb", with_regions(&[memory_region().with("pages-count", 0x4_0000)], &[], None));
    assert!(sentence.sentence().starts_with("manifest.dtb: /hypervisor/vm3: mem_size: with this VM, "));
}

#[test]
fn devices_have_one_owner() {
    let first = |device: Node| {
        let root = partition().with("execution-ctx-count", 2);
        let node = Node::default().with("compatible", "arm,ffa-manifest-device-regions");
        let tree = nested(&root, &[("device-regions", node, vec![("x", device)])]);
        good()
            .file("two.dtb", with_regions(&[], &[device_region()], None))
            .file("one.dtb", tree)
            .set(2, "is_ffa_partition", Value::None)
            .set(2, "fdt_filename", "one.dtb")
    };
    let (elsewhere, other) = (0x0b00_0000u64, &[50, 0][..]);
    refused(&first(device_region().with("base-address", elsewhere).with("interrupts", other)), "no error");
    refused(
        &first(device_region().with("interrupts", other)),
        "two.dtb: /device-regions/one: base-address: the region at 0xa000000 belongs to another VM",
    );
    refused(
        &first(device_region().with("base-address", elsewhere)),
        "two.dtb: /device-regions/one: interrupts: 0x30 is used twice",
    );
}

#[test]
fn partitions_boot_in_different_places() {
    let root = partition().with("boot-order", 5);
    let spec = good()
        .file("two.dtb", blob(&root, &[]))
        .file("one.dtb", blob(&root.with("execution-ctx-count", 2), &[]))
        .set(2, "is_ffa_partition", Value::None)
        .set(2, "fdt_filename", "one.dtb");
    refused(&spec, "two.dtb: /: boot-order: 0x5 is used twice");
}
