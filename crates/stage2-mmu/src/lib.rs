//! Stage-2 translation tables for AArch64: map, unmap, walk, block splitting and break-before-make.
#![no_std]
