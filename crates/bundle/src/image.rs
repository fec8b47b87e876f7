//! Kernel images: arm64 `Image` files, or flat binaries that are entered at their first byte.
//!
//! The header is that of Linux' Documentation/arch/arm64/booting.rst: 64 bytes, little-endian, with
//! `text_offset` at byte 8, `image_size` at 16, `flags` at 24, three reserved fields from 32, and the magic
//! `ARM\x64` at 56.

use core::fmt;
use plain_numbers::Hex;

const HEADER: usize = 64;
const MAGIC: &[u8] = b"ARM\x64";
const MAGIC_AT: usize = 56;
const RESERVED_AT: usize = 32;
/// No machine has more memory than this, in bytes: a header that asks for more is damaged.
const SIZE_MAX: u64 = 1 << 48;

/// Whether a kernel says where it wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFormat {
    /// An arm64 `Image`.
    Arm64Image,
    /// No header: put at the beginning of memory and entered at its first byte, as Hafnium's guests are.
    Flat,
}

/// Header of a kernel image: what a loader needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Distance of the image from a 2 MiB boundary, in bytes.
    pub text_offset: u64,
    /// Bytes of memory that it occupies from its first byte, uninitialised data included.
    pub memory_size: u64,
    /// The header's flags: bit 0 big-endian, bits 2:1 page size, bit 3 placement. 0 if there is no header.
    pub flags: u64,
    /// Whether it has a header.
    pub format: KernelFormat,
}

/// Why a kernel image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The file is empty.
    Empty,
    /// It has a plausible header, but for the magic: an `Image` that was damaged or cut.
    Damaged,
    /// `image_size` is less than the file, or more than any machine has.
    Size {
        /// `image_size`, in bytes.
        stated: u64,
        /// The file's size, in bytes.
        file: u64,
    },
    /// `text_offset` is not a multiple of 4 KiB, or is 2 MiB or more.
    TextOffset(u64),
    /// Big-endian, or made for pages of another size.
    Flags(u64),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty"),
            Self::Damaged => f.write_str("damaged: an arm64 Image header without its magic"),
            Self::Size { stated, file } => {
                write!(
                    f,
                    "its arm64 header's image_size {} is impossible for a file of {} bytes",
                    Hex(*stated),
                    Hex(*file)
                )
            }
            Self::TextOffset(offset) => {
                write!(f, "its arm64 header's text_offset {} is not a page below 2 MiB", Hex(*offset))
            }
            Self::Flags(flags) => {
                write!(f, "its arm64 header's flags {} ask for big-endian or large pages", Hex(*flags))
            }
        }
    }
}

impl core::error::Error for ImageError {}

impl Image {
    /// Reads the header of a kernel image, if it has one.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        let file = bytes.len() as u64;
        if bytes.len() < HEADER || !bytes[MAGIC_AT..].starts_with(MAGIC) {
            if looks_like_header(bytes) {
                return Err(ImageError::Damaged);
            }
            return Ok(Self { text_offset: 0, memory_size: file, flags: 0, format: KernelFormat::Flat });
        }
        let field = |at| field(bytes, at).unwrap_or_default();
        let (text_offset, image_size, flags) = (field(8), field(16), field(24));
        // 0 was written by kernels before Linux 3.17.
        if image_size != 0 && !(file..=SIZE_MAX).contains(&image_size) {
            return Err(ImageError::Size { stated: image_size, file });
        }
        if text_offset % 4096 != 0 || text_offset >= 2 << 20 {
            return Err(ImageError::TextOffset(text_offset));
        }
        if flags & 1 != 0 || flags >> 1 & 3 > 1 {
            return Err(ImageError::Flags(flags));
        }
        let memory_size = image_size.max(file);
        Ok(Self { text_offset, memory_size, flags, format: KernelFormat::Arm64Image })
    }
}

fn field(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|field| u64::from_le_bytes(*field))
}

/// Returns whether the fields of an `Image` header are there, whatever the magic is. In machine code they
/// would be
/// instructions, which are not zero where the header is.
fn looks_like_header(bytes: &[u8]) -> bool {
    let reserved = &bytes[RESERVED_AT.min(bytes.len())..MAGIC_AT.min(bytes.len())];
    let image_size = field(bytes, 16).unwrap_or_default();
    !reserved.is_empty()
        && reserved.iter().all(|byte| *byte == 0)
        && (bytes.len() as u64..=SIZE_MAX).contains(&image_size)
        && field(bytes, 24).is_some_and(|flags| flags < 16)
}
