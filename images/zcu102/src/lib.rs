//! Margay for the ZCU102 (Zynq UltraScale+ MPSoC): hypervisor, scheduler VM and native kernel.
#![no_std]
