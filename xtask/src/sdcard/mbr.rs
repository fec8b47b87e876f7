//! The partition table: one active FAT32 partition.
//!
//! Sixteen bytes that never change their form: written here, because the crates for them depend on a
//! serialisation framework.

/// Bytes of a sector, here and everywhere.
pub const SECTOR: u64 = 512;

/// FAT32, addressed by block numbers.
const FAT32_LBA: u8 = 0x0c;
const ACTIVE: u8 = 0x80;
/// "Look at the block numbers": the cylinders, heads and sectors of disks are long gone.
const NO_GEOMETRY: [u8; 3] = [0xfe, 0xff, 0xff];

/// The first sector of a card whose only partition is `size` bytes at `start`, both whole sectors.
pub fn table(start: u64, size: u64, signature: u32) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    sector[440..444].copy_from_slice(&signature.to_le_bytes());
    sector[446] = ACTIVE;
    sector[447..450].copy_from_slice(&NO_GEOMETRY);
    sector[450] = FAT32_LBA;
    sector[451..454].copy_from_slice(&NO_GEOMETRY);
    sector[454..458].copy_from_slice(&((start / SECTOR) as u32).to_le_bytes());
    sector[458..462].copy_from_slice(&((size / SECTOR) as u32).to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
