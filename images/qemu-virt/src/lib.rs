//! Margay for QEMU's virt machine: hypervisor, scheduler VM and native kernel.
#![no_std]
