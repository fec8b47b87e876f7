//! Applications that are linked into LWK images.
#![no_std]
