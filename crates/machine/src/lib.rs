//! What a device tree says of a machine: memory, cores, PSCI conduit, interrupt controller, timer and console.
#![no_std]
