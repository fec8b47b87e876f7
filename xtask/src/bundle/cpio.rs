//! Archives: `newc` (`cpio -H newc`), and the old binary form (`cpio -H bin`).

use anyhow::{Context, Result};
use serde::Deserialize;

/// A form of archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    #[default]
    Newc,
    OldBinary,
}

/// One file of an archive.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub content: Vec<u8>,
}

impl Entry {
    pub fn new(name: &str, content: Vec<u8>) -> Self {
        Self { name: name.to_owned(), content }
    }
}

/// An archive of `entries`, in order.
pub fn archive(entries: &[Entry], form: Form) -> Result<Vec<u8>> {
    let add = if form == Form::Newc { add } else { add_old };
    let mut bytes = Vec::new();
    for (inode, entry) in entries.iter().enumerate() {
        add(&mut bytes, inode as u32 + 1, &entry.name, &entry.content)?;
    }
    add(&mut bytes, 0, "TRAILER!!!", &[])?;
    Ok(bytes)
}

fn add(bytes: &mut Vec<u8>, inode: u32, name: &str, content: &[u8]) -> Result<()> {
    let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large for a bundle"))?;
    let name_size = name.len() as u32 + 1;
    let mode = if inode == 0 { 0 } else { 0o100_755 };
    bytes.extend(b"070701");
    // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, checksum
    for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend(name.bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend(content);
    pad(bytes);
    Ok(())
}

/// Sixteen-bit words, the high half of a 32-bit number first.
fn add_old(bytes: &mut Vec<u8>, inode: u32, name: &str, content: &[u8]) -> Result<()> {
    let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large for a bundle"))?;
    let mode = if inode == 0 { 0 } else { 0o100_755 };
    let name_size = name.len() as u16 + 1;
    // magic, device, inode, mode, uid, gid, links, special device, mtime (2), name size, size (2)
    let words =
        [0o070_707, 0, inode as u16, mode, 0, 0, 1, 0, 0, 0, name_size, (size >> 16) as u16, size as u16];
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    Ok(())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_what_cpio_writes() {
        let bytes = archive(&[Entry::new("ab", b"xyz".to_vec())], Form::Newc).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let header = "07070100000001000081ed000000000000000000000001000000000000000300000000000000000000000000000000\
                      0000000300000000";
        assert!(text.starts_with(&format!("{header}ab\0\0\0\0xyz\0070701")), "{text}");
        assert!(text.contains("TRAILER!!!"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn the_old_form_is_what_cpio_writes() {
        let bytes = archive(&[Entry::new("ab", b"xyz".to_vec())], Form::OldBinary).unwrap();
        let header =
            [0xc7, 0x71, 0, 0, 1, 0, 0xed, 0x81, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 3, 0];
        assert!(bytes.starts_with(&header), "{bytes:x?}");
        assert!(bytes[26..].starts_with(b"ab\0\0xyz\0\xc7\x71"), "{bytes:x?}");
    }
}
