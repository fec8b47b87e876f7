//! What the kernel does for the control task.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsRawFd,
    time::Duration,
};
use vm_control::{
    Event, Scheduling,
    request::{self, CoreInfo, CrashInfo, SetScheduling, Target, VcpuInfo, VmInfo},
};
use zerocopy::{FromBytes, IntoBytes};

/// A kernel that runs VMs.
pub trait Kernel {
    /// The VM with an index, from 0; `None` behind the last.
    fn vm(&mut self, index: u32) -> io::Result<Option<VmInfo>>;
    /// Of a vCPU.
    fn vcpu(&mut self, vm: u16, vcpu: u16) -> io::Result<VcpuInfo>;
    /// The core with an index; `None` behind the last.
    fn core(&mut self, core: u32) -> io::Result<Option<CoreInfo>>;
    /// Why a VM was stopped.
    fn crash(&mut self, vm: u16) -> io::Result<CrashInfo>;
    /// One of `VM_START`, `VM_STOP`, `VM_PAUSE`, `VM_RESUME`, `VCPU_ASSIGN`.
    fn order(&mut self, order: Order, target: Target) -> io::Result<()>;
    /// Switches a core off or on.
    fn switch(&mut self, core: u32, on: bool) -> io::Result<()>;
    /// How a VM's cores are shared out.
    fn schedule(&mut self, vm: u16, scheduling: Scheduling) -> io::Result<()>;
    /// What has happened, at the latest after some time: nothing then.
    fn wait(&mut self, at_most: Option<Duration>) -> io::Result<Vec<Event>>;
    /// Makes the kernel's `n`-th allocation fail during each request from now on; 0: none. Returns whether
    /// one has failed since this was asked for before.
    fn fail_allocation(&mut self, _n: u64) -> bool {
        false
    }
    /// Time since boot.
    fn now(&mut self) -> Duration;

    /// All VMs.
    fn vms(&mut self) -> io::Result<Vec<VmInfo>> {
        let mut all = Vec::new();
        while let Some(vm) = self.vm(all.len() as u32)? {
            all.push(vm);
        }
        Ok(all)
    }
}

/// What changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Start,
    Stop,
    Pause,
    Resume,
    Assign,
}

impl Order {
    const fn request(self) -> u32 {
        match self {
            Self::Start => request::VM_START,
            Self::Stop => request::VM_STOP,
            Self::Pause => request::VM_PAUSE,
            Self::Resume => request::VM_RESUME,
            Self::Assign => request::VCPU_ASSIGN,
        }
    }
}

/// The kernel that this program runs on.
#[derive(Debug)]
pub struct Device {
    file: File,
    /// Which allocation is to fail, and whether one has.
    fails: u64,
    has_failed: bool,
}

/// Margay's own system call for that, in kernels that have `fail-allocations` on their command line.
const FAIL_ALLOCATION: libc::c_long = 0x4d05;

impl Device {
    /// Opens `/dev/margay`.
    pub fn open() -> io::Result<Self> {
        let mut device = Self { file: File::open("/dev/margay")?, fails: 0, has_failed: false };
        let mut version = 0_u32;
        device.request(request::VERSION, &mut version)?;
        if version != request::VERSION_NOW {
            return Err(io::Error::other(format!("the kernel speaks version {version} of /dev/margay")));
        }
        Ok(device)
    }

    fn request<T: FromBytes + IntoBytes>(&mut self, number: u32, value: &mut T) -> io::Result<()> {
        let file = self.file.as_raw_fd();
        self.failing(|| {
            // SAFETY: the number has the size of `T` in it, of which any bytes are a value.
            let result = unsafe { libc::ioctl(file, number as _, std::ptr::from_mut(value)) };
            if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        })
    }

    /// Does something with an allocation of the kernel failing, if that is wanted. Nothing else of this
    /// program may need memory meanwhile.
    fn failing(&mut self, f: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.fails == 0 {
            return f();
        }
        // SAFETY: the call has two numbers as arguments.
        let fail = |n: u64| unsafe { libc::syscall(FAIL_ALLOCATION, n, 0) };
        fail(self.fails);
        let result = f();
        self.has_failed |= fail(0) == 0;
        result
    }

    /// As `request`; `None` if there is no such thing.
    fn find<T: FromBytes + IntoBytes>(&mut self, number: u32, mut value: T) -> io::Result<Option<T>> {
        match self.request(number, &mut value) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Kernel for Device {
    fn vm(&mut self, index: u32) -> io::Result<Option<VmInfo>> {
        self.find(request::VM_INFO, VmInfo::ask(index))
    }

    fn vcpu(&mut self, vm: u16, vcpu: u16) -> io::Result<VcpuInfo> {
        let mut info = VcpuInfo { vm, vcpu, ..VcpuInfo::default() };
        self.request(request::VCPU_INFO, &mut info)?;
        Ok(info)
    }

    fn core(&mut self, core: u32) -> io::Result<Option<CoreInfo>> {
        self.find(request::CORE_INFO, CoreInfo { core, ..CoreInfo::default() })
    }

    fn crash(&mut self, vm: u16) -> io::Result<CrashInfo> {
        let mut info = CrashInfo { vm, ..CrashInfo::default() };
        self.request(request::CRASH_INFO, &mut info)?;
        Ok(info)
    }

    fn order(&mut self, order: Order, mut target: Target) -> io::Result<()> {
        self.request(order.request(), &mut target)
    }

    fn switch(&mut self, core: u32, on: bool) -> io::Result<()> {
        let path = format!("/sys/devices/system/cpu/cpu{core}/online");
        let mut file = File::options().write(true).open(path)?;
        self.failing(|| file.write_all(if on { b"1" } else { b"0" }))
    }

    fn schedule(&mut self, vm: u16, scheduling: Scheduling) -> io::Result<()> {
        self.request(request::VM_SCHEDULING, &mut SetScheduling::new(vm, scheduling))
    }

    fn wait(&mut self, at_most: Option<Duration>) -> io::Result<Vec<Event>> {
        let mut list = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // Rounded up: what is waited for has happened then.
        let ms =
            at_most.map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        // SAFETY: one entry, which lives.
        match unsafe { libc::poll(&raw mut list, 1, ms) } {
            0 => return Ok(Vec::new()),
            1.. => {}
            _ => return Err(io::Error::last_os_error()),
        }
        let mut buffer = [0; 64 * size_of::<Event>()];
        let length = self.file.read(&mut buffer)?;
        let events = buffer[..length].chunks_exact(size_of::<Event>());
        Ok(events.filter_map(|bytes| Event::read_from_bytes(bytes).ok()).collect())
    }

    fn fail_allocation(&mut self, n: u64) -> bool {
        self.fails = n;
        std::mem::take(&mut self.has_failed)
    }

    fn now(&mut self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one structure. The clock exists.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}
