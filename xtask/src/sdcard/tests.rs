//! Cards are read back with other code than wrote them: a FAT reader, a checksum and a table reader of their
//! own.

use super::*;

/// What a boot loader sees of a FAT32 volume.
struct Volume<'a> {
    bytes: &'a [u8],
    cluster: usize,
    table: usize,
    data: usize,
    root: u32,
}

/// A directory entry.
#[derive(Debug)]
struct Found {
    short: String,
    long: String,
    size: usize,
    first: u32,
    dates: [u16; 3],
    times: [u16; 2],
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn be32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl<'a> Volume<'a> {
    fn open(bytes: &'a [u8]) -> Self {
        assert_eq!((u16_at(bytes, 11), bytes[510], bytes[511]), (512, 0x55, 0xaa));
        assert_eq!(&bytes[82..90], b"FAT32   ");
        assert_eq!(
            (u16_at(bytes, 17), u16_at(bytes, 22)),
            (0, 0),
            "no root directory of fixed size, no FAT16 table"
        );
        let table = u16_at(bytes, 14) as usize * 512;
        let table_size = u32_at(bytes, 36) as usize * 512;
        let tables = bytes[16] as usize;
        assert_eq!(u32_at(bytes, 32) as usize * 512, bytes.len(), "the volume fills its partition");
        let data = table + tables * table_size;
        let cluster = bytes[13] as usize * 512;
        assert!((bytes.len() - data) / cluster >= 65525, "fewer clusters are not FAT32");
        assert_eq!(bytes[table..table + table_size], bytes[table + table_size..data], "the tables agree");
        let backup = u16_at(bytes, 50) as usize * 512;
        assert_eq!(bytes[..512], bytes[backup..backup + 512], "the boot sectors agree");
        Self { bytes, cluster, table, data, root: u32_at(bytes, 44) }
    }

    fn chain(&self, first: u32) -> Vec<u8> {
        let mut content = Vec::new();
        let mut at = first;
        while (2..0x0fff_fff8).contains(&at) {
            let from = self.data + (at as usize - 2) * self.cluster;
            content.extend(&self.bytes[from..from + self.cluster]);
            at = u32_at(self.bytes, self.table + 4 * at as usize) & 0x0fff_ffff;
        }
        content
    }

    fn files(&self) -> Vec<Found> {
        let mut files = Vec::new();
        let mut long = Vec::new();
        for entry in self.chain(self.root).chunks(32).take_while(|entry| entry[0] != 0) {
            match entry[11] {
                0x0f => {
                    let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
                    let mut part: Vec<u16> = places.iter().map(|at| u16_at(entry, *at)).collect();
                    part.extend(&long);
                    long = part;
                }
                0x08 => assert_eq!(&entry[..11], b"MARGAY     "),
                _ => {
                    let end = long.iter().position(|unit| *unit == 0).unwrap_or(long.len());
                    files.push(Found {
                        short: String::from_utf8(entry[..11].to_vec()).unwrap(),
                        long: String::from_utf16(&long[..end]).unwrap(),
                        size: u32_at(entry, 28) as usize,
                        first: u32::from(u16_at(entry, 20)) << 16 | u32::from(u16_at(entry, 26)),
                        dates: [u16_at(entry, 16), u16_at(entry, 18), u16_at(entry, 24)],
                        times: [u16_at(entry, 14), u16_at(entry, 22)],
                    });
                    long.clear();
                }
            }
        }
        files
    }

    fn read(&self, name: &str) -> Vec<u8> {
        let files = self.files();
        let file = files.iter().find(|file| file.long == name).unwrap_or_else(|| panic!("no {name}"));
        let mut content = self.chain(file.first);
        assert!(content.len() - file.size < self.cluster);
        content.truncate(file.size);
        content
    }
}

/// The boot partition, by the table of partitions.
fn partition(card: &[u8]) -> &[u8] {
    assert_eq!(card[510..512], [0x55, 0xaa]);
    assert_eq!((card[446], card[450]), (0x80, 0x0c), "active, FAT32 by block number");
    assert!(card[462..510].iter().all(|byte| *byte == 0), "and no other");
    let (start, count) = (u32_at(card, 454) as usize, u32_at(card, 458) as usize);
    assert_eq!(start % 2048, 0, "aligned to a MiB");
    assert_eq!((start + count) * 512, card.len());
    let volume = &card[start * 512..];
    assert_eq!(u32_at(volume, 28) as usize, start, "the volume knows where it is");
    volume
}

/// Bit by bit, as the polynomial is written.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

/// The text in a script image, its checksums checked.
fn script_in(image: &[u8]) -> String {
    let mut header = image[..64].to_vec();
    header[4..8].fill(0);
    assert_eq!(be32_at(image, 0), 0x2705_1956);
    assert_eq!(be32_at(image, 4), crc32(&header));
    assert_eq!(be32_at(image, 12) as usize, image.len() - 64);
    assert_eq!(be32_at(image, 24), crc32(&image[64..]));
    assert_eq!(image[28..32], [5, 22, 6, 0], "Linux, AArch64, script, not compressed");
    assert_eq!((be32_at(image, 64) as usize, be32_at(image, 68)), (image.len() - 72, 0));
    String::from_utf8(image[72..].to_vec()).unwrap()
}

/// Bytes that repeat nowhere near.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let next = |state: &mut u32, _| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 24) as u8)
    };
    (0..length).scan(seed, next).collect()
}

fn kernel(length: usize, image_size: u64) -> Vec<u8> {
    let mut kernel = noise(1, length);
    kernel[16..24].copy_from_slice(&image_size.to_le_bytes());
    kernel[56..60].copy_from_slice(b"ARM\x64");
    kernel
}

fn tree(length: usize) -> Vec<u8> {
    let mut tree = noise(2, length);
    tree[..4].copy_from_slice(&[0xd0, 0x0d, 0xfe, 0xed]);
    tree[4..8].copy_from_slice(&(length as u32).to_be_bytes());
    tree
}

fn spl(length: usize) -> Vec<u8> {
    let mut spl = noise(3, length);
    spl[4..12].copy_from_slice(b"eGON.BT0");
    spl[12..16].copy_from_slice(&0x5f0a_6c39u32.to_le_bytes());
    spl[16..20].copy_from_slice(&(length as u32).to_le_bytes());
    let sum = spl.chunks(4).fold(0u32, |sum, word| sum.wrapping_add(u32_at(word, 0)));
    spl[12..16].copy_from_slice(&sum.to_le_bytes());
    spl
}

fn card(name: &str) -> Card {
    let model = Model::find(name).unwrap();
    let firmware = match &model.platform {
        Platform::Pine { .. } => Firmware {
            files: Vec::new(),
            loader: Some(pine::loader(&spl(32 << 10), &tree(700_000)).unwrap()),
        },
        Platform::Raspberry { gpu, .. } => {
            let file = |name: &&str| File::new(name, noise(name.len() as u32, 100_001)).unwrap();
            Firmware { files: gpu.iter().map(file).collect(), loader: None }
        }
    };
    Card {
        model,
        kernel: kernel(123_457, 0x7d000),
        bundle: noise(4, 450_708),
        trees: vec![(model.tree.into(), tree(14_993)), ("other.dtb".into(), tree(4096))],
        bootargs: "loglevel=debug a=b".into(),
        firmware,
        size: None,
    }
}

fn complaint(card: Card) -> String {
    format!("{:#}", card.build().unwrap_err())
}

#[test]
fn the_checksum_of_these_tests_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn every_file_is_on_the_card() {
    for model in MODELS {
        let wanted = card(model.name);
        let bytes = wanted.clone().build().unwrap();
        assert_eq!(bytes.len() as u64, SMALLEST, "{}", model.name);
        let volume = Volume::open(partition(&bytes));
        assert_eq!(volume.read(BUNDLE), wanted.bundle);
        for (name, tree) in &wanted.trees {
            assert_eq!(volume.read(name), *tree, "{name}");
        }
        for file in &wanted.firmware.files {
            assert_eq!(volume.read(&file.name), file.content, "{}", file.name);
        }
        let kernel = if model.name == "pine64" { "Image" } else { "kernel8.img" };
        assert_eq!(volume.read(kernel), wanted.kernel);
        let count = 2 + wanted.trees.len() + wanted.firmware.files.len();
        let configuration = if model.name == "pine64" { 1 } else { 3 };
        assert_eq!(volume.files().len(), count + configuration, "and nothing else");
    }
}

#[test]
fn the_same_bytes_give_the_same_card_and_no_file_has_a_date() {
    let once = card("raspi3").build().unwrap();
    assert!(once == card("raspi3").build().unwrap());
    for file in Volume::open(partition(&once)).files() {
        assert_eq!((file.dates, file.times), ([0x21; 3], [0; 2]), "{file:?}: 1 January 1980, midnight");
    }
}

/// A boot ROM reads no long names.
#[test]
fn boot_rom_files_have_short_names() {
    let bytes = card("raspi3").build().unwrap();
    let short: Vec<_> = Volume::open(partition(&bytes)).files().into_iter().map(|file| file.short).collect();
    for name in ["BOOTCODEBIN", "START   ELF", "FIXUP   DAT", "CONFIG  TXT", "CMDLINE TXT", "KERNEL8 IMG"] {
        assert!(short.iter().any(|found| found == name), "{name} in {short:?}");
    }
}

#[test]
fn raspberry_pi_configuration_names_image() {
    for (name, tree) in [("raspi3", "bcm2837-rpi-3-b.dtb"), ("raspi4", "bcm2711-rpi-4-b.dtb")] {
        let bytes = card(name).build().unwrap();
        let volume = Volume::open(partition(&bytes));
        let config = String::from_utf8(volume.read("config.txt")).unwrap();
        let tree = format!("device_tree={tree}");
        for line in [
            "arm_64bit=1",
            "enable_uart=1",
            "kernel=kernel8.img",
            "initramfs bundle.cpio followkernel",
            &tree,
        ] {
            assert!(config.lines().any(|found| found == line), "{line} in {config}");
        }
        assert_eq!(config.contains("enable_gic=1"), name == "raspi4");
        assert_eq!(volume.read("cmdline.txt"), b"loglevel=debug a=b\n");
    }
}

#[test]
fn the_script_loads_what_is_there_and_boots_it() {
    for (name, kernel, addresses) in [
        ("raspi3", "kernel8.img", ["0x00200000", "0x02600000", "0x02700000"]),
        ("pine64", "Image", ["0x40200000", "0x4fa00000", "0x4ff00000"]),
    ] {
        let bytes = card(name).build().unwrap();
        let volume = Volume::open(partition(&bytes));
        let script = script_in(&volume.read("boot.scr"));
        let [k, t, b] = addresses;
        let tree = Model::find(name).unwrap().tree;
        let load = format!(
            "load ${{card}} {k} {kernel} && load ${{card}} {t} {tree} && load ${{card}} {b} bundle.cpio;"
        );
        assert!(script.contains(&load), "{script}");
        assert!(script.contains(&format!("\nbooti {k} {b}:${{filesize}} {t}\n")), "{script}");
        assert!(script.contains("\nsetenv bootargs 'loglevel=debug a=b'\n"), "{script}");
    }
}

#[test]
fn nothing_overlaps_in_memory() {
    for model in MODELS {
        let at = &model.memory;
        // U-Boot makes the tree larger where it is, by what it adds.
        let places =
            [(at.kernel, at.kernel_end), (at.tree, at.tree_end + 0x1_0000), (at.bundle, at.bundle_end)];
        assert!(places.iter().all(|(from, to)| from < to), "{}", model.name);
        assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{}", model.name);
        assert_eq!(at.kernel % (2 << 20), 0, "{}: where booti leaves it", model.name);
        let script = if model.name == "pine64" { 0x4fc0_0000 } else { 0x240_0000 };
        let script = script..script + 0x1_0000;
        assert!(places.iter().all(|(from, to)| script.end <= *from || *to <= script.start), "{}", model.name);
    }
}

#[test]
fn a_pine_starts_from_byte_8192() {
    let bytes = card("pine64").build().unwrap();
    let first = &bytes[8192..];
    assert_eq!(&first[4..12], b"eGON.BT0");
    let length = u32_at(first, 16) as usize;
    let words = first[..length].chunks(4).map(|word| u32_at(word, 0));
    let sum = words
        .enumerate()
        .filter(|(at, _)| *at != 3)
        .fold(0x5f0a_6c39u32, |sum, (_, word)| sum.wrapping_add(word));
    assert_eq!(u32_at(first, 12), sum);
    assert_eq!(bytes[40 << 10..][..700_000], tree(700_000));
    assert!(bytes[512..8192].iter().all(|byte| *byte == 0));
}

#[test]
fn rejects_damaged_loader() {
    let good = spl(32 << 10);
    for at in (0..20).chain([1000, 32767]) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(pine::loader(&bad, &tree(100)).is_err(), "byte {at}");
    }
    for length in [0, 31, 32, 100, 32767] {
        assert!(pine::loader(&good[..length], &tree(100)).is_err(), "{length} bytes");
    }
    assert!(pine::loader(&good, b"\x7fELF").is_err());
    let mut long = card("pine64");
    long.firmware.loader = Some(pine::loader(&good, &tree(8 << 20)).unwrap());
    assert!(complaint(long).starts_with("the boot loader reaches to byte"));
    let none = Card { firmware: Firmware::default(), ..card("pine64") };
    assert_eq!(complaint(none), "a Pine A64 does not boot without a boot loader");
}

#[test]
fn a_card_grows_with_its_files_unless_it_may_not() {
    let large = Card { bundle: vec![7; 260 << 20], ..card("raspi4") };
    let small = Card { size: Some(SMALLEST), ..large.clone() };
    assert_eq!(
        complaint(small),
        "the files need 268 MiB and do not fit on a card of 256 MiB; the largest is bundle.cpio with 260 MiB"
    );
    let bytes = large.build().unwrap();
    assert_eq!(bytes.len(), 512 << 20);
    assert!(Volume::open(partition(&bytes)).read(BUNDLE) == vec![7; 260 << 20]);
}

#[test]
fn reports_why_card_cannot_be_built() {
    let good = || card("raspi3");
    let first = |tree: Vec<u8>| vec![("x.dtb".to_owned(), tree)];
    let cases = [
        (Card { kernel: vec![0; 1000], ..good() }, "the kernel is not an arm64 Image"),
        (Card { kernel: Vec::new(), ..good() }, "the kernel is not an arm64 Image"),
        (Card { kernel: kernel(64, u64::MAX), ..good() }, "the kernel needs"),
        (Card { kernel: kernel(64, 0x220_0001), ..good() }, "the kernel needs"),
        (Card { bundle: vec![0; 0x1d90_0001], ..good() }, "the bundle needs"),
        (Card { bundle: Vec::new(), ..good() }, "bundle.cpio is empty"),
        (Card { trees: Vec::new(), ..good() }, "a card needs a device tree"),
        (Card { trees: first(vec![0; 100]), ..good() }, "x.dtb is not a device tree"),
        (Card { trees: first(tree(100)[..99].to_vec()), ..good() }, "x.dtb is not a device tree"),
        (Card { trees: first(tree(0x8_0001)), ..good() }, "x.dtb needs"),
        (Card { trees: vec![("a/../b.dtb".into(), tree(64))], ..good() }, "\"a/../b.dtb\" cannot be"),
        (Card { trees: vec![("a b;reset.dtb".into(), tree(64))], ..good() }, "\"a b;reset.dtb\" cannot be"),
        (Card { trees: vec![("CONFIG.TXT".into(), tree(64))], ..good() }, "there are two files"),
        (Card { bootargs: "a'; reset; '".into(), ..good() }, "the command line has '\\''"),
        (Card { bootargs: "a\nb".into(), ..good() }, "the command line has '\\n'"),
        (Card { bootargs: "x".repeat(1025), ..good() }, "the command line has 1025 characters"),
        (Card { size: Some(0), ..good() }, "a card of 0 MiB cannot be made"),
        (Card { size: Some(300 << 20), ..good() }, "a card of 300 MiB cannot be made"),
        (Card { size: Some(1 << 40), ..good() }, "a card of 1048576 MiB cannot be made"),
    ];
    for (card, sentence) in cases {
        let said = complaint(card);
        assert!(said.starts_with(sentence), "{said}");
    }
    assert_eq!(
        format!("{:#}", Model::find("zcu102").unwrap_err()),
        "zcu102 does not boot from a card; raspi3, raspi4, pine64 do"
    );
}

#[test]
fn empty_command_line_is_none() {
    let bytes = Card { bootargs: String::new(), ..card("raspi3") }.build().unwrap();
    let script = script_in(&Volume::open(partition(&bytes)).read("boot.scr"));
    assert!(script.contains("\nsetenv bootargs\n"), "{script}");
}

#[test]
fn holes_read_as_zeros() {
    let path = std::env::temp_dir().join(format!("margay-card-{}.img", std::process::id()));
    let mut content = vec![0; 200_000];
    content[70_000] = 1;
    content[199_999] = 2;
    write_sparse(&path, &content).unwrap();
    let read = fs::read(&path);
    let _ = fs::remove_file(&path);
    assert!(read.unwrap() == content);
}
