//! How much of everything a manifest may have.

/// The name of the manifest's file.
pub const MANIFEST_FILE: &str = "manifest.dtb";
/// Most VMs in a manifest: the primary, 64 secondaries, and one more that owns devices.
pub const MAX_VMS: u16 = 66;
/// Most vCPUs of one VM.
pub const MAX_VCPUS: u32 = 512;
/// Most vCPUs of all secondaries together.
pub const MAX_ALL_VCPUS: u32 = 1024;
/// Longest name of a VM, in bytes.
pub const MAX_NAME: usize = 31;
/// The most memory that a VM can have, in bytes.
pub(crate) const MAX_MEMORY: u64 = 1 << 40;

/// Most memory and device regions of all partition manifests together.
pub const MAX_REGIONS: usize = 512;
