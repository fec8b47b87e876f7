//! The console: whole lines, each with the name of its VM.
//!
//! Nobody waits for the UART. What is printed goes into a ring in memory ([`crate::ring`]), in which each VM, and the hypervisor, has a share;
//! what a VM prints beyond its share is lost, and counted. Whoever prints, every core that takes a timer's or a device's interrupt, and a core that is idle with
//! something left ([`drain_on`]), moves as much of the ring to the UART as that takes at once, at most [`BURST`] bytes; one core at a time does so, and no other waits for it. Only what is printed before
//! the first VM runs, and what is printed when nothing goes on any more, is written to the end.

use crate::{arch, board, printable, ring::Ring, stop_notice, vcpu::Loaded};
use core::{
    fmt::{self, Write as _},
    sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};
use hv_abi::ids::VmId;
use plain_numbers::Dec;

/// How many bytes a core moves to the UART in one go.
const BURST: usize = 1024;
/// How often whoever stops the machine tries a lock, or a UART that takes nothing.
const PATIENCE: u32 = 10_000_000;
/// The longest piece: name, text, ends of lines.
const PIECE: usize = 400;
/// The hypervisor's share of the ring. A VM's has the VM's id.
const OWN: usize = 0;

/// What has been printed and not written yet. Held for the length of a copy; no run path takes it.
static RING: crate::lock::Lock<Ring> = crate::lock::Lock::new(Ring::new());
/// Held by the core that writes to the UART; the others go on.
static WRITER: crate::lock::Lock<()> = crate::lock::Lock::new(());
/// There is a ring: VMs run.
static BUFFERED: AtomicBool = AtomicBool::new(false);
/// What waits for a UART: [`RING_PENDING`], [`TERMINAL_PENDING`]. One byte, because interrupts look at it.
static PENDING: AtomicU8 = AtomicU8::new(0);
/// The ring is not empty. Written with the ring locked.
const RING_PENDING: u8 = 1;
/// A VM's own terminal gets a line ([`stop_notice`]). Written with that locked.
const TERMINAL_PENDING: u8 = 2;
/// Whose line is open. Used with the ring locked.
static OUTPUT: Output = Output::new();

/// Text that goes into the ring in one piece, with `\r\n` for the end of a line. What is too long is cut.
pub(crate) struct Piece(heapless::Vec<u8, PIECE>);

impl Piece {
    pub(crate) const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn write(&mut self, text: &[u8]) {
        for byte in text {
            if *byte == b'\n' {
                let _ = self.0.push(b'\r');
            }
            let _ = self.0.push(*byte);
        }
    }

    /// Ends its line even if it has been cut.
    fn end(&mut self) {
        if self.0.is_full()
            && let Some(end) = self.0.last_chunk_mut()
        {
            *end = *b"\r\n";
        }
    }
}

impl fmt::Write for Piece {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

/// Joins the pieces of lines that are longer than a vCPU's buffer.
///
/// A piece without an end leaves its line open. The same vCPU's next piece continues the line; anybody else's output ends the line
/// first, so that nobody waits for a line to end, and what is left of it begins with its VM's name again.
struct Output {
    /// The vCPU whose line is open, by its address; 0 if none is.
    open: AtomicUsize,
}

impl Output {
    const fn new() -> Self {
        Self { open: AtomicUsize::new(0) }
    }

    /// Ends the open line, if there is one.
    fn end_line(&self, to: &mut Piece) {
        if self.open.load(Ordering::Relaxed) != 0 {
            self.open.store(0, Ordering::Relaxed);
            to.write(b"\n");
        }
    }

    /// Writes a piece of a line of vCPU `who`, whose VM is `name`.
    fn piece(&self, who: usize, name: &[u8], text: &[u8], ends: bool, to: &mut Piece) {
        if self.open.load(Ordering::Relaxed) != who {
            self.end_line(to);
            to.write(b"[");
            to.write(name);
            to.write(b"] ");
        }
        to.write(text);
        self.open.store(who, Ordering::Relaxed);
        if ends {
            self.end_line(to);
        }
    }
}

/// From now on what is printed goes into the ring, in which the hypervisor and so many VMs have shares.
pub(crate) fn start(vms: usize) {
    RING.lock().set_writers(vms + 1);
    BUFFERED.store(true, Ordering::Release);
}

/// Prints a line of the hypervisor's own.
pub(crate) fn print(arguments: fmt::Arguments<'_>) {
    if !BUFFERED.load(Ordering::Acquire) {
        let _ring = RING.lock();
        let _ = writeln!(board::ConsoleWriter, "[hv] {arguments}");
        return;
    }
    enqueue_own(&mut RING.lock(), &OUTPUT, arguments);
    drain();
}

/// Prints, and waits until it is printed, whoever holds the console: for reports after which nothing runs any more.
pub(crate) fn print_at_once(arguments: fmt::Arguments<'_>) {
    finish();
    let mut piece = Piece::new();
    OUTPUT.end_line(&mut piece);
    board::write(if piece.0.is_empty() { b"" } else { b"\n" });
    let _ = writeln!(board::ConsoleWriter, "[hv] {arguments}");
}

/// Whether something waits for a UART.
#[inline(always)]
pub(crate) fn is_pending() -> bool {
    PENDING.load(Ordering::Relaxed) != 0
}

fn has_pending(what: u8) -> bool {
    PENDING.load(Ordering::Relaxed) & what != 0
}

fn set_pending(what: u8, pending: bool) {
    if pending {
        PENDING.fetch_or(what, Ordering::Relaxed);
    } else {
        PENDING.fetch_and(!what, Ordering::Relaxed);
    }
}

/// Says whether a VM's own terminal gets a line, for which [`drain`] then cares, too.
pub(crate) fn set_terminal_pending(pending: bool) {
    set_pending(TERMINAL_PENDING, pending);
}

/// Moves what the UART takes now from the ring to it, up to a limit, unless another core does; and the line for a VM's own terminal.
#[cold]
pub(crate) fn drain() {
    if has_pending(TERMINAL_PENDING) {
        stop_notice::drain();
    }
    let mut left = BURST;
    while left > 0 && has_pending(RING_PENDING) {
        let Some(_writer) = WRITER.try_lock() else { return };
        if !step(&mut left) {
            return;
        }
        // Looks again after it has let go: another core may have printed, and gone on because this one was writing.
    }
}

/// Drains, and has WFI of this core's primary vCPU trap while something is left: a core that is idle goes on with it then, even if no
/// interrupt comes. WFI may end at any time (Arm ARM, "Wait For Interrupt"), so that the VM cannot tell.
#[cold]
#[inline(never)]
pub(crate) fn drain_on(current: &Loaded) {
    drain();
    let primary = current.core().primary();
    let before = primary.hcr.get();
    let hcr = if is_pending() { before | arch::TWI } else { before & !arch::TWI };
    if hcr != before {
        primary.hcr.set(hcr);
        if current.vm().is_primary() {
            current.update_line();
        }
    }
}

/// Moves some bytes; returns whether the UART has taken all of them.
fn step(left: &mut usize) -> bool {
    let mut part = [0; 64];
    let count = RING.lock().peek(&mut part);
    let taken = board::try_write(&part[..count]);
    let mut ring = RING.lock();
    ring.consume(taken);
    set_pending(RING_PENDING, !ring.is_empty());
    *left = left.saturating_sub(taken);
    taken == count
}

/// Writes everything that is in the ring, and waits for the UART: the machine stops. Another core may hold the locks for good, or the UART take
/// nothing; then this goes on without it.
pub(crate) fn finish() {
    let mut patience = PATIENCE;
    let mut tries = || patience.checked_sub(1).inspect(|left| patience = *left).is_some();
    while has_pending(RING_PENDING) && tries() {
        let Some(_writer) = WRITER.try_lock() else { continue };
        let Some(mut ring) = RING.try_lock() else { continue };
        let mut part = [0; 64];
        let count = ring.peek(&mut part);
        ring.consume(board::try_write(&part[..count]));
        set_pending(RING_PENDING, !ring.is_empty());
    }
    // Not as long: a VM's UART may be in any state.
    let mut patience = PATIENCE / 100;
    while has_pending(TERMINAL_PENDING) && patience > 0 {
        stop_notice::drain();
        patience -= 1;
    }
}

/// Adds characters to the current vCPU's line, and prints it when it is complete, or as a piece without an end when the buffer is full.
pub(crate) fn log(current: &mut Loaded, text: impl Iterator<Item = u8>) {
    for byte in text {
        if byte == b'\n' {
            flush(current);
            continue;
        }
        if byte == b'\r' {
            continue;
        }
        if current.line().push(byte).is_err() {
            print_line(current, false);
            let _ = current.line().push(byte);
        }
    }
}

/// Prints the current vCPU's line, and ends it.
pub(crate) fn flush(current: &mut Loaded) {
    print_line(current, true);
}

fn print_line(current: &mut Loaded, ends: bool) {
    let (who, vm, name) = (core::ptr::from_ref(current.vcpu()) as usize, current.vm().id, current.vm().name);
    let line = current.line();
    let cut = if ends { line.len() } else { whole_characters(line) };
    let (text, rest) = line.split_at_mut(cut);
    printable::replace_others(text);
    let left = rest.len();
    enqueue(&mut RING.lock(), &OUTPUT, (vm, name), who, (text, ends));
    line.copy_within(cut.., 0);
    line.truncate(left);
    drain_on(current);
}

/// Adds a piece of a line of vCPU `who` to the ring. If the VM's share is full, the piece is lost; the next one that is not says how much was.
fn enqueue(
    ring: &mut Ring,
    output: &Output,
    (vm, name): (VmId, &str),
    who: usize,
    (text, ends): (&[u8], bool),
) {
    let writer = usize::from(vm.0);
    let (lost, open) = (ring.take_lost(writer), output.open.load(Ordering::Relaxed));
    let mut piece = Piece::new();
    if lost > 0 {
        output.end_line(&mut piece);
        let _ = writeln!(piece, "[hv] {}: {} bytes of console output lost", Text(name), Dec(lost.into()));
    }
    // Text, name, and the ends of two lines.
    if !ring.has_room(writer, piece.0.len() + text.len() + name.len() + 7) {
        output.open.store(open, Ordering::Relaxed);
        ring.add_lost(writer, lost.saturating_add(text.len() as u32));
        return;
    }
    output.piece(who, name.as_bytes(), text, ends, &mut piece);
    ring.push(writer, &piece.0);
    set_pending(RING_PENDING, true);
}

/// Adds a line of the hypervisor's to the ring. Without room it is lost, as a VM's is: the next one that is not says how much was.
fn enqueue_own(ring: &mut Ring, output: &Output, arguments: fmt::Arguments<'_>) {
    let (lost, open) = (ring.take_lost(OWN), output.open.load(Ordering::Relaxed));
    let mut piece = Piece::new();
    output.end_line(&mut piece);
    if lost > 0 {
        let _ = writeln!(piece, "[hv] {} bytes of the hypervisor's output lost", Dec(lost.into()));
    }
    let before = piece.0.len();
    let _ = writeln!(piece, "[hv] {arguments}");
    piece.end();
    if !ring.has_room(OWN, piece.0.len()) {
        // Nor has the open line been ended.
        output.open.store(open, Ordering::Relaxed);
        ring.add_lost(OWN, lost.saturating_add((piece.0.len() - before) as u32));
        return;
    }
    ring.push(OWN, &piece.0);
    set_pending(RING_PENDING, true);
}

/// How many bytes there are before the last character, if that may be incomplete UTF-8; otherwise all.
fn whole_characters(line: &[u8]) -> usize {
    let is_start = |byte: &u8| *byte >= 0xc0;
    let longest = line.len().saturating_sub(3);
    line.iter().rposition(is_start).filter(|at| *at >= longest).unwrap_or(line.len())
}

/// Text in a line. `str` is formatted by code for widths and precisions, which nothing here needs, and which is large.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Prints a line of the hypervisor.
macro_rules! info {
    ($($argument:tt)*) => { $crate::console::print(format_args!($($argument)*)) };
}
pub(crate) use info;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{boxed::Box, format, string::String, vec::Vec};

    fn pieces(pieces: &[(usize, &str, bool)]) -> String {
        let output = Output::new();
        let mut all = Piece::new();
        for (who, text, ends) in pieces {
            output.piece(*who, if *who < 3 { b"one" } else { b"two" }, text.as_bytes(), *ends, &mut all);
        }
        String::from_utf8(all.0.to_vec()).unwrap().replace("\r\n", "\n")
    }

    #[test]
    fn joins_the_pieces_of_a_long_line() {
        let long = pieces(&[(1, "a", false), (1, "b", false), (1, "c", true), (1, "d", true)]);
        assert_eq!(long, "[one] abc\n[one] d\n");
    }

    #[test]
    fn an_open_line_does_not_hold_up_others() {
        // vCPUs 1 and 2 are of one VM, vCPU 3 of another.
        let mixed =
            pieces(&[(1, "a", false), (3, "x", true), (1, "b", false), (2, "y", false), (1, "", true)]);
        assert_eq!(mixed, "[one] a\n[two] x\n[one] b\n[one] y\n[one] \n");
    }

    #[test]
    fn the_hypervisors_lines_begin_a_line() {
        let (output, mut piece) = (Output::new(), Piece::new());
        output.piece(1, b"one", b"[hv] ", false, &mut piece);
        output.end_line(&mut piece);
        output.end_line(&mut piece);
        assert_eq!(&piece.0[..], b"[one] [hv] \r\n");
    }

    /// What is in the ring, by lines.
    fn lines(ring: &mut Ring) -> Vec<String> {
        let mut all = Vec::new();
        let mut part = [0; 64];
        loop {
            let count = ring.peek(&mut part);
            if count == 0 {
                return String::from_utf8(all).unwrap().split_terminator("\r\n").map(String::from).collect();
            }
            all.extend_from_slice(&part[..count]);
            ring.consume(count);
        }
    }

    #[test]
    fn a_flood_is_cut_with_a_note_and_loses_nothing_of_others() {
        let (mut ring, output) = (Box::new(Ring::new()), Output::new());
        // Shares of some 490 bytes.
        ring.set_writers(crate::ring::CAPACITY / 490);
        let text = [b'x'; 100];
        let flood = |ring: &mut Ring, ends| enqueue(ring, &output, (VmId(1), "one"), 8, (&text, ends));
        for _ in 0..50 {
            flood(&mut ring, true);
        }
        enqueue(&mut ring, &output, (VmId(2), "two"), 16, (b"hello", true));
        let first = lines(&mut ring);
        let kept = first.len() - 1;
        assert!((2..20).contains(&kept), "{kept}");
        assert!(first[..kept].iter().all(|line| *line == format!("[one] {}", "x".repeat(100))));
        assert_eq!(first[kept], "[two] hello");
        flood(&mut ring, false);
        let note = format!("[hv] one: {} bytes of console output lost", 100 * (50 - kept));
        let long = format!("[one] {}", "x".repeat(100));
        assert_eq!(lines(&mut ring), [note, long]);
        // A line that loses its end is ended by the note.
        for _ in 0..20 {
            flood(&mut ring, false);
        }
        enqueue(&mut ring, &output, (VmId(2), "two"), 16, (b"there", true));
        let cut = lines(&mut ring);
        assert_eq!(cut.len(), 2);
        assert!(cut[0].starts_with("xxx") && cut[1] == "[two] there", "{cut:?}");
        flood(&mut ring, true);
        let again = lines(&mut ring);
        assert!(again[0].starts_with("[hv] one: ") && again[1].starts_with("[one] xxx"), "{again:?}");
    }

    #[test]
    fn lines_of_the_hypervisor_that_are_lost_are_told_and_end_no_line() {
        let (mut ring, output) = (Box::new(Ring::new()), Output::new());
        // Shares of some 490 bytes.
        ring.set_writers(crate::ring::CAPACITY / 490);
        let say = |ring: &mut Ring, text: &str| enqueue_own(ring, &output, format_args!("{text}"));
        let text = "y".repeat(95);
        let line = format!("[hv] {text}");
        for _ in 0..50 {
            say(&mut ring, &text);
        }
        // A VM's line is open when another line of the hypervisor's is lost.
        enqueue(&mut ring, &output, (VmId(1), "one"), 8, (b"be", false));
        say(&mut ring, &text);
        enqueue(&mut ring, &output, (VmId(1), "one"), 8, (b"gun", true));
        let first = lines(&mut ring);
        let kept = first.len() - 1;
        assert!((2..20).contains(&kept) && first[..kept].iter().all(|kept| *kept == line), "{first:?}");
        assert_eq!(first[kept], "[one] begun");
        say(&mut ring, "now");
        let note = format!("[hv] {} bytes of the hypervisor's output lost", 102 * (51 - kept));
        assert_eq!(lines(&mut ring), [&note, "[hv] now"]);
        // One that is too long has an end all the same.
        say(&mut ring, &"z".repeat(500));
        say(&mut ring, "then");
        let cut = lines(&mut ring);
        assert_eq!((cut.len(), cut[0].len(), cut[1].as_str()), (2, PIECE - 2, "[hv] then"));
    }

    #[test]
    fn characters_are_not_cut() {
        assert_eq!(whole_characters("abcd".as_bytes()), 4);
        assert_eq!(whole_characters("abc\u{e9}".as_bytes()), 3);
        assert_eq!(whole_characters(&"abc\u{1f600}".as_bytes()[..6]), 3);
        assert_eq!(whole_characters("abc\u{1f600}".as_bytes()), 7);
        assert_eq!(whole_characters(b"\xc3\x80\x80\x80\x80"), 5);
        assert_eq!(whole_characters(b""), 0);
    }
}
