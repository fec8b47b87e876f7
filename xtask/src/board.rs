//! The boards that exist.

use crate::paths;
use anyhow::{Result, anyhow};
use std::path::PathBuf;

/// A board: where its images come from and which machine they are tried on.
#[derive(Debug)]
pub struct Board {
    /// The name in `--board` and in `target/images/`.
    pub name: &'static str,
    /// The package with its hypervisor, `sched` and `native`.
    pub package: &'static str,
    /// The program of that package which is its hypervisor.
    pub hypervisor: &'static str,
    /// What else it has that is built as the hypervisor is, image and program: the hypervisor that gives VMs a GIC, firmware for tests.
    pub others: &'static [(&'static str, &'static str)],
    /// Features of the guests.
    pub guests: &'static [&'static str],
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
        others: &[WITH_GIC, ("firmware", "firmware")],
        guests: &[],
        login: Some(Login { tty: "ttyAMA1", without: &[] }),
        timer: None,
        machine: VIRT,
    },
    Board {
        name: "qemu-virt-gicv2",
        package: "margay-qemu-virt",
        hypervisor: "hv-gicv2",
        others: &[("hv-gic", "hv-gicv2-gic")],
        guests: &[],
        login: Some(Login { tty: "ttyAMA1", without: &[] }),
        timer: None,
        machine: Hardware { cpu: "cortex-a53", gic: Gic::Version(2), ..VIRT },
    },
    Board {
        name: "raspi3",
        package: "margay-raspi3",
        hypervisor: "hv",
        others: &[WITH_GIC],
        guests: &[],
        login: Some(Login { tty: "ttyAMA0", without: &["/soc/serial@7e201000/bluetooth"] }),
        timer: None,
        machine: Hardware {
            name: "raspi3b",
            cpu: "",
            gic: Gic::Own,
            fixed: Some((4, "1G")),
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
        guests: &[],
        login: Some(Login { tty: "ttyAMA0", without: &["/soc/serial@7e201000/bluetooth"] }),
        timer: None,
        machine: Hardware {
            name: "raspi4b",
            cpu: "",
            gic: Gic::Own,
            fixed: Some((4, "2G")),
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
        guests: &[],
        login: None,
        timer: None,
        machine: Hardware {
            name: "xlnx-zcu102",
            cpu: "",
            gic: Gic::Own,
            tree: Some("zynqmp-zcu102-rev1.0.dtb"),
            options: &["-audio", "none"],
            ..VIRT
        },
    },
    // QEMU has no Allwinner machine that takes a 64-bit kernel: this one has the same cores and interrupt controller.
    Board {
        name: "pine64",
        package: "margay-pine64",
        hypervisor: "hv",
        others: &[WITH_GIC],
        guests: &["--features", "allwinner"],
        login: None,
        timer: Some("allwinner,erratum-unknown1"),
        machine: Hardware { cpu: "cortex-a53", gic: Gic::Version(2), ..VIRT },
    },
];

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
