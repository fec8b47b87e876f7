//! A para-virtual interrupt controller: the hypervisor half as a state machine and the guest half as a driver.
#![no_std]
