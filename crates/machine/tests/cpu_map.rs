//! `/cpus/cpu-map`: QEMU's, made ones, broken ones.
use machine::{CorePlace, CpuMapError, Machine};
use proptest::prelude::*;
use vm_fdt::FdtWriter;

const CORES: u32 = 8;

/// A node of a map: its name, the phandle of its `cpu`, its children.
#[derive(Clone, Debug)]
struct Entry(String, Option<u32>, Vec<Entry>);

fn inner(name: &str, children: Vec<Entry>) -> Entry {
    Entry(name.into(), None, children)
}

/// A leaf for the core with this affinity.
fn leaf(name: &str, affinity: u32) -> Entry {
    Entry(name.into(), Some(affinity + 1), vec![])
}

fn write(fdt: &mut FdtWriter, entry: &Entry) -> Result<(), vm_fdt::Error> {
    let node = fdt.begin_node(&entry.0)?;
    if let Some(phandle) = entry.1 {
        fdt.property_u32("cpu", phandle)?;
    }
    entry.2.iter().try_for_each(|child| write(fdt, child))?;
    fdt.end_node(node)
}

/// A tree with cores of the affinities 0 to 7, whose phandles are one more, and this map.
fn tree(map: Option<Vec<Entry>>) -> Vec<u8> {
    let write = || {
        let mut fdt = FdtWriter::new()?;
        let root = fdt.begin_node("")?;
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        if let Some(map) = map {
            write(&mut fdt, &inner("cpu-map", map))?;
        }
        for affinity in 0..CORES {
            let cpu = fdt.begin_node(&format!("cpu@{affinity}"))?;
            fdt.property_u32("reg", affinity)?;
            fdt.property_phandle(affinity + 1)?;
            fdt.end_node(cpu)?;
        }
        fdt.end_node(cpus)?;
        fdt.end_node(root)?;
        fdt.finish()
    };
    write().unwrap()
}

/// Affinity, socket, cluster, core and thread of each core in the map.
type Places = Vec<(u64, u32, u32, u32, Option<u32>)>;

fn places(dtb: &[u8]) -> Result<Places, CpuMapError> {
    let mut places = Vec::new();
    Machine::from_dtb(dtb).unwrap().for_each_core_place(&mut |mpidr, place| {
        let CorePlace { socket, cluster, core, thread } = place;
        places.push((mpidr.raw(), socket, cluster, core, thread));
    })?;
    places.sort();
    Ok(places)
}

fn places_of(map: Vec<Entry>) -> Result<Places, CpuMapError> {
    places(&tree(Some(map)))
}

#[test]
fn reads_sockets_clusters_and_threads() {
    let dtb = include_bytes!("../fixtures/virt-2-sockets.dtb");
    let expected: Places = (0..8).map(|n| (n.into(), n / 4, n / 2 % 2, 0, Some(n % 2))).collect();
    assert_eq!(places(dtb), Ok(expected));
}

#[test]
fn reads_one_socket() {
    let dtb = include_bytes!("../fixtures/virt-gicv3.dtb");
    assert_eq!(places(dtb), Ok((0..4).map(|n| (n.into(), 0, 0, n, None)).collect()));
}

#[test]
fn reads_no_map_as_no_places() {
    assert_eq!(places(&tree(None)), Ok(vec![]));
    assert_eq!(places_of(vec![]), Ok(vec![]));
}

#[test]
fn counts_clusters_without_sockets_as_one_socket() {
    let map = vec![
        inner("cluster0", vec![leaf("core0", 0), leaf("core1", 1)]),
        inner(
            "cluster1",
            vec![leaf("core0", 2), inner("core1", vec![leaf("thread0", 3), leaf("thread1", 4)])],
        ),
    ];
    let expected = vec![
        (0, 0, 0, 0, None),
        (1, 0, 0, 1, None),
        (2, 0, 1, 0, None),
        (3, 0, 1, 1, Some(0)),
        (4, 0, 1, 1, Some(1)),
    ];
    assert_eq!(places_of(map), Ok(expected));
}

#[test]
fn ignores_nodes_of_other_names() {
    let map = vec![
        inner("socketX", vec![inner("cluster0", vec![leaf("core0", 9)])]),
        inner(
            "cluster0",
            vec![leaf("core0", 0), leaf("core", 9), leaf("core-1", 9), leaf("core99999999999", 9)],
        ),
    ];
    assert_eq!(places_of(map), Ok(vec![(0, 0, 0, 0, None)]));
}

#[test]
fn rejects_maps_that_break_the_binding() {
    let in_cluster = |entries| vec![inner("cluster0", entries)];
    for (map, error) in [
        (vec![leaf("core0", 0)], CpuMapError::NoCluster),
        (vec![inner("socket0", vec![leaf("core0", 0)])], CpuMapError::NoCluster),
        (in_cluster(in_cluster(vec![leaf("core0", 0)])), CpuMapError::NestedClusters),
        (in_cluster(vec![leaf("core0", CORES)]), CpuMapError::UnknownCpu),
        (in_cluster(vec![inner("core0", vec![])]), CpuMapError::UnknownCpu),
        (in_cluster(vec![inner("core0", vec![inner("thread0", vec![])])]), CpuMapError::UnknownCpu),
        (
            in_cluster(vec![Entry("core0".into(), Some(1), vec![leaf("thread0", 0)])]),
            CpuMapError::CoreWithThreads,
        ),
    ] {
        assert_eq!(places_of(map.clone()), Err(error), "{map:?}");
    }
}

#[test]
fn rejects_more_cores_than_are_looked_up() {
    let map =
        |count| vec![inner("cluster0", (0..count).map(|n| leaf(&format!("core{n}"), n % CORES)).collect())];
    assert_eq!(places_of(map(512)).unwrap().len(), 512);
    assert_eq!(places_of(map(513)), Err(CpuMapError::TooMany));
}

/// Maps of any shape, with names of the binding and phandles of cores and of nothing.
fn any_map() -> impl Strategy<Value = Vec<Entry>> {
    let name = || {
        (prop::sample::select(vec!["socket", "cluster", "core", "thread", "x"]), 0..4_u32)
            .prop_map(|(word, number)| format!("{word}{number}"))
    };
    let cpu = || prop::option::weighted(0.7, 0..CORES + 2);
    let bottom = (name(), cpu()).prop_map(|(name, cpu)| Entry(name, cpu, vec![]));
    let entry = bottom.prop_recursive(5, 40, 4, move |below| {
        (name(), prop::option::weighted(0.2, 0..CORES + 2), prop::collection::vec(below, 0..4))
            .prop_map(|(name, cpu, children)| Entry(name, cpu, children))
    });
    prop::collection::vec(entry, 0..5)
}

/// Maps that keep to the binding, with what is to be read from them: for each socket, for each cluster, how
/// many threads each core has, 0 if it has none of its own.
fn valid_map() -> impl Strategy<Value = Vec<Vec<Vec<u32>>>> {
    use prop::collection::vec;
    vec(vec(vec(0..3_u32, 0..3), 0..3), 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 400 }))]

    #[test]
    fn names_only_cores_of_the_tree(map in any_map()) {
        if let Ok(places) = places_of(map) {
            prop_assert!(places.iter().all(|place| place.0 < CORES.into()));
        }
    }

    #[test]
    fn reads_what_was_written(sockets in valid_map()) {
        let (mut expected, mut map, mut cores) = (Places::new(), Vec::new(), (0..CORES).cycle());
        for (socket, clusters) in (0..).zip(&sockets) {
            let mut in_socket = Vec::new();
            for (cluster, threads_of) in (0..).zip(clusters) {
                let mut in_cluster = Vec::new();
                for (core, &threads) in (0..).zip(threads_of) {
                    let name = format!("core{core}");
                    let mut next = |thread| {
                        let affinity = cores.next().unwrap();
                        expected.push((affinity.into(), socket, cluster, core, thread));
                        affinity
                    };
                    in_cluster.push(match threads {
                        0 => leaf(&name, next(None)),
                        _ => inner(&name, (0..threads).map(|n| leaf(&format!("thread{n}"), next(Some(n)))).collect()),
                    });
                }
                in_socket.push(inner(&format!("cluster{cluster}"), in_cluster));
            }
            map.push(inner(&format!("socket{socket}"), in_socket));
        }
        expected.sort();
        prop_assert_eq!(places_of(map), Ok(expected));
    }
}
