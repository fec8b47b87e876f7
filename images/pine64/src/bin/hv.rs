//! The hypervisor for the Pine A64-LTS (Allwinner A64).
#![no_std]
#![no_main]

use hv_boards::GicV2;
use margay_pine64::PineA64;

hv_core::image!(PineA64<GicV2>);
