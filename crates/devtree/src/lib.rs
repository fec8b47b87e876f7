//! A small reader and writer of flattened device trees.
//!
//! ```
//! use devtree::{Tree, Writer};
//!
//! let mut writer = Writer::new();
//! writer.begin("");
//! writer.text("model", "a machine");
//! writer.begin("memory@40000000");
//! writer.long("reg", &[0x4000_0000, 0x1000_0000]);
//! writer.end();
//! writer.end();
//! let blob = writer.finish().unwrap();
//!
//! let root = Tree::new(&blob).unwrap().root();
//! let memory = root.children().next().unwrap();
//! assert_eq!((memory.name(), memory.base_name()), ("memory@40000000", "memory"));
//! assert_eq!(memory.value("reg").unwrap().len(), 16);
//! ```
//!
//! [`Tree::new`] checks exactly what the reader relies on, and nothing that real trees do not keep to: names
//! may be longer than the 31 characters of the specification, as half of the trees that come with Linux have
//! them; `NOP` tokens may be anywhere.
//!
//! Sources: *Devicetree Specification* v0.4 ("DT spec").
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod check;
mod error;
mod read;
mod write;

pub use error::Error;
pub use read::{Node, Property, Tree, split};
pub use write::Writer;

/// The header's length, and the places of its fields (DT spec, 5.2).
const HEADER_LENGTH: usize = 40;
const MAGIC: u32 = 0xd00d_feed;
const TOTAL_SIZE: usize = 4;
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

/// The 32-bit word at an offset.
#[inline(never)]
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// The text before the first zero byte.
#[inline(never)]
fn text(bytes: &[u8], offset: usize) -> Option<&str> {
    let bytes = bytes.get(offset..)?;
    let end = bytes.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(&bytes[..end]).ok()
}
