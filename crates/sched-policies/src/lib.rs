//! Scheduling policies as plain data structures: no kernel, no clock, no allocation.
#![no_std]
