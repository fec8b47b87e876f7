//! Which bytes of a VM reach the console.
//!
//! A terminal acts on control characters, and a VM must not use them to write over other lines or to forge them: neither those of
//! ASCII (C0, DEL), nor those from U+0080 to U+009F (C1: `CSI`, `NEL`), in UTF-8 or as single bytes, nor the characters of Unicode that
//! break lines or reorder text. All other characters pass, if they are well-formed UTF-8.

/// Replaces each byte of `line` that is not part of a printable character by a dot.
pub(crate) fn replace_others(line: &mut [u8]) {
    let mut at = 0;
    while let Some(rest) = line.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let length = printable(rest);
        if length == 0 {
            rest[0] = b'.';
        }
        at += length.max(1);
    }
}

/// The number of bytes of the printable character that `bytes` begins with; 0 if it begins with none.
fn printable(bytes: &[u8]) -> usize {
    let first = bytes[0];
    // The character's bytes, and the first character that needs so many: longer forms are not well-formed (Unicode, table 3-7).
    let (length, lowest) = match first {
        b'\t' | 0x20..0x7f => return 1,
        0xc2..0xe0 => (2, 0xa0),
        0xe0..0xf0 => (3, 0x800),
        0xf0..0xf5 => (4, 0x1_0000),
        _ => return 0,
    };
    let Some(others) = bytes.get(1..length) else { return 0 };
    let mut character = u32::from(first) & (0x7f >> length);
    for byte in others {
        if byte & 0xc0 != 0x80 {
            return 0;
        }
        character = character << 6 | u32::from(byte & 0x3f);
    }
    let is_allowed = match character {
        // Surrogates; marks of direction, separators of lines and paragraphs, embeddings and overrides, isolates.
        0xd800..0xe000 | 0x200e..=0x200f | 0x2028..=0x202e | 0x2066..=0x2069 => false,
        _ => character >= lowest && character < 0x11_0000,
    };
    if is_allowed { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{string::String, vec::Vec};

    fn shown(line: &[u8]) -> Vec<u8> {
        let mut line = line.to_vec();
        replace_others(&mut line);
        line
    }

    #[test]
    fn text_passes() {
        for text in ["", "a line\tof text ~", "größer, 1 µs ≤ 2 ms, 計算, 🐈"] {
            assert_eq!(shown(text.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn control_characters_are_dots() {
        assert_eq!(shown(b"\x1b[2J\x07\x08\x7f"), b".[2J...");
        // C1 as single bytes and in UTF-8: CSI and NEL.
        assert_eq!(shown(b"a\x9b2Jb\x85c\xc2\x9b2Jd\xc2\x85"), b"a.2Jb.c..2Jd..");
        // A line separator, and an override of direction.
        assert_eq!(shown("a\u{2028}b\u{202e}c".as_bytes()), b"a...b...c");
    }

    #[test]
    fn malformed_utf8_is_dots() {
        for bad in [
            &b"\xc3"[..],
            b"\xc0\x9b",
            b"\xe0\x82\x9b",
            b"\xed\xa0\x80",
            b"\xf0\x80\x80\x80",
            b"\xf4\x90\x80\x80",
            b"\xff\xfe",
            b"\x9b",
        ] {
            assert!(shown(bad).iter().all(|byte| *byte == b'.'), "{bad:x?}");
        }
        assert_eq!(shown(b"\xe4\xb8x"), b"..x");
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_text_without_controls(line in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let shown = String::from_utf8(shown(&line)).unwrap();
            proptest::prop_assert!(shown.chars().all(|c| c == '\t' || !c.is_control()));
            proptest::prop_assert_eq!(shown.len(), line.len());
        }
    }
}
