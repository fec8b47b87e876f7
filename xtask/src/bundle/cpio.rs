//! The `newc` archive format (`cpio -H newc`).

use anyhow::{Context, Result};

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
pub fn archive(entries: &[Entry]) -> Result<Vec<u8>> {
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
    let mode = if inode == 0 { 0 } else { 0o100_644 };
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

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_what_cpio_writes() {
        let bytes = archive(&[Entry::new("ab", b"xyz".to_vec())]).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let header = "07070100000001000081a4000000000000000000000001000000000000000300000000000000000000000000000000\
                      0000000300000000";
        assert!(text.starts_with(&format!("{header}ab\0\0\0\0xyz\0070701")), "{text}");
        assert!(text.contains("TRAILER!!!"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
