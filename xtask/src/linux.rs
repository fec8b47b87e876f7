//! Debian's Linux for a login VM: its kernel, and an initial RAM disk of one static program and a script.

use crate::{
    bundle::cpio::{Entry, Form, archive},
    paths,
    serial::Dialogue,
    setup::debian,
};
use anyhow::{Context, Result};
use std::{fs, path::Path};

/// How many words it is told.
const WORDS: u32 = 1000;

/// What the login VM of tests is told by its serial line when it listens: numbers.
pub fn dialogue() -> Dialogue {
    let numbers = (1..=WORDS)
        .map(|number| number.to_string())
        .chain(["end".into(), String::new()])
        .collect::<Vec<_>>()
        .join("\n");
    vec![("listening".into(), numbers)]
}

/// What the login VM does in tests: says what there is, switches a core off and on, sleeps, reads what it is told, and switches itself off.
const INIT: &str = "#!/busybox sh
/busybox mkdir -p /proc /sys /dev
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
/busybox mount -t devtmpfs dev /dev
echo \"linux $(/busybox uname -r) on $(/busybox nproc) CPUs\"
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

/// What the login VM does otherwise: asks on its console who is there. Root has no password; who does not want that brings a RAM disk of
/// his own.
const LOGIN: &str = "#!/busybox sh
/busybox mkdir -p /bin /etc /proc /sys /dev /root /tmp
/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
hostname margay
echo root::0:0:root:/root:/bin/sh > /etc/passwd
echo root:x:0: > /etc/group
echo \"Margay login VM: Debian's Linux \\\\r; log in as root\" > /etc/issue
echo console::respawn:/bin/getty -L console 115200 vt100 > /etc/inittab
exec /bin/init
";

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
    let boot = debian::unpacked(package)?.join("boot");
    let kernel = fs::read_dir(&boot)
        .with_context(|| format!("cannot read {}", paths::shown(&boot)))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .context("Debian's kernel package has no kernel")?;
    let busybox = paths::read(&debian::unpacked("busybox-static")?.join("bin/busybox"))?;
    let disk =
        archive(&[Entry::new("busybox", busybox.clone()), Entry::new("init", INIT.into())], Form::Newc)?;
    paths::write(&dir.join("linux.img"), &paths::read(&kernel)?)?;
    paths::write(&dir.join("linux.cpio"), &disk)?;
    let login = archive(&[Entry::new("busybox", busybox), Entry::new("init", LOGIN.into())], Form::Newc)?;
    paths::write(&dir.join("login.cpio"), &login)
}
