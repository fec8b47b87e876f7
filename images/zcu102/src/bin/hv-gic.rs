//! The hypervisor for the ZCU102 (Zynq UltraScale+ MPSoC), for VMs that expect a GIC of their own
//! (`margay,gic`).
#![no_std]
#![no_main]

use hv_boards::GicV2;
use margay_zcu102::Zcu102;

hv_core::image!(Zcu102<GicV2<true>>);
