//! Applications that are linked into LWK images: functions from [`lwk_core::app::App`] to a status.
#![no_std]

#[cfg(target_os = "none")]
pub mod hpc;
