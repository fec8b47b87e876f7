//! Boot bundles of a partition manager: cpio archives, arm64 Image headers and Hafnium-format manifests, checked.
#![no_std]
