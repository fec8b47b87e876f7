//! Each allocation fails in turn: `OutOfMemory`, and nothing has changed.

use fallible::{
    Arc, OutOfMemory, Text, TryVec,
    testing::{ALWAYS, FailingAllocator, LEFT},
    try_box,
};
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static ALLOCATOR: FailingAllocator = FailingAllocator;

fn without_memory<R>(f: impl FnOnce() -> R) -> R {
    LEFT.set(ALWAYS);
    let result = f();
    LEFT.set(0);
    result
}

/// Counts how many of it are gone.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn drops_value_when_allocation_fails() {
    let gone = AtomicUsize::new(0);
    assert!(without_memory(|| Arc::try_new(Counted(&gone))).is_err());
    assert!(without_memory(|| try_box(Counted(&gone))).is_err());
    assert_eq!(gone.load(Ordering::Relaxed), 2);
    // A type without a size needs no memory.
    assert!(without_memory(|| try_box(())).is_ok());
}

#[test]
fn the_last_reference_drops_the_value() {
    let gone = AtomicUsize::new(0);
    let first = Arc::try_new(Counted(&gone)).unwrap();
    let itself = Arc::uncounted(&first);
    let second = first.clone();
    // SAFETY: `first` keeps the value.
    let third = unsafe { itself.counted() };
    assert!(Arc::ptr_eq(&second, &third));
    drop((first, second));
    assert_eq!(gone.load(Ordering::Relaxed), 0);
    drop(third);
    assert_eq!(gone.load(Ordering::Relaxed), 1);
    drop(try_box(Counted(&gone)).unwrap());
    assert_eq!(gone.load(Ordering::Relaxed), 2);
}

#[test]
fn threads_share_a_value() {
    let gone = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let shared = Arc::try_new(Counted(&gone)).unwrap();
        for _ in 0..4 {
            let shared = shared.clone();
            scope.spawn(move || (0..1000).for_each(|_| drop(shared.clone())));
        }
    });
    assert_eq!(gone.load(Ordering::Relaxed), 1);
}

#[test]
fn vectors_are_as_before() {
    let mut list = Vec::try_copy_of(&[1, 2, 3]).unwrap();
    list.shrink_to_fit();
    let failed = without_memory(|| {
        [
            list.try_push(4),
            list.try_insert(0, 4),
            list.try_extend(&[4, 5]),
            Vec::<u32>::try_filled(0, 9).map(drop),
            Vec::try_copy_of(&[1]).map(drop),
            Vec::try_collected(0..4).map(drop),
        ]
    });
    assert_eq!(failed, [Err(OutOfMemory); 6]);
    assert_eq!(list, [1, 2, 3]);
    list.try_push(4).unwrap();
    list.try_insert(0, 0).unwrap();
    list.try_extend(&[5, 6]).unwrap();
    assert_eq!(list, Vec::try_collected(0..7).unwrap());
    assert_eq!(Vec::try_filled(7, 2).unwrap(), [7, 7]);
}

#[test]
fn truncates_text_when_allocation_fails() {
    let mut text = Text::new();
    text.try_format(format_args!("{}-{}", 1, 2)).unwrap();
    assert_eq!(without_memory(|| text.try_format(format_args!("{:100}", 3))), Err(OutOfMemory));
    assert!(text.as_bytes().starts_with(b"1-2"));
}
