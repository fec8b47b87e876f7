//! Formatted text for a console.
use crate::Console;
use core::fmt;

/// Lets `write!` print on a console; each `\n` goes out as `\r\n`.
pub struct Writer<'a, C: Console + ?Sized>(pub &'a C);

impl<C: Console + ?Sized> fmt::Write for Writer<'_, C> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.as_bytes().split_inclusive(|&byte| byte == b'\n') {
            match line.split_last() {
                Some((b'\n', rest)) => {
                    self.0.write(rest);
                    self.0.write(b"\r\n");
                }
                _ => self.0.write(line),
            }
        }
        Ok(())
    }
}

impl<C: Console + ?Sized> fmt::Debug for Writer<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::fmt::Write;
    use std::{sync::Mutex, vec::Vec};

    #[derive(Default)]
    struct Record(Mutex<Vec<u8>>);

    impl Console for Record {
        fn write_byte(&self, byte: u8) {
            self.0.lock().unwrap().push(byte);
        }
        fn try_write(&self, bytes: &[u8]) -> usize {
            self.0.lock().unwrap().extend_from_slice(bytes);
            bytes.len()
        }
        fn read_byte(&self) -> Option<u8> {
            None
        }
        fn flush(&self) {}
    }

    #[test]
    fn newline_sends_carriage_return() {
        let record = Record::default();
        let console: &dyn Console = &record;
        write!(Writer(console), "a\n\nb{}\nc", 1).unwrap();
        assert_eq!(*record.0.lock().unwrap(), b"a\r\n\r\nb1\r\nc");
    }
}
