//! Debian's Linux for a login VM: its kernel, and an initial RAM disk of one static program and a script.

use crate::{
    bundle::cpio::{Entry, Form, archive},
    paths,
    serial::Dialogue,
    setup::debian,
};
use anyhow::{Context, Result};
use std::{fs, path::Path};

/// How many words it reads.
const WORDS: u32 = 1000;

/// What is typed on the serial line of the login VM in tests when it listens: numbers.
pub fn dialogue() -> Dialogue {
    let numbers = (1..=WORDS)
        .map(|number| number.to_string())
        .chain(["end".into(), String::new()])
        .collect::<Vec<_>>()
        .join("\n");
    vec![("listening".into(), numbers)]
}

/// What the login VM does in tests: says what there is, switches a core off and on, sleeps, reads what is
/// typed, and switches itself off. Without devices on PCI it has no disk and no network card.
const INIT: &str = "#!/busybox sh
/busybox mkdir -p /proc /sys /dev
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
/busybox mount -t devtmpfs dev /dev
echo \"linux $(/busybox uname -r) on $(/busybox nproc) CPUs\"
for module in $(/busybox cat /modules); do
    /busybox insmod /$module.ko || echo \"no module $module\"
done
[ ! -e /dev/vda ] || echo \"disk has $(/busybox dd if=/dev/vda bs=64k count=16 2>/dev/null | /busybox wc -c) bytes\"
for card in /sys/class/net/eth*; do
    [ -e $card ] || continue
    name=${card##*/}
    driver=$(/busybox basename $(/busybox readlink -f $card/device/driver))
    /busybox ip link set $name up
    /busybox ip addr add 10.0.2.15/24 dev $name
    if /busybox ping -c 3 -W 9 10.0.2.2 > /dev/null; then echo \"network by $driver answers\"; else echo \"network by $driver is silent\"; fi
    /busybox ip addr flush dev $name
    /busybox ip link set $name down
done
# Where nothing is: a bus error, which is signal 7.
/busybox devmem $NOWHERE 32
echo \"a stray read ends with $?\"
/busybox devmem $NOWHERE 32 1
echo \"a stray write ends with $?\"
# Linux maps it execute-never, and tries again and again, on any machine: until the process is killed.
/fetch & fetch=$!
/busybox sleep 1
kill -9 $fetch
wait $fetch
echo \"a stray fetch ends with $?\"
echo 0 > /sys/devices/system/cpu/cpu1/online
echo \"now on $(/busybox nproc)\"
echo 1 > /sys/devices/system/cpu/cpu1/online
echo \"again on $(/busybox nproc)\"
alarm() {
    [ ! -e /sys/class/rtc/rtc0 ] || echo +1 > /sys/class/rtc/rtc0/wakealarm
    /busybox sleep 2
}
alarm
/busybox stty -echo
words=0 sum=0
echo listening
while read -r word && [ \"$word\" != end ]; do
    words=$((words + 1)) sum=$((sum + word))
done
echo \"heard $words words, $sum in all\"
alarm
/busybox awk '
    function sum() { n = 0; for (i = 2; i < 2 + cpus; i++) n += $i; return n }
    NR == 1 { cpus = NF }
    /rtc-pl031/ { print \"alarms\", sum() }
    /uart-pl011/ { print \"serial line\", (sum() > 9) ? \"interrupts\" : \"is silent\" }
    /arch_timer/ { for (i = 2; i < 2 + cpus; i++) if ($i < 10) stands = 1; print \"timers\", stands ? \"stand\" : \"run\" }
    /Rescheduling|Function call/ { ipis += sum() }
    END { print \"processors\", (ipis > 9) ? \"talk\" : \"are silent\" }
' /proc/interrupts
/busybox sleep 1
/busybox poweroff -f
";

/// What the login VM does otherwise: asks on its console who is there. Root has no password; who does not
/// want that brings a RAM disk of his own.
const LOGIN: &str = "#!/busybox sh
/busybox mkdir -p /bin /etc /proc /sys /dev /root /tmp
/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules); do
    insmod /$module.ko
done
last=$(cat /proc/device-tree/hypervisor/margay,last-stop 2>/dev/null | tr -d '\\000')
[ -z \"$last\" ] || echo \"this VM was started again; why it stopped: $last\"
hostname margay
echo root::0:0:root:/root:/bin/sh > /etc/passwd
echo root:x:0: > /etc/group
echo \"Margay login VM: Debian's Linux \\\\r; log in as root\" > /etc/issue
echo console::respawn:/bin/getty -L console 115200 vt100 > /etc/inittab
exec /bin/init
";

/// What QEMU's disks and network cards need of the kernel, in the order of their needs. The serial line has
/// its driver in the kernel.
const MODULES: [&str; 10] = [
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/virtio/virtio_mmio",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/net/ethernet/intel/e1000/e1000",
    "drivers/net/ethernet/intel/e1000e/e1000e",
];

/// Where no board's VM has anything; in `FETCH`, too.
const NOWHERE: &str = "NOWHERE=0xb000000\n";

/// A program that jumps to where nothing is, by `/dev/mem`: an ELF file of one segment.
fn fetch() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    const CODE: [u32; 17] = [
        0x9280_0c60, // mov x0, #-100 (AT_FDCWD)
        0x1000_01a1, // adr x1, path
        0xd280_0042, // mov x2, #2 (O_RDWR)
        0xd280_0708, // mov x8, #56 (openat)
        0xd400_0001, // svc #0
        0xaa00_03e4, // mov x4, x0
        0xd280_0000, // mov x0, #0
        0xd282_0001, // mov x1, #4096
        0xd280_00a2, // mov x2, #5 (PROT_READ | PROT_EXEC)
        0xd280_0023, // mov x3, #1 (MAP_SHARED)
        0xd2a1_6005, // mov x5, #0xb000000
        0xd280_1bc8, // mov x8, #222 (mmap)
        0xd400_0001, // svc #0
        0xd61f_0000, // br x0
        0x7665_642f, // path: /dev
        0x6d65_6d2f, // /mem
        0,
    ];
    let mut elf = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // ET_EXEC, EM_AARCH64, EV_CURRENT; then sizes of header, program headers, and their number.
    elf.extend([2_u16, 183].map(u16::to_le_bytes).concat());
    elf.extend(1_u32.to_le_bytes());
    elf.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    // PT_LOAD, readable and executable: the whole file.
    elf.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    let bytes = HEADERS + 4 * CODE.len() as u64;
    elf.extend([0, BASE, BASE, bytes, bytes, 0x1_0000].map(u64::to_le_bytes).concat());
    elf.extend(CODE.map(u32::to_le_bytes).concat());
    elf
}

/// Puts `linux.img`, `linux.cpio` (for tests) and `login.cpio` into `dir`, fetched if need be.
pub fn prepare(dir: &Path) -> Result<()> {
    // The package of this name depends on that of the kernel as it is now.
    let control = paths::read(&debian::unpacked("linux-image-arm64")?.join("DEBIAN/control"))?;
    let control = String::from_utf8_lossy(&control);
    let depends = control.lines().find_map(|line| line.strip_prefix("Depends: "));
    let package = depends
        .into_iter()
        .flat_map(|list| list.split([',', ' ']))
        .find(|name| name.starts_with("linux-image-"))
        .context("Debian's linux-image-arm64 names no kernel")?;
    let unpacked = debian::unpacked(package)?;
    let boot = unpacked.join("boot");
    let kernel = fs::read_dir(&boot)
        .with_context(|| format!("cannot read {}", paths::shown(&boot)))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .context("Debian's kernel package has no kernel")?;
    let busybox = paths::read(&debian::unpacked("busybox-static")?.join("bin/busybox"))?;
    let of_kernel = fs::read_dir(unpacked.join("lib/modules"))
        .ok()
        .and_then(|mut versions| versions.next()?.ok())
        .context("Debian's kernel package has no modules")?
        .path()
        .join("kernel");
    let mut entries = vec![Entry::new("busybox", busybox)];
    let mut names = String::new();
    for module in MODULES {
        let name = module.rsplit('/').next().unwrap_or(module);
        names += name;
        names.push('\n');
        entries
            .push(Entry::new(&format!("{name}.ko"), paths::read(&of_kernel.join(format!("{module}.ko")))?));
    }
    entries.push(Entry::new("modules", names.into()));
    let with = |init: Vec<u8>, more: Option<Entry>| {
        let all: Vec<Entry> = entries.iter().cloned().chain([Entry::new("init", init)]).chain(more).collect();
        archive(&all, Form::Newc)
    };
    let init = INIT.replacen('\n', &format!("\n{NOWHERE}"), 1);
    let disk = with(init.into(), Some(Entry::new("fetch", fetch())))?;
    paths::write(&dir.join("linux.img"), &paths::read(&kernel)?)?;
    paths::write(&dir.join("linux.cpio"), &disk)?;
    let login = with(LOGIN.into(), None)?;
    paths::write(&dir.join("login.cpio"), &login)
}
