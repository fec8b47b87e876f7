#![no_main]
//! Archives.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(archive) = bundle::Archive::new(bytes) {
        if let Some(file) = archive.find("manifest.dtb") {
            let (all, part) = (bytes.as_ptr_range(), file.as_ptr_range());
            assert!(file.is_empty() || (all.start <= part.start && part.end <= all.end));
        }
    }
});
