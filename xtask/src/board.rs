//! The boards that exist.

use anyhow::{Result, anyhow};

/// A board: where its images come from and which machine they are tried on.
#[derive(Debug)]
pub struct Board {
    /// The name in `--board` and under `images/`.
    pub name: &'static str,
    /// The package with its `hv`, `sched` and `native`.
    pub package: &'static str,
    /// QEMU's `-M`, without what a scenario may vary.
    pub machine: &'static str,
    /// QEMU's `-cpu`.
    pub cpu: &'static str,
}

/// Every board.
pub const BOARDS: &[Board] =
    &[Board { name: "qemu-virt", package: "margay-qemu-virt", machine: "virt", cpu: "max" }];

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
