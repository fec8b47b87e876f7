//! What a process runs: a file of the root file system, loaded into an address space.

use super::{
    errno::{Errno, Result},
    files::{buffer, check_memory, with_files},
    process::clock,
    space::{self, Space, range},
};
use crate::{arch, memory::Phys, task::Mutex};
use address_space::{PAGE, Purpose};
use alloc::vec::Vec;
use core::fmt;
use fallible::{Arc, TryVec as _};
use linux_program::{
    Access, Credentials, ElfError, Hwcaps, InitialStack, Limits, MIN_SIGNAL_STACK, Placed, Program, Symbols,
    UserAddr, UserRange, cpuid::Mrs, hwcap::IdRegisters, vdso::CONTENTS,
};
use memfs::{NodeId, Start};
use spin::Once;

/// Size of the first thread's stack, unless the program says otherwise.
pub const STACK: u64 = 8 << 20;
/// Maximum size of arguments and environment on the stack.
pub const STRINGS: u64 = 2 << 20;

/// Program to run, with its arguments and environment.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its file in the root file system.
    pub path: Vec<u8>,
    /// `argv`.
    pub arguments: Vec<Vec<u8>>,
    /// `envp`, each `NAME=value`.
    pub environment: Vec<Vec<u8>>,
}

/// Why a program cannot be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// It cannot be found.
    File(Errno),
    /// Its file is no program that runs here.
    Program(ElfError),
    /// It does not fit.
    Memory(Errno),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(_) => f.write_str("there is no such file"),
            Self::Program(error) => error.fmt(f),
            Self::Memory(_) => f.write_str("there is not enough memory for it"),
        }
    }
}

impl From<LoadError> for Errno {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::File(error) | LoadError::Memory(error) => error,
            LoadError::Program(_) => Self::ENOEXEC,
        }
    }
}

/// Open program file, which exists while something runs it, even if its name is removed.
#[derive(Debug)]
struct ProgramFile(NodeId);

impl ProgramFile {
    fn new(start: Start, path: &[u8]) -> Result<Self> {
        with_files(|files| {
            let node = files.find(start, path, true)?;
            match files.kind(node) {
                memfs::Kind::File => {}
                _ => return Err(Errno::EACCES),
            }
            files.open(node)?;
            Ok(Self(node))
        })
    }

    /// Works with its bytes: those of the archive, or a copy of what has been written; `ENOMEM` if there is
    /// no room for one.
    fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        // What is in the archive never changes: nobody else has to wait.
        if let Some(bytes) = with_files(|files| files.archived(self.0)) {
            return Ok(f(bytes));
        }
        let copy = with_files(|files| {
            check_memory()?;
            let mut copy = buffer(files.stat(self.0).size as usize)?;
            files.read_at(self.0, 0, &mut copy)?;
            Ok::<_, Errno>(copy)
        })?;
        Ok(f(&copy))
    }
}

impl Drop for ProgramFile {
    fn drop(&mut self) {
        with_files(|files| files.close(self.0));
    }
}

/// Program of a process, for messages and backtraces.
#[derive(Debug)]
pub struct Image {
    /// The path of its program.
    pub path: Vec<u8>,
    file: ProgramFile,
    bias: u64,
}

impl Image {
    /// The last part of its path.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// Works with the names of its functions.
    pub fn with_symbols<R>(&self, mut f: impl FnMut(Option<Symbols<'_>>) -> R) -> R {
        self.file.with_bytes(|bytes| f(Symbols::new(bytes, self.bias))).unwrap_or_else(|_| f(None))
    }
}

/// A program in an address space of its own, with its first stack.
#[derive(Debug)]
pub struct Loaded {
    pub image: Arc<Image>,
    pub space: Arc<Mutex<Space>>,
    pub entry: UserAddr,
    pub sp: UserAddr,
}

impl Loaded {
    /// Loads a program, whose path may begin at a directory.
    pub fn new(start: Start, command: &Command) -> core::result::Result<Self, LoadError> {
        let path = &command.path;
        let file = ProgramFile::new(start, path).map_err(LoadError::File)?;
        let loaded = file.with_bytes(|bytes| {
            let program = Program::parse(bytes).map_err(LoadError::Program)?;
            let limits = Limits {
                addresses: range(space::LOWEST, UserAddr::new(1 << 35)),
                memory: crate::memory::free_bytes(),
            };
            let placed = program.place(space::PROGRAM, &limits).map_err(LoadError::Program)?;
            let mut space = Space::new().map_err(LoadError::Memory)?;
            load(&mut space, &placed).map_err(LoadError::Memory)?;
            let sp = make_stack(&mut space, &placed, command).map_err(LoadError::Memory)?;
            Ok((space, placed.entry(), sp, placed.bias()))
        });
        let (space, entry, sp, bias) = loaded.map_err(LoadError::Memory)??;
        let no_memory = |_| LoadError::Memory(Errno::ENOMEM);
        let path = Vec::try_copy_of(path).map_err(no_memory)?;
        let image = Arc::try_new(Image { path, file, bias }).map_err(no_memory)?;
        let space = Arc::try_new(Mutex::new(space)).map_err(no_memory)?;
        Ok(Self { image, space, entry, sp })
    }
}

/// The identification registers that programs see, and their capabilities.
fn processor() -> &'static (IdRegisters, Hwcaps) {
    static PROCESSOR: Once<(IdRegisters, Hwcaps)> = Once::new();
    PROCESSOR.call_once(|| {
        let registers = arch::identification();
        let mut caps = Hwcaps::of(&registers, linux_program::hwcap::Allowed::default());
        caps.hwcap |= Hwcaps::CPUID;
        (registers, caps)
    })
}

/// The hardware capabilities that programs get in `AT_HWCAP` and `AT_HWCAP2`.
pub fn hwcaps() -> Hwcaps {
    processor().1
}

/// Returns the value that a program's `MRS` of an ID register reads.
pub fn read_id_register(mrs: Mrs) -> u64 {
    mrs.value(arch::main_id().0, &processor().0)
}

fn clock_page() -> Phys {
    static PAGE_OF_CLOCK: Once<Phys> = Once::new();
    *PAGE_OF_CLOCK.call_once(|| {
        let mut block = crate::memory::allocate(PAGE).expect("no memory for the clock's page");
        block.as_slice::<u8>()[..linux_program::vdso::Clock::SIZE].copy_from_slice(&clock().encode());
        Phys::of_linear(block.leak().as_ptr()).expect("blocks are in the linear map")
    })
}

fn vdso_page() -> Phys {
    static PAGE_OF_VDSO: Once<Phys> = Once::new();
    *PAGE_OF_VDSO.call_once(|| {
        let mut block = crate::memory::allocate(PAGE).expect("no memory for the vDSO");
        block.as_slice::<u8>()[..CONTENTS.len()].copy_from_slice(&CONTENTS);
        let page = block.leak();
        arch::synchronise_code(page.as_ptr(), page.len());
        Phys::of_linear(page.as_ptr()).expect("blocks are in the linear map")
    })
}

/// Puts a program's segments into an address space, with vDSO and heap.
fn load(space: &mut Space, placed: &Placed<'_>) -> Result<()> {
    for segment in placed.segments() {
        let UserRange { start, .. } = segment.pages;
        // Written before the program may only read it.
        space.map(segment.pages.len(), Some(start), true, segment.access, Purpose::Program, false)?;
        space.write(segment.range.start, segment.contents)?;
        if segment.access.execute {
            space.synchronise_code(segment.pages);
        }
    }
    space.set_heap(placed.heap());
    let read = Access { read: true, write: false, execute: false };
    let clock_at = UserAddr::new(space::VDSO.get() - PAGE);
    space.map_kernel(clock_at, clock_page(), PAGE, read)?;
    space.map_kernel(space::VDSO, vdso_page(), PAGE, Access { execute: true, ..read })
}

/// Makes the first thread's stack; returns its stack pointer.
fn make_stack(space: &mut Space, placed: &Placed<'_>, command: &Command) -> Result<UserAddr> {
    let wanted = placed.program().stack().size.unwrap_or(STACK);
    let size = wanted.max(4 * PAGE).checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
    let data = Access { read: true, write: true, execute: false };
    let bottom = space::STACK_TOP.get().checked_sub(size).ok_or(Errno::ENOMEM)?;
    space.map(size, Some(UserAddr::new(bottom)), true, data, Purpose::Stack, false)?;
    let mut random = [0; 16];
    super::random::fill(&mut random);
    let first = InitialStack {
        arguments: command.arguments.iter().map(Vec::as_slice),
        environment: command.environment.iter().map(Vec::as_slice),
        file_name: &command.path,
        program: placed,
        random,
        hwcaps: hwcaps(),
        credentials: Credentials::default(),
        vdso: Some(space::VDSO),
        min_signal_stack: MIN_SIGNAL_STACK,
        restartable: true,
    };
    let needed = first.size().map_err(|_| Errno::EINVAL)? as u64;
    if needed > STRINGS.min(size / 2) {
        return Err(Errno::E2BIG);
    }
    let mut memory = buffer(needed as usize)?;
    let sp = first.write(space::STACK_TOP, &mut memory).map_err(|_| Errno::E2BIG)?;
    let used = (space::STACK_TOP.get() - sp.get()) as usize;
    space.write(sp, &memory[memory.len() - used..])?;
    Ok(sp)
}
