//! The check of a flattened tree's structure, before anything is read from it.
//!
//! `dtoolkit` has such a check, but it also insists on names of at most 31 characters. That is what the specification says
//! (DT spec, 2.2.1 and 2.2.4) and what half of the trees in the Linux kernel do not keep to. So the check is here, and checks
//! exactly what the reader relies on: after it, reading with [`dtoolkit::fdt::Fdt::new_unchecked`] cannot go wrong.
use crate::MachineError;

/// The header's length, and the places of its fields (DT spec, 5.2).
const HEADER_LENGTH: usize = 40;
const OFF_DT_STRUCT: usize = 8;
const OFF_DT_STRINGS: usize = 12;
const OFF_MEM_RSVMAP: usize = 16;
const VERSION: usize = 20;
const LAST_COMPATIBLE_VERSION: usize = 24;
const SIZE_DT_STRINGS: usize = 32;
const SIZE_DT_STRUCT: usize = 36;

/// The version whose layout is relied on. Later ones have to stay compatible, by their `last_comp_version`.
const SUPPORTED_VERSION: u32 = 17;

// The tokens (DT spec, 5.4.1).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

fn malformed(problem: &'static str, offset: usize) -> MachineError {
    MachineError::Malformed { problem, offset }
}

/// Checks a blob that is exactly as long as its header says.
pub(crate) fn check(blob: &[u8]) -> Result<(), MachineError> {
    if blob.len() < HEADER_LENGTH {
        return Err(malformed("the header is cut off", blob.len()));
    }
    let field = |offset| word(blob, offset).map(|value| value as usize);
    let version = word(blob, VERSION)?;
    let compatible = word(blob, LAST_COMPATIBLE_VERSION)?;
    if !(compatible..=version).contains(&SUPPORTED_VERSION) {
        return Err(malformed("the version is not supported", VERSION));
    }
    let structure = block(blob, field(OFF_DT_STRUCT)?, field(SIZE_DT_STRUCT)?, OFF_DT_STRUCT)?;
    let strings = block(blob, field(OFF_DT_STRINGS)?, field(SIZE_DT_STRINGS)?, OFF_DT_STRINGS)?;
    let reservations = field(OFF_MEM_RSVMAP)?;
    check_reservations(blob, reservations)?;
    // The reader takes tokens from the whole blob, so the structure block has to be in place, aligned.
    let start = field(OFF_DT_STRUCT)?;
    if start < HEADER_LENGTH || !start.is_multiple_of(4) {
        return Err(malformed("the structure block is misplaced", OFF_DT_STRUCT));
    }
    check_nodes(structure, start, strings)
}

/// The 32-bit word at an offset.
fn word(bytes: &[u8], offset: usize) -> Result<u32, MachineError> {
    bytes
        .get(offset..)
        .and_then(<[u8]>::first_chunk)
        .map(|word| u32::from_be_bytes(*word))
        .ok_or(malformed("a word is cut off", offset))
}

fn block(blob: &[u8], offset: usize, size: usize, field: usize) -> Result<&[u8], MachineError> {
    let end = offset.checked_add(size).ok_or(malformed("a block is too long", field))?;
    blob.get(offset..end).ok_or(malformed("a block reaches past the end", field))
}

/// The memory reservation block ends with an entry of zeros (DT spec, 5.3).
fn check_reservations(blob: &[u8], start: usize) -> Result<(), MachineError> {
    const ENTRY: usize = 16;
    if start < HEADER_LENGTH || !start.is_multiple_of(8) {
        return Err(malformed("the memory reservation block is misplaced", OFF_MEM_RSVMAP));
    }
    let entries = blob.get(start..).unwrap_or(&[]);
    if entries.chunks_exact(ENTRY).any(|entry| entry == [0; ENTRY]) {
        Ok(())
    } else {
        Err(malformed("the memory reservation block has no end", start))
    }
}

/// Walks through the structure block: nodes nest, properties come before child nodes, every name is text, and nothing
/// reaches past the end of its block.
fn check_nodes(structure: &[u8], start: usize, strings: &[u8]) -> Result<(), MachineError> {
    let mut offset = 0;
    let mut depth = 0_usize;
    // Whether a property may come next.
    let mut properties = false;
    loop {
        let at = start + offset;
        let token = word(structure, offset).map_err(|_| malformed("the structure block has no end", at))?;
        offset += 4;
        match token {
            BEGIN_NODE if depth > 0 || offset == 4 => {
                let name = text(structure.get(offset..)).ok_or(malformed("a node's name is not text", at))?;
                offset = (offset + name.len() + 1).next_multiple_of(4);
                depth += 1;
                properties = true;
            }
            END_NODE if depth > 0 => {
                depth -= 1;
                properties = false;
            }
            PROP if properties => {
                let length = word(structure, offset)? as usize;
                let name = word(structure, offset + 4)? as usize;
                text(strings.get(name..)).ok_or(malformed("a property's name is not text", at))?;
                let end = offset + 8 + length;
                if end > structure.len() {
                    return Err(malformed("a property reaches past the end", at));
                }
                offset = end.next_multiple_of(4);
            }
            NOP if depth > 0 => {}
            END if depth == 0 && offset > 4 => return Ok(()),
            _ => return Err(malformed("a token is out of place", at)),
        }
    }
}

/// The text before the first zero byte.
fn text(bytes: Option<&[u8]>) -> Option<&str> {
    let bytes = bytes?;
    let end = bytes.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(&bytes[..end]).ok()
}
