//! Who a program is, where it runs, what it may have.

use crate::{
    arch::UserFrame,
    memory, time,
    user::{
        copy,
        errno::{Errno, Result},
        files, image, process, random, signal,
        thread::{self, UserThread},
    },
};

/// `NEW_UTS_LEN` and a NUL.
const UTS: usize = 65;
const RLIM_INFINITY: u64 = u64::MAX;
const RLIMITS: u64 = 16;
const RLIMIT_STACK: u64 = 3;
const RLIMIT_CORE: u64 = 4;
const RLIMIT_NOFILE: u64 = 7;
const RLIMIT_SIGPENDING: u64 = 11;
const PR_SET_NAME: u64 = 15;
const PR_GET_NAME: u64 = 16;
/// The most bytes of one `getrandom`, as Linux.
const MOST_RANDOM: u64 = (32 << 20) - 1;

pub fn getpid(thread: &UserThread, _: &mut UserFrame) -> Result<u64> {
    Ok(u64::from(thread.process().id()))
}

pub fn getppid(thread: &UserThread, _: &mut UserFrame) -> Result<u64> {
    Ok(u64::from(thread.process().parent()))
}

/// There is one user.
pub fn root(_: &UserThread, _: &mut UserFrame) -> Result<u64> {
    Ok(0)
}

/// `struct utsname`. C libraries refuse to start under what looks like an old Linux, so the release is a
/// Linux one: that of the interface which is followed.
pub fn uname(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let fields = [
        "Linux",
        "margay",
        "6.12.0-margay",
        concat!("Margay LWK ", env!("CARGO_PKG_VERSION")),
        "aarch64",
        "",
    ];
    let mut text = [0; 6 * UTS];
    for (field, place) in fields.iter().zip(text.chunks_mut(UTS)) {
        place[..field.len()].copy_from_slice(field.as_bytes());
    }
    copy::write_bytes(frame.x[0], &text)?;
    Ok(0)
}

pub fn prlimit64(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [process, resource, new, old, ..] = frame.x;
    if process != 0 && process != u64::from(thread.process().id()) {
        return Err(Errno::ESRCH);
    }
    if resource >= RLIMITS {
        return Err(Errno::EINVAL);
    }
    let limit = match resource {
        RLIMIT_STACK => image::STACK,
        RLIMIT_CORE => 0,
        RLIMIT_NOFILE => files::MOST_OPEN as u64,
        RLIMIT_SIGPENDING => signal::MOST_PENDING as u64,
        _ => RLIM_INFINITY,
    };
    if new != 0 {
        // Limits are what they are; one that asks for no more than that has it.
        let [wanted, _] = copy::read::<[u64; 2]>(new)?;
        if wanted > limit {
            return Err(Errno::EPERM);
        }
    }
    copy::write_if(old, &[limit, limit])?;
    Ok(0)
}

pub fn getrandom(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [to, size, flags, ..] = frame.x;
    if flags & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let size = size.min(MOST_RANDOM);
    let mut piece = [0; 256];
    let mut done = 0;
    while done < size {
        let count = piece.len().min((size - done) as usize);
        random::fill(&mut piece[..count]);
        copy::write_bytes(to.wrapping_add(done), &piece[..count])?;
        done += count as u64;
    }
    Ok(size)
}

/// `struct sysinfo`.
pub fn sysinfo(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let uptime = process::clock().nanoseconds(time::stopwatch()) / 1_000_000_000;
    let mut words = [0_u64; 14];
    words[0] = uptime;
    words[4] = crate::user::memory_bytes();
    words[5] = memory::free_bytes();
    // `procs` is 16 bits, and after two numbers of high memory comes the unit: 1 byte.
    words[10] = thread.process().thread_count() as u64;
    words[13] = 1;
    copy::write(frame.x[0], &words)?;
    Ok(0)
}

pub fn prctl(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    match frame.x[0] {
        PR_SET_NAME => {
            let name = copy::read_prefix::<15>(frame.x[1])?;
            thread.set_name(thread::name(&name));
            Ok(0)
        }
        PR_GET_NAME => copy::write(frame.x[1], &thread.name()).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}
