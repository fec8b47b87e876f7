//! Values, strings and lists from and to a program's memory. Everything is copied once, then checked.

use super::errno::{Errno, Result};
use crate::arch;
use alloc::vec::Vec;
use fallible::TryVec as _;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// `PATH_MAX`: the longest string that a call takes, its NUL included.
const LONGEST: usize = 4096;
/// What is read of a string at once; never across a page's end.
const STEP: usize = 64;

/// Copies bytes from the program.
pub fn read_bytes(from: u64, to: &mut [u8]) -> Result<()> {
    if arch::copy_from_user(from, to) == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies bytes to the program.
pub fn write_bytes(to: u64, from: &[u8]) -> Result<()> {
    if arch::copy_to_user(to, from) == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies a value from the program.
pub fn read<T: FromBytes + FromZeros + IntoBytes>(from: u64) -> Result<T> {
    let mut value = T::new_zeroed();
    read_bytes(from, value.as_mut_bytes())?;
    Ok(value)
}

/// Copies a value to the program.
pub fn write<T: IntoBytes + Immutable>(to: u64, value: &T) -> Result<()> {
    write_bytes(to, value.as_bytes())
}

/// Copies a value to the program, unless the address is null.
pub fn write_if<T: IntoBytes + Immutable>(to: u64, value: &T) -> Result<()> {
    if to == 0 { Ok(()) } else { write(to, value) }
}

/// Reads a word at once.
pub fn load_u32(from: u64) -> Result<u32> {
    arch::load_user_u32(from).ok_or(Errno::EFAULT)
}

/// Copies the beginning of a string: up to its NUL, or up to `N` bytes.
pub fn read_prefix<const N: usize>(from: u64) -> Result<[u8; N]> {
    let mut string = [0; N];
    for (at, byte) in (0..).zip(&mut string) {
        read_bytes(from.wrapping_add(at), core::slice::from_mut(byte))?;
        if *byte == 0 {
            break;
        }
    }
    Ok(string)
}

/// Copies a string, without its NUL.
pub fn read_string(from: u64) -> Result<Vec<u8>> {
    let mut string = Vec::new();
    let mut at = from;
    while string.len() < LONGEST {
        let mut piece = [0; STEP];
        let to_page_end = 4096 - (at as usize & 4095);
        let count = STEP.min(to_page_end);
        read_bytes(at, &mut piece[..count])?;
        match piece[..count].iter().position(|byte| *byte == 0) {
            Some(end) => {
                string.try_extend(&piece[..end])?;
                return Ok(string);
            }
            None => string.try_extend(&piece[..count])?,
        }
        at += count as u64;
    }
    Err(Errno::ENAMETOOLONG)
}
