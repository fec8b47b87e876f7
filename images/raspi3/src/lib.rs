//! Margay for the Raspberry Pi 3: hypervisor, scheduler VM and native kernel.
#![no_std]
