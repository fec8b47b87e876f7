//! Signals: sent, kept, delivered on the program's stack, and returned from.
//!
//! The frame is Linux' for AArch64 (`uapi/asm/sigcontext.h`, `ucontext.h`): C libraries and unwinders know
//! it. A signal that is pending already is not queued a second time, but for real-time signals.

use super::{
    copy,
    errno::{Errno, Result},
    pending::Pending,
    process::{End, Process},
    report, space,
    thread::{UserThread, work},
};
use crate::arch::{self, UserFrame};
use linux_program::vdso;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Signals have the numbers from 1 to this.
pub const MOST: u32 = 64;
pub const SIGABRT: u32 = 6;
pub const SIGBUS: u32 = 7;
pub const SIGFPE: u32 = 8;
pub const SIGILL: u32 = 4;
pub const SIGKILL: u32 = 9;
pub const SIGCHLD: u32 = 17;
pub const SIGPIPE: u32 = 13;
pub const SIGSEGV: u32 = 11;
pub const SIGSTOP: u32 = 19;
pub const SIGTRAP: u32 = 5;
/// Synchronous signals, which are delivered first.
pub const FAULTS: u64 = bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGFPE);
/// By default, nothing happens: SIGCHLD, SIGCONT, SIGURG, SIGWINCH. Nor does a program stop: SIGTSTP,
/// SIGTTIN, SIGTTOU.
const IGNORED: [u32; 7] = [17, 18, 20, 21, 22, 23, 28];

/// The most signals that wait for a thread or a process: what `RLIMIT_SIGPENDING` says.
pub const MOST_PENDING: usize = 1024;

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
const SA_NOCLDWAIT: u64 = 2;
const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
const SS_ONSTACK: i32 = 1;
const SS_DISABLE: i32 = 2;
/// `MINSIGSTKSZ`.
const SMALLEST_STACK: u64 = 5120;

/// `si_code`: by `kill`, by `tgkill`, by the kernel.
pub const SI_USER: i32 = 0;
pub const SI_KERNEL: i32 = 0x80;
pub const SI_TKILL: i32 = -6;

/// The bit of a signal in a mask.
pub const fn bit(number: u32) -> u64 {
    1 << (number - 1)
}

/// A signal on its way.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    pub number: u32,
    pub code: i32,
    /// Of a fault: the address. Otherwise who sent it, number of process and user.
    pub value: u64,
    /// What follows that in `siginfo_t`: `si_value`, or `si_status`.
    pub more: u64,
    /// Of a fault.
    pub syndrome: u64,
}

/// `struct sigaction` of the kernel's interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

/// A process's signal actions, and the signals that any of its threads may take.
#[derive(Debug)]
pub struct ProcessSignals {
    actions: [Action; MOST as usize + 1],
    pub(super) pending: Pending,
}

impl ProcessSignals {
    /// The default for all.
    pub const fn new() -> Self {
        Self {
            actions: [Action { handler: SIG_DFL, flags: 0, restorer: 0, mask: 0 }; MOST as usize + 1],
            pending: Pending::new(),
        }
    }

    /// Gives an action, and takes another one.
    pub fn action(&mut self, number: u32, new: Option<Action>) -> Result<Action> {
        if number == 0 || number > MOST || new.is_some() && [SIGKILL, SIGSTOP].contains(&number) {
            return Err(Errno::EINVAL);
        }
        let old = self.actions[number as usize];
        if let Some(new) = new {
            self.actions[number as usize] = new;
        }
        Ok(old)
    }

    /// The actions of a new process: these, or without handlers.
    pub fn copied(&self, without_handlers: bool) -> Self {
        let mut copy = Self { actions: self.actions, pending: Pending::new() };
        if without_handlers {
            copy.forget_handlers();
        }
        copy
    }

    /// The default for what has a handler: their code is gone.
    pub fn forget_handlers(&mut self) {
        for action in &mut self.actions {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = Action { handler, ..Action::default() };
        }
    }

    /// Returns whether nobody will wait for children.
    pub fn forgets_children(&self) -> bool {
        let action = &self.actions[SIGCHLD as usize];
        action.handler == SIG_IGN || action.flags & SA_NOCLDWAIT != 0
    }

    pub(super) fn ignores(&self, number: u32) -> bool {
        match self.actions[number as usize].handler {
            SIG_IGN => true,
            SIG_DFL => IGNORED.contains(&number),
            _ => false,
        }
    }
}

/// `stack_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AltStack {
    pub start: u64,
    pub flags: i32,
    pub padding: u32,
    pub size: u64,
}

const NO_STACK: AltStack = AltStack { start: 0, flags: SS_DISABLE, padding: 0, size: 0 };

/// Signal state of a thread.
#[derive(Debug)]
pub struct ThreadSignals {
    pub mask: u64,
    /// The mask that comes back after a handler (`rt_sigsuspend`).
    saved_mask: Option<u64>,
    /// The signals that `rt_sigtimedwait` waits for, blocked or not.
    pub(super) awaited: u64,
    pending: Pending,
    stack: AltStack,
}

impl ThreadSignals {
    /// With a mask, and nothing pending.
    pub const fn new(mask: u64) -> Self {
        Self { mask, saved_mask: None, awaited: 0, pending: Pending::new(), stack: NO_STACK }
    }

    /// The signals that are pending for this thread alone, as a mask.
    pub fn pending(&self) -> u64 {
        self.pending.set()
    }

    /// As with a new program: what is pending and the mask stay, the stack is gone.
    pub fn renew(&mut self) {
        (self.saved_mask, self.stack) = (None, NO_STACK);
    }

    /// The mask to wait with, until a handler has run.
    pub fn suspend(&mut self, mask: u64) {
        self.saved_mask = Some(self.mask);
        self.mask = mask & !UNBLOCKABLE;
    }

    /// Ends [`suspend`](Self::suspend) if no handler is to run.
    fn resume(&mut self) {
        if let Some(mask) = self.saved_mask.take() {
            self.mask = mask;
        }
    }

    fn on_stack(&self, sp: u64) -> bool {
        self.stack.flags & SS_DISABLE == 0 && sp.wrapping_sub(self.stack.start) <= self.stack.size
    }

    /// `sigaltstack`: the old one, and a new one.
    pub fn alternative(&mut self, sp: u64, new: Option<AltStack>) -> Result<AltStack> {
        let mut old = self.stack;
        if self.on_stack(sp) {
            old.flags |= SS_ONSTACK;
        }
        if let Some(new) = new {
            if old.flags & SS_ONSTACK != 0 {
                return Err(Errno::EPERM);
            }
            if new.flags & !(SS_DISABLE | SS_ONSTACK) != 0 {
                return Err(Errno::EINVAL);
            }
            self.stack = if new.flags & SS_DISABLE != 0 {
                NO_STACK
            } else if new.size < SMALLEST_STACK {
                return Err(Errno::ENOMEM);
            } else {
                AltStack { flags: 0, ..new }
            };
        }
        Ok(old)
    }
}

/// Signals that cannot be blocked.
pub const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);

impl UserThread {
    /// Returns whether this thread would take a signal now, because it does not block it or waits for it.
    pub fn takes(&self, number: u32) -> bool {
        let signals = self.signals.lock();
        (!signals.mask | signals.awaited) & bit(number) != 0
    }

    /// Returns whether this thread blocks a signal.
    pub fn is_blocked(&self, number: u32) -> bool {
        self.signals.lock().mask & bit(number) != 0
    }

    /// The signals that are pending for this thread or its process, as a mask.
    pub fn pending_signals(&self) -> u64 {
        let own = self.signals.lock().pending();
        own | self.process().signals.lock().pending.set()
    }

    /// Returns whether a pending signal is not blocked.
    pub fn has_deliverable(&self) -> bool {
        let pending = self.pending_signals();
        pending & !self.signals.lock().mask != 0
    }

    /// Takes a pending signal of a set, blocked or not: the thread's own before the process's.
    pub fn take_signal(&self, set: u64) -> Option<Info> {
        let own = self.signals.lock().pending.take(set);
        own.or_else(|| self.process().signals.lock().pending.take(set))
    }

    /// Sends a signal to this thread. False if there was no room for it in the queue.
    pub fn signal(&self, info: Info) -> bool {
        let ignored = self.process().signals.lock().ignores(info.number);
        let (kept, wakes) = {
            let mut signals = self.signals.lock();
            let takes = (!signals.mask | signals.awaited) & bit(info.number) != 0;
            let discarded = ignored && signals.mask & bit(info.number) == 0;
            (discarded || signals.pending.add(info), takes && !discarded)
        };
        if wakes {
            self.notify_signal();
        }
        kept
    }

    /// Makes the thread look for signals, wherever it is.
    pub fn notify_signal(&self) {
        self.add_work(work::SIGNAL);
        self.kick();
    }

    /// A fault of the program itself: it gets the signal now, or ends.
    pub fn fault(&self, info: Info) {
        let handler = self.process().signals.lock().actions[info.number as usize].handler;
        let blocked = self.signals.lock().mask & bit(info.number) != 0;
        if blocked || handler == SIG_IGN || handler == SIG_DFL {
            self.process().signals.lock().actions[info.number as usize].handler = SIG_DFL;
            self.signals.lock().mask &= !bit(info.number);
        }
        self.signals.lock().pending.add_fault(info);
        self.add_work(work::SIGNAL);
    }

    /// Changes the mask. Signals of the process that this thread blocks from now on go to another thread.
    pub fn set_mask(&self, mask: u64) {
        let mask = mask & !UNBLOCKABLE;
        let before = core::mem::replace(&mut self.signals.lock().mask, mask);
        if self.has_deliverable() {
            self.add_work(work::SIGNAL);
        }
        if mask & !before != 0 {
            self.process().retarget_signals(mask & !before);
        }
    }

    /// Waits with another mask: `wait` with it, and the old one again unless a handler is to run.
    pub fn with_mask<R>(&self, mask: Option<u64>, wait: impl FnOnce() -> Result<R>) -> Result<R> {
        let Some(mask) = mask else { return wait() };
        self.signals.lock().suspend(mask);
        if self.has_deliverable() {
            self.add_work(work::SIGNAL);
        }
        let result = wait();
        if !matches!(result, Err(Errno::EINTR | Errno::RESTART)) {
            self.signals.lock().resume();
        }
        result
    }
}

/// Delivers what is pending, before the program goes on.
pub fn deliver(thread: &UserThread, frame: &mut UserFrame) {
    let restarts = thread.restarts.swap(false, core::sync::atomic::Ordering::Relaxed);
    let without_handler = thread.without_handler.swap(false, core::sync::atomic::Ordering::Relaxed);
    let again = |frame: &mut UserFrame| {
        frame.x[0] = thread.argument.load(core::sync::atomic::Ordering::Relaxed);
        frame.pc -= 4;
    };
    let mut first = true;
    loop {
        let allowed = !thread.signals.lock().mask;
        let Some(info) = thread.take_signal(allowed) else { break };
        let action = {
            let mut signals = thread.process().signals.lock();
            let action = signals.actions[info.number as usize];
            if action.flags & SA_RESETHAND != 0 && action.handler > SIG_IGN {
                signals.actions[info.number as usize].handler = SIG_DFL;
            }
            action
        };
        match action.handler {
            SIG_IGN => continue,
            SIG_DFL if IGNORED.contains(&info.number) => continue,
            SIG_DFL => {
                kill(thread, frame, &info);
                return;
            }
            _ => {}
        }
        thread.wakes_at.store(0, core::sync::atomic::Ordering::Relaxed);
        if core::mem::take(&mut first) && restarts {
            if action.flags & SA_RESTART != 0 && !without_handler {
                again(frame);
            } else {
                frame.x[0] = Errno::EINTR.in_register();
            }
        }
        // What the handler returns to is not in a critical section any more.
        thread.restart_sequence(frame);
        if enter_handler(thread, frame, &info, &action).is_err() {
            // There is no room for the frame: no signal can be delivered to the program any more.
            let full = Info { number: SIGSEGV, code: 1, value: frame.sp, more: 0, syndrome: 0 };
            kill(thread, frame, &full);
            return;
        }
    }
    if first {
        if restarts {
            again(frame);
        }
        // Nothing was delivered: a mask that was only for the wait comes back.
        thread.signals.lock().resume();
    }
}

fn kill(thread: &UserThread, frame: &UserFrame, info: &Info) {
    let process = thread.process();
    if process.how().is_none() {
        report::killed(thread, frame, info);
    }
    process.end(End::Killed(info.number));
}

const FPSIMD_MAGIC: u32 = 0x4650_8001;
const ESR_MAGIC: u32 = 0x4553_5201;

/// `siginfo_t`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SigInfo {
    number: i32,
    errno: i32,
    pub code: i32,
    padding: u32,
    pub value: u64,
    pub more: u64,
    rest: [u64; 12],
}

impl From<&Info> for SigInfo {
    fn from(info: &Info) -> Self {
        let &Info { number, code, value, more, .. } = info;
        Self { number: number as i32, errno: 0, code, padding: 0, value, more, rest: [0; 12] }
    }
}

/// `struct rt_sigframe` up to the records of `sigcontext`, with the records that are written, and the frame
/// record.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct SignalFrame {
    info: SigInfo,
    flags: u64,
    link: u64,
    stack: AltStack,
    mask: u64,
    mask_room: [u64; 15],
    to_16: u64,
    fault_address: u64,
    x: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
    to_16_again: u64,
    fp_magic: u32,
    fp_size: u32,
    fpsr: u32,
    fpcr: u32,
    q: [u128; 32],
    esr_magic: u32,
    esr_size: u32,
    esr: u64,
    records_end: [u64; 2],
}

/// `__reserved` of `sigcontext`, and where it begins in the frame.
const RECORDS: usize = 4096;
const RECORDS_AT: usize = core::mem::offset_of!(SignalFrame, fp_magic);
const _: () =
    assert!(RECORDS_AT == 128 + 464 && core::mem::offset_of!(SignalFrame, fault_address) == 128 + 176);
/// Bytes of `struct rt_sigframe`.
const FRAME_SIZE: u64 = (RECORDS_AT + RECORDS) as u64;

/// Makes the program continue in its handler.
fn enter_handler(thread: &UserThread, frame: &mut UserFrame, info: &Info, action: &Action) -> Result<()> {
    let state = thread.registers();
    let (mask, stack, top) = {
        let signals = thread.signals.lock();
        let alternative = action.flags & SA_ONSTACK != 0
            && signals.stack.flags & SS_DISABLE == 0
            && !signals.on_stack(frame.sp);
        let top = if alternative { signals.stack.start + signals.stack.size } else { frame.sp };
        (signals.saved_mask.unwrap_or(signals.mask), signals.stack, top)
    };
    // A frame record, so that unwinding goes on into what was interrupted, and the frame below it.
    let record = top.wrapping_sub(16) & !15;
    let at = record.wrapping_sub(FRAME_SIZE);
    let is_fault = info.syndrome != 0;
    let context = SignalFrame {
        info: info.into(),
        flags: 0,
        link: 0,
        stack,
        mask,
        mask_room: [0; 15],
        to_16: 0,
        fault_address: if is_fault { info.value } else { 0 },
        x: frame.x,
        sp: frame.sp,
        pc: frame.pc,
        pstate: frame.pstate,
        to_16_again: 0,
        fp_magic: FPSIMD_MAGIC,
        fp_size: 528,
        fpsr: state.fpsr as u32,
        fpcr: state.fpcr as u32,
        q: state.q,
        // Without a syndrome, an empty record ends the list here.
        esr_magic: if is_fault { ESR_MAGIC } else { 0 },
        esr_size: if is_fault { 16 } else { 0 },
        esr: info.syndrome,
        records_end: [0; 2],
    };
    copy::write(at, &context)?;
    copy::write(record, &[frame.x[29], frame.x[30]])?;
    {
        let mut signals = thread.signals.lock();
        signals.saved_mask = None;
        signals.mask |= action.mask & !UNBLOCKABLE;
        if action.flags & SA_NODEFER == 0 {
            signals.mask |= bit(info.number);
        }
    }
    frame.x[0] = u64::from(info.number);
    if action.flags & SA_SIGINFO != 0 {
        frame.x[1] = at;
        frame.x[2] = at + 128;
    }
    frame.x[29] = record;
    frame.x[30] = if action.flags & SA_RESTORER != 0 {
        action.restorer
    } else {
        vdso::signal_return(space::VDSO).map_or(0, linux_program::UserAddr::get)
    };
    frame.sp = at;
    frame.pc = action.handler;
    frame.set_pstate(0);
    Ok(())
}

/// `rt_sigreturn`: back to what was interrupted.
pub fn leave_handler(thread: &UserThread, frame: &mut UserFrame) -> Result<()> {
    let context = copy::read::<SignalFrame>(frame.sp)?;
    if context.fp_magic == FPSIMD_MAGIC {
        let mut state = thread.registers();
        state.q = context.q;
        (state.fpsr, state.fpcr) = (u64::from(context.fpsr), u64::from(context.fpcr));
        // SAFETY: all but FP/SIMD registers is the thread's own as it is.
        unsafe { arch::restore_user(&raw const state) };
    }
    frame.x = context.x;
    frame.sp = context.sp;
    frame.pc = context.pc;
    frame.set_pstate(context.pstate);
    thread.set_mask(context.mask);
    Ok(())
}

/// Sends a signal of the process `from` to a process, or to a thread of it.
pub fn send(from: u32, process: &Process, thread: Option<&UserThread>, number: u32, code: i32) -> Result<()> {
    if number > MOST {
        return Err(Errno::EINVAL);
    }
    if number == 0 {
        return Ok(());
    }
    // Without room in the queue, one that comes without more to say is as good as those before it.
    queue(process, thread, Info { number, code, value: u64::from(from), more: 0, syndrome: 0 });
    Ok(())
}

/// Sends a signal to a process, or to a thread of it. False if there was no room for it in the queue.
#[inline(never)]
pub fn queue(process: &Process, thread: Option<&UserThread>, info: Info) -> bool {
    match thread {
        Some(thread) => thread.signal(info),
        None => process.signal(info),
    }
}
