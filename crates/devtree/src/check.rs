//! The check of a tree's structure, before anything is read from it.

use crate::{
    BEGIN_NODE, END, END_NODE, Error, HEADER_LENGTH, LAST_COMPATIBLE_VERSION, NOP, OFF_DT_STRINGS,
    OFF_DT_STRUCT, OFF_MEM_RSVMAP, PROP, SIZE_DT_STRINGS, SIZE_DT_STRUCT, SUPPORTED_VERSION, VERSION, text,
};

fn malformed(problem: &'static str, offset: usize) -> Error {
    Error::Malformed { problem, offset }
}

/// Checks a blob that is exactly as long as its header says.
pub(crate) fn check(blob: &[u8]) -> Result<(), Error> {
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

fn word(bytes: &[u8], offset: usize) -> Result<u32, Error> {
    crate::word(bytes, offset).ok_or(malformed("a word is cut off", offset))
}

fn block(blob: &[u8], offset: usize, size: usize, field: usize) -> Result<&[u8], Error> {
    let end = offset.checked_add(size).ok_or(malformed("a block is too long", field))?;
    blob.get(offset..end).ok_or(malformed("a block reaches past the end", field))
}

/// The memory reservation block ends with an entry of zeros (DT spec, 5.3).
fn check_reservations(blob: &[u8], start: usize) -> Result<(), Error> {
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

/// Walks through the structure block: nodes nest, properties come before child nodes, every name is text, and
/// nothing reaches past the end of its block.
fn check_nodes(structure: &[u8], start: usize, strings: &[u8]) -> Result<(), Error> {
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
                let name = text(structure, offset).ok_or(malformed("a node's name is not text", at))?;
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
                text(strings, name).ok_or(malformed("a property's name is not text", at))?;
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
