//! Vectors that grow only if there is memory.

use crate::OutOfMemory;
use alloc::vec::Vec;

/// Fallible operations of `Vec`. After an error, the vector is unchanged.
pub trait TryVec<T>: Sized {
    /// `push`.
    ///
    /// # Errors
    /// There is no memory for a longer vector.
    fn try_push(&mut self, value: T) -> Result<(), OutOfMemory>;

    /// `insert`.
    ///
    /// # Errors
    /// There is no memory for a longer vector.
    ///
    /// # Panics
    /// If `at` is greater than the length.
    fn try_insert(&mut self, at: usize, value: T) -> Result<(), OutOfMemory>;

    /// `extend_from_slice`.
    ///
    /// # Errors
    /// There is no memory for a longer vector.
    fn try_extend(&mut self, values: &[T]) -> Result<(), OutOfMemory>
    where
        T: Copy;

    /// `vec![value; length]`, of exactly that length.
    ///
    /// # Errors
    /// There is no memory for it.
    fn try_filled(value: T, length: usize) -> Result<Self, OutOfMemory>
    where
        T: Clone;

    /// `to_vec`, of exactly that length.
    ///
    /// # Errors
    /// There is no memory for it.
    fn try_copy_of(values: &[T]) -> Result<Self, OutOfMemory>
    where
        T: Copy;

    /// `collect`.
    ///
    /// # Errors
    /// There is no memory for all of them.
    fn try_collected(values: impl IntoIterator<Item = T>) -> Result<Self, OutOfMemory>;
}

impl<T> TryVec<T> for Vec<T> {
    #[inline]
    fn try_push(&mut self, value: T) -> Result<(), OutOfMemory> {
        self.try_reserve(1)?;
        self.push(value);
        Ok(())
    }

    fn try_insert(&mut self, at: usize, value: T) -> Result<(), OutOfMemory> {
        self.try_reserve(1)?;
        self.insert(at, value);
        Ok(())
    }

    fn try_extend(&mut self, values: &[T]) -> Result<(), OutOfMemory>
    where
        T: Copy,
    {
        self.try_reserve(values.len())?;
        self.extend_from_slice(values);
        Ok(())
    }

    fn try_filled(value: T, length: usize) -> Result<Self, OutOfMemory>
    where
        T: Clone,
    {
        let mut made = Self::new();
        made.try_reserve_exact(length)?;
        made.resize(length, value);
        Ok(made)
    }

    fn try_copy_of(values: &[T]) -> Result<Self, OutOfMemory>
    where
        T: Copy,
    {
        let mut made = Self::new();
        made.try_reserve_exact(values.len())?;
        made.extend_from_slice(values);
        Ok(made)
    }

    fn try_collected(values: impl IntoIterator<Item = T>) -> Result<Self, OutOfMemory> {
        let mut made = Self::new();
        values.into_iter().try_for_each(|value| made.try_push(value))?;
        Ok(made)
    }
}
