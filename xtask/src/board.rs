//! The boards that exist.

use crate::{bundle::parse_size, paths};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::path::PathBuf;

/// The least memory of a machine.
const LEAST_MEMORY: u64 = 128 << 20;

/// A board: where its images come from and which machine they are tried on.
#[derive(Debug)]
pub struct Board {
    /// The name in `--board` and in `target/images/`.
    pub name: &'static str,
    /// The package with its hypervisor, `sched` and `native`.
    pub package: &'static str,
    /// The program of that package which is its hypervisor.
    pub hypervisor: &'static str,
    /// What else it has that is built as the hypervisor is, image and program: the hypervisor that gives VMs
    /// a GIC, firmware for tests.
    pub others: &'static [(&'static str, &'static str)],
    /// Arguments for cargo when kernels and guests are built.
    pub kernels: &'static [&'static str],
    /// Where Linux as login VM has its terminal; `None` where that is not known.
    pub login: Option<Login>,
    /// What the machine's device tree says of its timer in addition to what QEMU says.
    pub timer: Option<&'static str>,
    /// The machine, or the nearest that QEMU has.
    pub machine: Hardware,
}

/// The terminal of a login VM: a UART that is not the hypervisor's.
#[derive(Debug)]
pub struct Login {
    /// Linux' name of it.
    pub tty: &'static str,
    /// Nodes of the device tree that take it away.
    pub without: &'static [&'static str],
}

/// A machine in QEMU.
#[derive(Debug)]
pub struct Hardware {
    /// `-M`, without what a scenario may vary.
    pub name: &'static str,
    /// `-cpu`; empty where the machine has its own.
    pub cpu: &'static str,
    pub gic: Gic,
    /// What it always has, if it cannot be chosen: cores and memory.
    pub fixed: Option<(u32, &'static str)>,
    /// The most cores that may be chosen.
    pub most_cores: u32,
    /// Whether `-M` takes `virtualization=`, which decides if the kernel is entered at EL2. A Raspberry Pi
    /// always has EL2.
    pub virtualization: bool,
    /// The device tree of the real board, in `crates/machine/fixtures`, if QEMU makes none.
    pub tree: Option<&'static str>,
    /// Which of the serial lines is the console.
    pub serial: u32,
    /// What else QEMU wants.
    pub options: &'static [&'static str],
}

/// What a machine's interrupt controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gic {
    /// `gic-version` of `virt`.
    Version(u32),
    /// Whatever the machine has.
    Own,
}

const VIRT: Hardware = Hardware {
    name: "virt",
    cpu: "max",
    gic: Gic::Version(3),
    fixed: None,
    most_cores: 128,
    virtualization: true,
    tree: None,
    serial: 0,
    options: &[],
};

const WITH_GIC: (&str, &str) = ("hv-gic", "hv-gic");

/// Every board.
pub const BOARDS: &[Board] = &[
    Board {
        name: "qemu-virt",
        package: "margay-qemu-virt",
        hypervisor: "hv",
        others: &[WITH_GIC, ("firmware", "firmware"), ("hv-measured", "hv-measured")],
        kernels: &[],
        login: Some(Login { tty: "ttyAMA1", without: &[] }),
        timer: None,
        machine: VIRT,
    },
    Board {
        name: "qemu-virt-gicv2",
        package: "margay-qemu-virt",
        hypervisor: "hv-gicv2",
        others: &[("hv-gic", "hv-gicv2-gic")],
        kernels: &[],
        login: Some(Login { tty: "ttyAMA1", without: &[] }),
        timer: None,
        machine: Hardware { cpu: "cortex-a53", gic: Gic::Version(2), most_cores: 8, ..VIRT },
    },
    Board {
        name: "raspi3",
        package: "margay-raspi3",
        hypervisor: "hv",
        others: &[WITH_GIC],
        kernels: &[],
        login: Some(Login { tty: "ttyAMA0", without: &["/soc/serial@7e201000/bluetooth"] }),
        timer: None,
        machine: Hardware {
            name: "raspi3b",
            cpu: "",
            gic: Gic::Own,
            fixed: Some((4, "1G")),
            virtualization: false,
            tree: Some("bcm2837-rpi-3-b.dtb"),
            serial: 1,
            ..VIRT
        },
    },
    Board {
        name: "raspi4",
        package: "margay-raspi4",
        hypervisor: "hv",
        others: &[WITH_GIC],
        kernels: &[],
        login: Some(Login { tty: "ttyAMA0", without: &["/soc/serial@7e201000/bluetooth"] }),
        timer: None,
        machine: Hardware {
            name: "raspi4b",
            cpu: "",
            gic: Gic::Own,
            fixed: Some((4, "2G")),
            virtualization: false,
            tree: Some("bcm2711-rpi-4-b.dtb"),
            serial: 1,
            ..VIRT
        },
    },
    Board {
        name: "zcu102",
        package: "margay-zcu102",
        hypervisor: "hv",
        others: &[WITH_GIC],
        kernels: &[],
        login: None,
        timer: None,
        machine: Hardware {
            name: "xlnx-zcu102",
            cpu: "",
            gic: Gic::Own,
            most_cores: 4,
            tree: Some("zynqmp-zcu102-rev1.0.dtb"),
            options: &["-audio", "none"],
            ..VIRT
        },
    },
    // QEMU has no Allwinner machine that takes a 64-bit kernel: this one has the same cores and interrupt
    // controller.
    Board {
        name: "pine64",
        package: "margay-pine64",
        hypervisor: "hv",
        others: &[WITH_GIC],
        kernels: &["--features", "allwinner"],
        login: None,
        timer: Some("allwinner,erratum-unknown1"),
        machine: Hardware { cpu: "cortex-a53", gic: Gic::Version(2), most_cores: 8, ..VIRT },
    },
];

impl Hardware {
    /// Cores and memory of a run: what was asked for, or what the machine always has.
    pub fn size(&self, cores: Option<u32>, memory: Option<&str>) -> Result<(u32, String)> {
        let name = self.name;
        if let Some((has, ram)) = self.fixed {
            ensure!(cores.is_none_or(|n| n == has), "{name} always has {has} cores: leave --cores out");
            let same = |text: &str| parse_size(text) == parse_size(ram);
            ensure!(memory.is_none_or(same), "{name} always has {ram} of memory: leave --memory out");
            return Ok((has, ram.to_owned()));
        }
        let (cores, memory) = (cores.unwrap_or(4), memory.unwrap_or("1G"));
        ensure!(
            (1..=self.most_cores).contains(&cores),
            "--cores {cores}: {name} has 1 to {} cores here",
            self.most_cores
        );
        let bytes =
            parse_size(memory).with_context(|| format!("--memory {memory} is not a size like 512M or 2G"))?;
        if memory.bytes().all(|byte| byte.is_ascii_digit()) && bytes < LEAST_MEMORY {
            bail!("--memory {memory} are {memory} bytes: is {memory}M meant?");
        }
        ensure!(bytes >= LEAST_MEMORY, "--memory {memory}: at least {} MiB are needed", LEAST_MEMORY >> 20);
        Ok((cores, memory.to_owned()))
    }
}

impl Board {
    /// The device tree to give to its machine.
    pub fn tree(&self) -> Option<PathBuf> {
        self.machine.tree.map(|file| paths::root().join("crates/machine/fixtures").join(file))
    }
}

/// The board called `name`.
pub fn find(name: &str) -> Result<&'static Board> {
    BOARDS.iter().find(|board| board.name == name).ok_or_else(|| {
        let names: Vec<_> = BOARDS.iter().map(|board| board.name).collect();
        anyhow!("there is no board {name}; there is {}", names.join(", "))
    })
}

/// The boards that `--board` means: one, or `all`.
pub fn select(name: &str) -> Result<Vec<&'static Board>> {
    if name == "all" { Ok(BOARDS.iter().collect()) } else { Ok(vec![find(name)?]) }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn rejects_cores_and_memory_that_a_board_cannot_have() {
        let size = |board: &str, cores, memory| {
            find(board).unwrap().machine.size(cores, memory).map_err(|error| error.to_string())
        };
        assert_eq!(size("qemu-virt", None, None), Ok((4, "1G".into())));
        assert_eq!(size("qemu-virt", Some(128), Some("2G")), Ok((128, "2G".into())));
        assert_eq!(size("raspi3", None, None), Ok((4, "1G".into())));
        assert_eq!(size("raspi3", Some(4), Some("1024M")), Ok((4, "1G".into())));
        assert_eq!(
            size("raspi3", Some(8), None),
            Err("raspi3b always has 4 cores: leave --cores out".into())
        );
        assert!(size("raspi4", None, Some("4G")).unwrap_err().contains("always has 2G"));
        assert!(size("qemu-virt-gicv2", Some(9), None).unwrap_err().contains("1 to 8 cores"));
        assert!(size("zcu102", Some(5), None).unwrap_err().contains("1 to 4 cores"));
        assert!(size("qemu-virt", None, Some("lots")).unwrap_err().contains("not a size"));
        assert!(size("qemu-virt", None, Some("16M")).unwrap_err().contains("at least"));
    }
}
