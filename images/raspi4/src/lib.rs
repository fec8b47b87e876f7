//! Margay for the Raspberry Pi 4: hypervisor, scheduler VM and native kernel.
#![no_std]
