//! Who called whom, by the chain of frame records.

use crate::{
    arch,
    memory::{IMAGE, LINEAR},
    symbols::Symbols,
};
use core::fmt;

/// The most callers that are shown.
const MOST: usize = 32;

/// A backtrace; displays as one line for each caller.
#[derive(Clone, Copy, Debug)]
pub struct Backtrace {
    /// Where the program counter was, if it is not in a frame record.
    pub pc: Option<u64>,
    /// The first frame record.
    pub frame: usize,
}

impl Backtrace {
    /// Returns a backtrace of the caller.
    #[inline]
    pub fn here() -> Self {
        Self { pc: None, frame: arch::frame_pointer() }
    }
}

/// An address in the code, displayed with the function's name if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Code(pub u64);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)?;
        let symbols = Symbols::new(arch::symbol_table());
        let offset = self.0.checked_sub(IMAGE as u64).and_then(|offset| u32::try_from(offset).ok());
        match offset.and_then(|offset| symbols.find(offset)) {
            Some(place) => write!(f, " {}+{:#x}", place.function, place.offset),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pc) = self.pc {
            writeln!(f, "  at {}", Code(pc))?;
        }
        let mut frame = self.frame;
        for _ in 0..MOST {
            let record = frame.wrapping_add(8);
            let sane = frame >= LINEAR && frame.is_multiple_of(16);
            if !sane || !arch::is_readable(frame) || !arch::is_readable(record) {
                break;
            }
            let record = core::ptr::with_exposed_provenance::<[usize; 2]>(frame);
            // SAFETY: both words are mapped and aligned; whatever is there is a number.
            let [next, caller] = unsafe { record.read_volatile() };
            if caller == 0 {
                break;
            }
            // A return address is after the call.
            writeln!(f, "  by {}", Code(caller as u64 - 4))?;
            if next == frame {
                break;
            }
            frame = next;
        }
        Ok(())
    }
}
