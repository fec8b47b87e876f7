//! HPC and noise benchmarks without an operating system: selfish-detour, STREAM and RandomAccess.
#![no_std]
