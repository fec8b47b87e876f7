//! The boot partition: FAT32, made by the crate `fatfs`, in which time stands still.

use super::{File, mbr::SECTOR};
use anyhow::{Context, Result, ensure};
use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use std::io::{Cursor, Write};

const LABEL: [u8; 11] = *b"MARGAY     ";
/// Four sectors, as on the cards of the Raspberry Pi's own system: the geometry that boot ROMs have seen
/// most.
const CLUSTER: u64 = 4 * SECTOR;
/// Fewer clusters than this, and it is not FAT32 by definition. (With some to spare.)
const FEWEST_CLUSTERS: u64 = 66_000;
/// Reserved sectors, both tables at their largest for a card of this kind, and the directory's clusters.
const OVERHEAD: u64 = 4 << 20;
/// In the boot sector and in its copy: how many sectors there are before the partition.
const HIDDEN_SECTORS: [usize; 2] = [0x1c, 6 * SECTOR as usize + 0x1c];

/// The first day there is, on every file.
#[derive(Debug)]
struct Never;

impl TimeProvider for Never {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// The bytes that a partition must have for `files`.
pub fn room_for(files: &[File]) -> u64 {
    let content: u64 = files.iter().map(|file| (file.content.len() as u64).next_multiple_of(CLUSTER)).sum();
    (content + content / 100 + OVERHEAD).max(FEWEST_CLUSTERS * CLUSTER + OVERHEAD)
}

/// Makes `partition`, which begins at byte `start` of the card, a file system with `files` in its root
/// directory, in order.
pub fn write(partition: &mut [u8], start: u64, id: u32, files: &[File]) -> Result<()> {
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(CLUSTER as u32)
        .volume_id(id)
        .volume_label(LABEL);
    fatfs::format_volume(Cursor::new(&mut *partition), options).context("cannot make the boot partition")?;
    for at in HIDDEN_SECTORS {
        partition[at..at + 4].copy_from_slice(&((start / SECTOR) as u32).to_le_bytes());
    }

    let options = FsOptions::new().time_provider(&Never);
    let volume =
        FileSystem::new(Cursor::new(partition), options).context("cannot open the boot partition")?;
    ensure!(volume.fat_type() == FatType::Fat32, "the boot partition is too small for FAT32");
    for file in files {
        let sentence = || format!("cannot write {} ({} bytes) to the card", file.name, file.content.len());
        let mut open = volume.root_dir().create_file(&file.name).with_context(sentence)?;
        open.write_all(&file.content).and_then(|()| open.flush()).with_context(sentence)?;
    }
    volume.unmount().context("cannot finish the boot partition")
}
