//! Error numbers of system calls.

/// The error number of a failed system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

/// Result of a system call.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! errors {
    ($($name:ident = $number:literal),* $(,)?) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`.")]
                pub const $name: Self = Self($number);
            )*
        }
    };
}

// Linux' uapi/asm-generic/errno-base.h and errno.h.
errors! {
    EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, ENXIO = 6, E2BIG = 7, ENOEXEC = 8, EBADF = 9, ECHILD = 10, EAGAIN = 11, ENOMEM = 12,
    EACCES = 13, EFAULT = 14, EBUSY = 16, EEXIST = 17, ENODEV = 19, ENOTDIR = 20, EISDIR = 21, EINVAL = 22,
    EMFILE = 24, ENOTTY = 25, EFBIG = 27, ENOSPC = 28, ESPIPE = 29, EROFS = 30, EPIPE = 32, ERANGE = 34,
    ENAMETOOLONG = 36, ENOSYS = 38, ENOTEMPTY = 39, ELOOP = 40, EOPNOTSUPP = 95, ETIMEDOUT = 110,
}

impl Errno {
    /// The call was interrupted by a signal, and is made again unless a handler without `SA_RESTART` runs
    /// (Linux' `ERESTARTSYS`; programs never see it).
    pub const RESTART: Self = Self(512);

    /// Returns the value of x0 for a program: the negated number.
    pub const fn in_register(self) -> u64 {
        -(self.0 as i64) as u64
    }
}

impl From<fallible::OutOfMemory> for Errno {
    fn from(_: fallible::OutOfMemory) -> Self {
        Self::ENOMEM
    }
}

impl From<memfs::FsError> for Errno {
    fn from(error: memfs::FsError) -> Self {
        use memfs::FsError;
        match error {
            FsError::NotFound => Self::ENOENT,
            FsError::NotADirectory => Self::ENOTDIR,
            FsError::IsADirectory => Self::EISDIR,
            FsError::Exists => Self::EEXIST,
            FsError::NotEmpty => Self::ENOTEMPTY,
            FsError::Loop => Self::ELOOP,
            FsError::NameTooLong => Self::ENAMETOOLONG,
            FsError::TooLarge => Self::EFBIG,
            FsError::NoSpace => Self::ENOSPC,
            FsError::Invalid => Self::EINVAL,
            FsError::Busy => Self::EBUSY,
        }
    }
}
