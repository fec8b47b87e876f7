//! A shared reference that counts.

use crate::{OutOfMemory, allocate};
use alloc::boxed::Box;
use core::{
    alloc::Layout,
    fmt,
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering, fence},
};

struct Inner<T> {
    count: AtomicUsize,
    value: T,
}

/// `alloc::sync::Arc`, whose making can fail, and without weak references.
pub struct Arc<T> {
    inner: NonNull<Inner<T>>,
    owns: PhantomData<Inner<T>>,
}

// SAFETY: as the standard library's: whoever has one can read the value, and the last one to go drops it.
unsafe impl<T: Send + Sync> Send for Arc<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Arc<T> {}

impl<T> Arc<T> {
    /// Puts a value where it can be shared.
    ///
    /// # Errors
    /// There is no memory for it; the value is dropped.
    pub fn try_new(value: T) -> Result<Self, OutOfMemory> {
        let inner = allocate(Layout::new::<Inner<T>>())?.cast::<Inner<T>>();
        // SAFETY: the memory is for an `Inner<T>`, and nobody else's.
        unsafe { inner.write(Inner { count: AtomicUsize::new(1), value }) };
        Ok(Self { inner, owns: PhantomData })
    }

    #[inline]
    fn inner(&self) -> &Inner<T> {
        // SAFETY: the value lives as long as there is a counted reference, which this is.
        unsafe { self.inner.as_ref() }
    }

    /// Returns whether both are references to the same value.
    #[inline]
    pub fn ptr_eq(one: &Self, other: &Self) -> bool {
        one.inner == other.inner
    }

    /// A reference that does not keep the value: for a value that has to find itself.
    pub const fn uncounted(this: &Self) -> Uncounted<T> {
        Uncounted(this.inner)
    }
}

impl<T> Clone for Arc<T> {
    #[inline]
    fn clone(&self) -> Self {
        // A new reference is made of one that there is: nothing has to be ordered.
        self.inner().count.fetch_add(1, Ordering::Relaxed);
        Self { inner: self.inner, owns: PhantomData }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> AsRef<T> for Arc<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T> Drop for Arc<T> {
    #[inline]
    fn drop(&mut self) {
        // What others did with the value comes before its end.
        if self.inner().count.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: this was the last reference, and the memory came from the global allocator with this
            // layout.
            drop(unsafe { Box::from_raw(self.inner.as_ptr()) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A reference that does not keep the value.
pub struct Uncounted<T>(NonNull<Inner<T>>);

// SAFETY: it can be used only to make an `Arc`, which needs the same.
unsafe impl<T: Send + Sync> Send for Uncounted<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Uncounted<T> {}

impl<T> Uncounted<T> {
    /// Returns another counted reference to the value.
    ///
    /// # Safety
    /// Some counted reference keeps the value during the call.
    pub unsafe fn counted(&self) -> Arc<T> {
        // SAFETY: the value is alive, as the caller promises.
        unsafe { self.0.as_ref() }.count.fetch_add(1, Ordering::Relaxed);
        Arc { inner: self.0, owns: PhantomData }
    }
}

impl<T> fmt::Debug for Uncounted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uncounted")
    }
}
