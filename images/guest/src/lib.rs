//! Board-independent guest kernels: everything they need is para-virtual.
#![no_std]
