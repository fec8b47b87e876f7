//! The ARM generic timer: physical, virtual and hypervisor channels, and the virtual timer of a vCPU.
#![no_std]
