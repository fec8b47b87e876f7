//! Raspberry Pi 3 and 4: the GPU's firmware reads `config.txt` and starts the kernel itself.
//!
//! The defaults of that firmware are what Margay needs, and are relied on: its stub enters the kernel at EL2
//! and parks the other cores in a spin table. The console is the one that the device tree names, the mini
//! UART on pins 8 and 10 (`serial1`): `enable_uart=1` sets it up and holds still the clock that its speed
//! comes from. The PL011 stays with Bluetooth. `followkernel` is its word for "high up, clear of the kernel",
//! not for "right behind the file".

use super::{File, Model};
use anyhow::Result;

/// The kernel's file name.
pub const KERNEL: &str = "kernel8.img";

/// `config.txt` and `cmdline.txt`.
pub fn configuration(model: &Model, tree: &str, bundle: &str, bootargs: &str) -> Result<Vec<File>> {
    let mut config = format!(
        "# {}, written by `cargo xtask image`.\n\
         arm_64bit=1\n\
         # Or u-boot.bin, which runs boot.scr.\n\
         kernel={KERNEL}\n\
         initramfs {bundle} followkernel\n\
         device_tree={tree}\n\
         # The console: the mini UART on pins 8 and 10 (serial1), 115200 8n1.\n\
         enable_uart=1\n\
         uart_2ndstage=0\n",
        model.title
    );
    if model.name == "raspi4" {
        config += "# Interrupts by the GIC, as the device tree says.\nenable_gic=1\n";
    }
    Ok(vec![File::new("config.txt", config)?, File::new("cmdline.txt", format!("{bootargs}\n"))?])
}
