//! What this crate reads and writes, compared with what others do.
use devtree::{Error, Node, Tree, Writer};
use dtoolkit::{
    Node as _, Property as _,
    fdt::{Fdt, FdtNode},
};
use proptest::prelude::*;

/// A made-up tree.
#[derive(Clone, Debug)]
struct Made {
    name: String,
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<Made>,
}

fn made() -> impl Strategy<Value = Made> {
    let name = "[a-z]{1,8}(@[0-9a-f]{1,8})?";
    let properties = || proptest::collection::vec(("[a-z,#-]{1,12}", any::<Vec<u8>>()), 0..4);
    let leaf =
        (name, properties()).prop_map(|(name, properties)| Made { name, properties, children: vec![] });
    let tree = leaf.prop_recursive(4, 24, 4, move |inner| {
        (name, properties(), proptest::collection::vec(inner, 0..4))
            .prop_map(|(name, properties, children)| Made { name, properties, children })
    });
    tree.prop_map(|tree| Made { name: String::new(), ..tree })
}

fn write(writer: &mut Writer, made: &Made) {
    writer.begin(&made.name);
    made.properties.iter().for_each(|(name, value)| writer.property(name, value));
    made.children.iter().for_each(|child| write(writer, child));
    writer.end();
}

fn read_here(node: &Node<'_>) -> Made {
    let property = |p: devtree::Property<'_>| (p.name().to_owned(), p.value().to_vec());
    Made {
        name: node.name().to_owned(),
        properties: node.properties().map(property).collect(),
        children: node.children().map(|child| read_here(&child)).collect(),
    }
}

fn read_there(node: &FdtNode<'_>) -> Made {
    Made {
        name: node.name().to_owned(),
        properties: node.properties().map(|p| (p.name().to_owned(), p.value().to_vec())).collect(),
        children: node.children().map(|child| read_there(&child)).collect(),
    }
}

fn blob(made: &Made) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer, made);
    writer.finish().unwrap()
}

proptest! {
    #[test]
    fn written_trees_are_read_by_two_parsers(made in made()) {
        let blob = blob(&made);
        let expected = format!("{made:?}");
        prop_assert_eq!(format!("{:?}", read_here(&Tree::new(&blob).unwrap().root())), &expected[..]);
        prop_assert_eq!(format!("{:?}", read_there(&Fdt::new(&blob).unwrap().root())), &expected[..]);
    }

    #[test]
    fn damaged_trees_are_rejected_or_harmless(made in made(), damage in proptest::collection::vec((0usize..4000, any::<u8>()), 1..8)) {
        let mut blob = blob(&made);
        for (at, byte) in damage {
            let len = blob.len();
            blob[at % len] = byte;
        }
        if let Ok(tree) = Tree::new(&blob) {
            read_here(&tree.root());
            tree.reservations().count();
        }
    }
}

#[test]
fn skips_nops() {
    let mut fdt =
        vm_fdt::FdtWriter::new_with_mem_reserv(&[vm_fdt::FdtReserveEntry::new(0x1000, 0x2000).unwrap()])
            .unwrap();
    let root = fdt.begin_node("").unwrap();
    let gone = fdt.begin_node("gone").unwrap();
    fdt.end_node(gone).unwrap();
    let kept = fdt.begin_node("kept@1").unwrap();
    fdt.property_u32("reg", 1).unwrap();
    fdt.end_node(kept).unwrap();
    fdt.end_node(root).unwrap();
    let mut blob = fdt.finish().unwrap();
    // As QEMU and boot loaders take a node out.
    let at = blob.windows(4).position(|bytes| bytes == b"gone").unwrap() - 4;
    for word in blob[at..at + 16].as_chunks_mut().0 {
        *word = 4_u32.to_be_bytes();
    }
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.reservations().collect::<Vec<_>>(), [(0x1000, 0x2000)]);
    let names: Vec<_> = tree.root().children().map(|node| node.name()).collect();
    assert_eq!(names, ["kept@1"]);
    let kept = tree.root().child("kept@1").unwrap();
    assert_eq!((kept.base_name(), kept.value("reg")), ("kept", Some(&[0, 0, 0, 1][..])));
}

#[test]
fn rejects_unrepresentable_trees() {
    let finish = |make: fn(&mut Writer)| {
        let mut writer = Writer::new();
        make(&mut writer);
        writer.finish()
    };
    assert_eq!(finish(|_| ()), None);
    assert_eq!(finish(|w| w.begin("")), None);
    assert_eq!(finish(Writer::end), None);
    for bad in [
        (|w| w.text("model", "a\0b")) as fn(&mut Writer),
        |w| w.text("mo\0del", "ab"),
        |w| (w.end(), w.begin("")).1,
    ] {
        let mut writer = Writer::new();
        writer.begin("");
        bad(&mut writer);
        writer.end();
        assert_eq!(writer.finish(), None);
    }
}

#[test]
fn rejects_malformed_fdt() {
    let good = blob(&Made { name: String::new(), properties: vec![], children: vec![] });
    assert_eq!(Tree::new(b"no").unwrap_err(), Error::NotADeviceTree);
    let (total, given) = (good.len(), good.len() - 1);
    assert_eq!(Tree::new(&good[..given]).unwrap_err(), Error::Truncated { total, given });
    let longer = [&good[..], &[1, 2, 3]].concat();
    assert_eq!(Tree::new(&longer).unwrap().bytes(), &good[..]);
}
