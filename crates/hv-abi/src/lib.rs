//! The contract between the Margay hypervisor and its VMs: call numbers, typed requests, exit reasons and guest-side wrappers.
#![no_std]
