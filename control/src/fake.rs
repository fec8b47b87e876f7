//! A kernel that only records the calls made to it.

use crate::kernel::{Kernel, Order};
use std::{io, time::Duration};
use vm_control::{
    Event, Scheduling, VmState,
    request::{CoreInfo, CrashInfo, Target, VcpuInfo, VmInfo},
};

/// VMs from number 2 on.
#[derive(Debug)]
pub struct Fake {
    vms: Vec<VmInfo>,
    pub calls: Vec<String>,
    pub time: Duration,
}

impl Fake {
    pub fn new(vms: &[(&str, u16, &str)]) -> Self {
        let vm = |(index, (name, vcpus, settings)): (u32, &(&str, u16, &str))| {
            let mut info = VmInfo::ask(index);
            (info.vm, info.vcpus) = (index as u16 + 2, *vcpus);
            VmInfo::put(&mut info.name, name);
            VmInfo::put(&mut info.settings, settings);
            info
        };
        Self { vms: (0..).zip(vms).map(vm).collect(), calls: Vec::new(), time: Duration::ZERO }
    }

    pub fn set(&mut self, vm: u16, state: VmState) {
        self.vms[usize::from(vm) - 2].state = state as u8;
    }
}

impl Kernel for Fake {
    fn vm(&mut self, index: u32) -> io::Result<Option<VmInfo>> {
        Ok(self.vms.get(index as usize).copied())
    }

    fn vcpu(&mut self, vm: u16, vcpu: u16) -> io::Result<VcpuInfo> {
        Ok(VcpuInfo { vm, vcpu, core: u32::from(vcpu), ..VcpuInfo::default() })
    }

    fn core(&mut self, core: u32) -> io::Result<Option<CoreInfo>> {
        Ok((core < 2).then_some(CoreInfo { core, online: 1, ..CoreInfo::default() }))
    }

    fn crash(&mut self, _: u16) -> io::Result<CrashInfo> {
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    fn order(&mut self, order: Order, target: Target) -> io::Result<()> {
        let Target { vm, vcpu, core } = target;
        self.calls.push(match order {
            Order::Start => format!("start {vm}"),
            Order::Stop => format!("stop {vm}"),
            Order::Pause => format!("pause {vm}"),
            Order::Resume => format!("resume {vm}"),
            Order::Assign => format!("assign {vm} {vcpu} {core}"),
        });
        Ok(())
    }

    fn switch(&mut self, core: u32, on: bool) -> io::Result<()> {
        self.calls.push(format!("core {core} {on}"));
        Ok(())
    }

    fn schedule(&mut self, vm: u16, scheduling: Scheduling) -> io::Result<()> {
        self.calls.push(format!("schedule {vm} {:?} {}", scheduling.policy, scheduling.parameter));
        Ok(())
    }

    fn wait(&mut self, _: Option<Duration>) -> io::Result<Vec<Event>> {
        Ok(Vec::new())
    }

    fn now(&mut self) -> Duration {
        self.time
    }
}
