//! Kernel images: arm64 `Image` files, or flat binaries that are entered at their first byte.
use core::fmt;

/// What a loader needs to know of a kernel image (Linux Documentation/arch/arm64/booting.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Distance of the image from a 2 MiB boundary, in bytes.
    pub text_offset: u64,
    /// Bytes of memory that it occupies from its first byte, uninitialised data included.
    pub memory_size: u64,
    /// Whether it has an arm64 header.
    pub has_header: bool,
}

/// What is wrong with a kernel image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is empty.
    Empty,
    /// The header says it is smaller than the file.
    Size {
        /// `image_size`.
        stated: u64,
        /// The file's size.
        file: u64,
    },
    /// `text_offset` is not a multiple of 4 KiB, or 2 MiB or more.
    TextOffset(u64),
    /// Big-endian, or made for pages of another size.
    Flags(u64),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the kernel image is empty"),
            Self::Size { stated, file } => {
                write!(f, "its arm64 header says image_size is {stated:#x}, but the file has {file:#x} bytes")
            }
            Self::TextOffset(offset) => {
                write!(f, "its arm64 header has the impossible text_offset {offset:#x}")
            }
            Self::Flags(flags) => {
                write!(f, "its arm64 header's flags {flags:#x} ask for big-endian or large pages")
            }
        }
    }
}

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
        if bytes.get(56..60) != Some(b"ARM\x64") {
            return Ok(Self { text_offset: 0, memory_size: file, has_header: false });
        }
        let field = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let (text_offset, image_size, flags) = (field(8), field(16), field(24));
        if image_size != 0 && image_size < file {
            return Err(ImageError::Size { stated: image_size, file });
        }
        if text_offset % 4096 != 0 || text_offset >= 2 << 20 {
            return Err(ImageError::TextOffset(text_offset));
        }
        // Bit 0: big-endian; bits 2:1: page size, 0 unspecified, 1 4 KiB.
        if flags & 1 != 0 || flags >> 1 & 3 > 1 {
            return Err(ImageError::Flags(flags));
        }
        Ok(Self { text_offset, memory_size: image_size.max(file), has_header: true })
    }
}
