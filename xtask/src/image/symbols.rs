//! The symbol table that a kernel carries so that its backtraces have names.
//!
//! Little-endian words: magic, count, then `count` pairs (offset of the function from the image's lowest
//! virtual address, offset of its name from the table's start) sorted by address, then the NUL-terminated
//! names.

use anyhow::{Result, bail};
use std::collections::BTreeMap;

const MAGIC: u32 = u32::from_le_bytes(*b"MYSM");
const WORD: usize = 4;

/// A filled table.
pub struct Table {
    pub bytes: Vec<u8>,
    pub count: usize,
}

/// A table of `functions` (offset, linker's name) that fits into `room` bytes; names are cut only as far as
/// needed.
pub fn table(functions: &[(u32, &str)], room: usize) -> Result<Table> {
    let by_address: BTreeMap<u32, String> = functions
        .iter()
        .filter(|(_, name)| !is_marker(name))
        .map(|(at, name)| (*at, readable(name)))
        .collect();
    let mut needed = 0;
    for longest in [usize::MAX, 80, 48, 32, 24] {
        let table = encode(&by_address, longest);
        needed = table.bytes.len();
        if needed <= room {
            return Ok(table);
        }
    }
    bail!(
        "its section .symbols has {room} bytes, but {} functions need {needed} even with short names",
        by_address.len()
    )
}

fn encode(functions: &BTreeMap<u32, String>, longest: usize) -> Table {
    let mut names = Vec::new();
    let mut bytes = Vec::new();
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend((functions.len() as u32).to_le_bytes());
    let names_at = (2 + 2 * functions.len()) * WORD;
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for (address, name) in functions {
        let name = keep_end(name, longest);
        let at = *known.entry(name).or_insert_with(|| {
            let at = names_at + names.len();
            names.extend(name.bytes());
            names.push(0);
            at
        });
        bytes.extend(address.to_le_bytes());
        bytes.extend((at as u32).to_le_bytes());
    }
    bytes.extend(names);
    Table { bytes, count: functions.len() }
}

/// Mapping symbols (`$x`, `$d`) are not functions.
fn is_marker(name: &str) -> bool {
    name.is_empty() || name.starts_with('$')
}

/// The end of a path says most.
fn keep_end(name: &str, longest: usize) -> &str {
    let mut from = name.len().saturating_sub(longest);
    while !name.is_char_boundary(from) {
        from += 1;
    }
    &name[from..]
}

/// The linker's name as a person would say it: no hash, no generic arguments, `<T as Trait>::f` as `T::f`.
fn readable(mangled: &str) -> String {
    let full = format!("{:#}", rustc_demangle::demangle(mangled));
    let mut out = String::new();
    let mut rest = full.as_str();
    // A qualified type at the front is kept, without its trait.
    if let Some(inside) = rest.strip_prefix('<')
        && let Some(end) = closing(inside)
    {
        let subject = &inside[..end];
        out += &without_generics(top_level_as(subject));
        rest = &inside[end + 1..];
    }
    out + &without_generics(rest)
}

/// The index of the `>` that closes a `<` before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if before == '-' => {}
            '>' if depth == 0 => return Some(at),
            '>' => depth -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

/// `T` of `T as Trait`.
fn top_level_as(subject: &str) -> &str {
    let mut depth = 0usize;
    for (at, c) in subject.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 && subject[at..].starts_with(" as ") => return &subject[..at],
            _ => {}
        }
    }
    subject
}

fn without_generics(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('<') {
        let Some(end) = closing(&rest[at + 1..]) else { break };
        let before = &rest[..at];
        out += before.strip_suffix("::").unwrap_or(before);
        rest = &rest[at + 1 + end + 1..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], index: usize) -> u32 {
        u32::from_le_bytes(bytes[index * 4..index * 4 + 4].try_into().unwrap())
    }

    fn name(bytes: &[u8], at: u32) -> &str {
        let rest = &bytes[at as usize..];
        let end = rest.iter().position(|b| *b == 0).unwrap();
        std::str::from_utf8(&rest[..end]).unwrap()
    }

    #[test]
    fn the_table_is_sorted_and_named() {
        let functions =
            [(0x90, "second"), (0x40, "_ZN7hv_core3run10run_kernel17h0123456789abcdefE"), (0x40, "$x")];
        let table = table(&functions, 1000).unwrap();
        assert_eq!(table.count, 2);
        assert_eq!(word(&table.bytes, 0), 0x4d53_594d);
        assert_eq!(word(&table.bytes, 1), 2);
        assert_eq!(
            (word(&table.bytes, 2), name(&table.bytes, word(&table.bytes, 3))),
            (0x40, "hv_core::run::run_kernel")
        );
        assert_eq!((word(&table.bytes, 4), name(&table.bytes, word(&table.bytes, 5))), (0x90, "second"));
    }

    #[test]
    fn names_are_cut_to_fit_and_then_it_is_an_error() {
        let long = "a".repeat(200);
        let cut = table(&[(0, &long)], 70).unwrap();
        assert_eq!(name(&cut.bytes, word(&cut.bytes, 3)).len(), 48);
        let error = table(&[(0, &long)], 20).err().unwrap().to_string();
        assert!(error.contains("1 functions need 41"), "{error}");
    }

    #[test]
    fn names_lose_their_noise() {
        assert_eq!(readable("memcpy"), "memcpy");
        assert_eq!(without_generics("a::b<T, U<V>>::c::<D>::d"), "a::b::c::d");
        assert_eq!(without_generics("a::f<fn(u8) -> u8>::g"), "a::f::g");
        assert_eq!(top_level_as("a::B<C as D> as e::F"), "a::B<C as D>");
    }
}
