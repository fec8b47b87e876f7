//! U-Boot's boot script: what it says, and the legacy image that U-Boot wants it in.

use super::Model;
use anyhow::{Result, ensure};

const MAGIC: u32 = 0x2705_1956;
const LINUX: u8 = 5;
const ARM64: u8 = 22;
const SCRIPT: u8 = 6;
const UNCOMPRESSED: u8 = 0;
const NAME: &[u8] = b"Margay";
const LONGEST_BOOTARGS: usize = 1024;

/// The commands that boot `kernel`, `tree` and `bundle` (names on the card) on `model`.
///
/// U-Boot passes to the script where it was found; run by hand, it looks on the first card. `booti` takes the
/// initrd's size in hexadecimal, as `load` leaves it in `filesize`: the bundle is therefore loaded last.
/// `initrd_high` keeps U-Boot from moving the bundle.
pub fn text(model: &Model, kernel: &str, tree: &str, bundle: &str, bootargs: &str) -> Result<String> {
    check_bootargs(bootargs)?;
    let at = &model.memory;
    let bootargs = if bootargs.is_empty() { String::new() } else { format!(" '{bootargs}'") };
    let [k, t, b] = [at.kernel, at.tree, at.bundle].map(|address| format!("{address:#010x}"));
    Ok(format!(
        "# Margay's boot script, written by `cargo xtask image`.\n\
         test -n \"${{devtype}}\" || setenv devtype mmc\n\
         test -n \"${{devnum}}\" || setenv devnum 0\n\
         test -n \"${{distro_bootpart}}\" || setenv distro_bootpart 1\n\
         setenv card ${{devtype}} ${{devnum}}:${{distro_bootpart}}\n\
         setenv bootargs{bootargs}\n\
         setenv initrd_high 0xffffffffffffffff\n\
         if load ${{card}} {k} {kernel} && load ${{card}} {t} {tree} && load ${{card}} {b} {bundle}; then\n\
         booti {k} {b}:${{filesize}} {t}\n\
         fi\n\
         echo Margay was not booted: see above.\n"
    ))
}

/// A command line that means the same to `config.txt`, to U-Boot's shell and in the device tree.
fn check_bootargs(bootargs: &str) -> Result<()> {
    ensure!(
        bootargs.len() <= LONGEST_BOOTARGS,
        "the command line has {} characters; {LONGEST_BOOTARGS} are allowed",
        bootargs.len()
    );
    let wrong =
        bootargs.chars().find(|c| !(c.is_ascii_graphic() || *c == ' ') || ['\'', '"', '\\', '$'].contains(c));
    if let Some(wrong) = wrong {
        anyhow::bail!("the command line has {wrong:?}, which boot loaders would change");
    }
    Ok(())
}

/// `text` as the legacy image of a script (what `mkimage -T script` makes), without a date.
pub fn image(text: &str) -> Vec<u8> {
    // A list of lengths that ends with zero, and the one text.
    let mut data = Vec::new();
    data.extend((text.len() as u32).to_be_bytes());
    data.extend(0u32.to_be_bytes());
    data.extend(text.as_bytes());

    let mut header = Vec::new();
    // magic, the header's own checksum (as if it were zero), time, size, load address, entry, the data's
    // checksum
    for field in [MAGIC, 0, 0, data.len() as u32, 0, 0, crc32fast::hash(&data)] {
        header.extend(field.to_be_bytes());
    }
    header.extend([LINUX, ARM64, SCRIPT, UNCOMPRESSED]);
    header.extend(NAME);
    header.resize(64, 0);
    let sum = crc32fast::hash(&header);
    header[4..8].copy_from_slice(&sum.to_be_bytes());
    header.extend(data);
    header
}
