//! Notes about a program's code.
//!
//! `.note.gnu.property` (System V ABI extensions for Linux; ELF for the Arm 64-bit Architecture, "Program
//! Property"): notes named "GNU" whose description is a list of properties, each a type, a size and that many
//! bytes, rounded up to 8.

const NT_GNU_PROPERTY_TYPE_0: u32 = 5;
const GNU_PROPERTY_AARCH64_FEATURE_1_AND: u32 = 0xc000_0000;
const GNU_PROPERTY_AARCH64_FEATURE_1_BTI: u32 = 1;
/// Name, NUL included.
const GNU: &[u8] = b"GNU\0";

/// Returns whether the notes say that all code has landing pads.
pub(crate) fn has_bti(mut notes: &[u8]) -> bool {
    let found = core::iter::from_fn(|| {
        let note = Note::take(&mut notes)?;
        Some(note.kind == NT_GNU_PROPERTY_TYPE_0 && note.name == GNU && features(note.description) & 1 != 0)
    });
    found.into_iter().any(|bti| bti)
}

struct Note<'a> {
    kind: u32,
    name: &'a [u8],
    description: &'a [u8],
}

impl<'a> Note<'a> {
    fn take(notes: &mut &'a [u8]) -> Option<Self> {
        let name_size = word(notes)?;
        let description_size = word(notes)?;
        let kind = word(notes)?;
        // The header is 12 bytes: with a name of 4, the description begins at 16, aligned to 8.
        let name = padded(notes, name_size, 4)?;
        let description = padded(notes, description_size, 8)?;
        Some(Self { kind, name, description })
    }
}

fn features(mut properties: &[u8]) -> u32 {
    let mut next = || {
        let kind = word(&mut properties)?;
        let size = word(&mut properties)?;
        Some((kind, padded(&mut properties, size, 8)?))
    };
    while let Some((kind, mut value)) = next() {
        if kind == GNU_PROPERTY_AARCH64_FEATURE_1_AND {
            return word(&mut value).unwrap_or_default() & GNU_PROPERTY_AARCH64_FEATURE_1_BTI;
        }
    }
    0
}

fn word(bytes: &mut &[u8]) -> Option<u32> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*word))
}

/// `size` bytes, and what fills them up to `alignment`, which may be missing at the end.
fn padded<'a>(bytes: &mut &'a [u8], size: u32, alignment: usize) -> Option<&'a [u8]> {
    let size = size as usize;
    let (taken, _) = bytes.split_at_checked(size)?;
    *bytes = &bytes[size.next_multiple_of(alignment).min(bytes.len())..];
    Some(taken)
}
