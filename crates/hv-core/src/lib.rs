//! The Margay hypervisor as a library: VMs, vCPUs, memory ownership, hypercalls, traps and the run path.
#![no_std]
