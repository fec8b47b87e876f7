//! Kernel images.
mod common;

use bundle::{Image, ImageError, KernelFormat};
use common::{MIB, image};

#[test]
fn distinguishes_headers_from_flat_binaries() {
    let parsed = Image::parse(&image(0x8_0000, 4 * MIB, 0b1010, 100)).unwrap();
    assert_eq!(
        parsed,
        Image {
            text_offset: 0x8_0000,
            memory_size: 4 * MIB,
            flags: 0b1010,
            format: KernelFormat::Arm64Image
        }
    );
    // Before Linux 3.17 image_size was 0.
    assert_eq!(Image::parse(&image(0, 0, 0, 100)).unwrap().memory_size, 100);
    for flat in [vec![0x14], vec![0xd5; 63], vec![0; 4096], vec![0x14; 4096]] {
        let parsed = Image::parse(&flat).unwrap();
        assert_eq!((parsed.format, parsed.text_offset), (KernelFormat::Flat, 0));
        assert_eq!(parsed.memory_size, flat.len() as u64);
    }
}

#[test]
fn rejects_malformed_headers() {
    assert_eq!(Image::parse(b""), Err(ImageError::Empty));
    assert_eq!(Image::parse(&image(0, 99, 0, 100)), Err(ImageError::Size { stated: 99, file: 100 }));
    assert!(matches!(Image::parse(&image(0, u64::MAX, 0, 100)), Err(ImageError::Size { .. })));
    for offset in [1, 0x800, 2 * MIB, u64::MAX] {
        assert_eq!(Image::parse(&image(offset, MIB, 0, 100)), Err(ImageError::TextOffset(offset)));
    }
    for flags in [1, 0b100, 0b110, 0b1111] {
        assert_eq!(Image::parse(&image(0, MIB, flags, 100)), Err(ImageError::Flags(flags)));
    }
}

#[test]
fn rejects_damaged_image_as_flat_binary() {
    let mut damaged = image(0, MIB, 0b1010, 5000);
    damaged[56..60].copy_from_slice(b"nope");
    assert_eq!(Image::parse(&damaged), Err(ImageError::Damaged));
    assert_eq!(Image::parse(&image(0, MIB, 0b1010, 5000)[..40]), Err(ImageError::Damaged));
}
