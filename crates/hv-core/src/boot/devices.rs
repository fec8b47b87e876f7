//! The devices of VMs, checked against the machine.

use super::{Bundle, fail, load};
use crate::{
    arch, board,
    console::Text,
    devices::{self, Devices},
    plan::Region,
    report,
};
use alloc::vec::Vec;
use machine::Machine;

/// The devices of the VM that has some.
#[inline(never)]
pub(super) fn devices<'a>(machine: &'a Machine<'a>, bundle: &Bundle<'_>, ram: &[Region]) -> Devices<'a> {
    let Some(spec) = bundle.vms().iter().find(|vm| vm.devices) else { return Devices::none(machine) };
    let mut taken = Vec::new();
    board::devices(machine, &mut |base, bytes| taken.push(devices::pages(base, bytes)));
    taken.extend(ram.iter().map(|region| devices::pages(region.base, region.len)));
    taken.extend(bundle.devices().iter().map(|(_, device)| Region::new(device.address, device.bytes)));
    let policy = devices::Policy {
        allowed: board::allowed(),
        granted: spec.granted_devices,
        taken: &taken,
        limit: 1 << arch::pa_bits(),
    };
    let primary = spec.kind == ::bundle::Kind::Primary;
    let devices = Devices::new(machine, primary, load::controllers(spec), &policy);
    devices.announce(spec.debug_name, &policy);
    devices
}

/// Sees to it that registers given to VMs are those of devices, and neither memory nor the hypervisor's own.
pub(super) fn check_devices(machine: &Machine<'_>, bundle: &Bundle<'_>, ram: &[Region], reserved: &[Region]) {
    for (vm, device) in bundle.devices() {
        let this = Region::new(device.address, device.bytes);
        let refuse = |why: &str| -> ! {
            let (file, name, why) = (Text(bundle.file_of(*vm)), Text(device.name), Text(why));
            fail!("{file}: /device-regions/{name}: base-address: what is at {this} is {why}")
        };
        let within = |list: &[Region]| list.iter().any(|other| other.intersect(this).is_some());
        if within(ram) || within(reserved) {
            refuse("memory");
        }
        board::devices(machine, &mut |base, bytes| {
            if devices::pages(base, bytes).intersect(this).is_some() {
                refuse("the hypervisor's");
            }
        });
        // Whatever is there, page by page: devices may be side by side, and smaller than a page.
        let mut at = this.base;
        while at < this.end() {
            let mut end = at;
            machine.for_each_device(&mut |_, device| {
                let device = devices::pages(device.base, device.size);
                if device.contains(at) {
                    end = end.max(device.end());
                }
            });
            if end == at {
                refuse("no device");
            }
            at = end;
        }
    }
}
