//! Pine A64: the SoC's boot ROM reads U-Boot's first stage (SPL) from byte 8192 of the card, and that reads
//! the rest of U-Boot, with Arm's trusted firmware in it, from right behind. Margay comes from the boot
//! partition, by `boot.scr`.

use anyhow::{Context, Result, ensure};

/// The kernel's file name.
pub const KERNEL: &str = "Image";
/// Where the boot ROM looks.
pub const SPL_AT: u64 = 8 << 10;
/// Where the SPL looks (`CONFIG_SYS_MMCSD_RAW_MODE_U_BOOT_SECTOR`), 32 KiB behind its own beginning.
const UBOOT_AT: u64 = 40 << 10;

const SPL_MAGIC: &[u8] = b"eGON.BT0";
/// What the checksum's own place counts as.
const SPL_SEED: u32 = 0x5f0a_6c39;
const TREE_MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// What goes to [`SPL_AT`]: the SPL and the rest of U-Boot, checked as the boot ROM will check them.
pub fn loader(spl: &[u8], uboot: &[u8]) -> Result<Vec<u8>> {
    check_spl(spl).context("U-Boot's first stage is not what the boot ROM of an Allwinner A64 starts")?;
    ensure!(uboot.starts_with(&TREE_MAGIC), "U-Boot's second stage is not a FIT image");
    let room = (UBOOT_AT - SPL_AT) as usize;
    ensure!(spl.len() <= room, "U-Boot's first stage has {} bytes; {room} are allowed", spl.len());
    let mut loader = spl.to_vec();
    loader.resize(room, 0);
    loader.extend(uboot);
    Ok(loader)
}

/// The header is a jump, the magic, the checksum and the length; the checksum is the sum of all words.
fn check_spl(spl: &[u8]) -> Result<()> {
    ensure!(spl.len() >= 32 && spl[4..12] == *SPL_MAGIC, "it has no eGON header");
    let word = |at: usize| u32::from_le_bytes([spl[at], spl[at + 1], spl[at + 2], spl[at + 3]]);
    let length = word(16) as usize;
    ensure!(
        length.is_multiple_of(4) && (32..=spl.len()).contains(&length),
        "its header says {length} bytes, and it has {}",
        spl.len()
    );
    let sum = (0..length).step_by(4).fold(0u32, |sum, at| sum.wrapping_add(word(at)));
    let (said, found) = (word(12), sum.wrapping_sub(word(12)).wrapping_add(SPL_SEED));
    ensure!(said == found, "its checksum is {found:#010x}, not {said:#010x}");
    Ok(())
}
