//! Margay for the Pine A64-LTS (Allwinner A64): hypervisor, scheduler VM and native kernel.
#![no_std]
