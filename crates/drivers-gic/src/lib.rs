//! GICv3 interrupt controller for kernels and hypervisors: distributor, redistributors and CPU interface.
#![no_std]
