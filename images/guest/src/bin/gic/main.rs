//! A guest that uses its GIC, version 2 or 3, from the architecture's documents alone: handlers nested deeper
//! than there are list registers, its timer's interrupt as a level, routes, and a vCPU that is off. Nothing
//! here depends on how long something takes.
#![no_std]
#![no_main]

mod cpu;

use cpu::{
    PSCI_AFFINITY_INFO, PSCI_CPU_OFF, PSCI_CPU_ON, Word, call, check, interrupts, off, read, say, second,
    wait_for_interrupt, write, write_byte,
};

const DISTRIBUTOR: u64 = 0x0800_0000;
/// GICv2's CPU interface; GICv3's first redistributor, and its frame of private interrupts.
const INTERFACE: u64 = 0x0801_0000;
const REDISTRIBUTOR: u64 = 0x080a_0000;
const PRIVATE: u64 = REDISTRIBUTOR + 0x1_0000;
const TIMER: u32 = 27;
/// No device has it: it is made pending by a register.
const SPI: u32 = 40;
const SPURIOUS: u32 = 1020;
/// How often something is looked at that happens at once, or soon.
const PATIENCE: u32 = 20_000_000;

/// What the handler does with the timer's interrupt.
const MODE: Word = Word(0);
const SWITCH_OFF: u64 = 0;
const MOVE_ON: u64 = 1;
const NOTHING_AT_FIRST: u64 = 2;
/// How often that has come, and SPI 40.
const TICKS: Word = Word(1);
const SPIS: Word = Word(2);
/// Nested handlers: now, at most, and up to which SGI.
const DEPTH: Word = Word(3);
const DEEPEST: Word = Word(4);
const LAST: Word = Word(5);
/// How many have ended; which ended last; entries, as a bit for each.
const ENDS: Word = Word(6);
const LAST_END: Word = Word(7);
/// What `CNTV_CTL_EL0` was in the handler.
const CONTROL: Word = Word(8);
/// The GIC is version 3.
const IS_V3: Word = Word(9);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    say("panic: ", &[]);
    off()
}

fn v3() -> bool {
    IS_V3.get() != 0
}

/// Where the registers of private interrupts are.
fn private() -> u64 {
    if v3() { PRIVATE } else { DISTRIBUTOR }
}

fn acknowledge() -> u32 {
    if v3() { mrs!("s3_0_c12_c12_0") as u32 } else { read(INTERFACE + 0xc) }
}

fn end(acknowledged: u32) {
    if v3() { msr!("s3_0_c12_c12_1", acknowledged.into()) } else { write(INTERFACE + 0x10, acknowledged) }
}

/// Sends an SGI to this vCPU.
fn send(sgi: u64) {
    if v3() {
        msr!("s3_0_c12_c11_5", sgi << 24 | 1 << (mrs!("mpidr_el1") & 0xf));
    } else {
        write(DISTRIBUTOR + 0xf00, 2 << 24 | sgi as u32);
    }
}

/// Waits until something is so; returns whether it has become so.
fn wait(is: impl Fn() -> bool) -> bool {
    (0..PATIENCE).any(|_| is())
}

/// Whatever is to come, comes.
fn let_come() {
    if !v3() {
        // GICv2's interface cannot be made to trap: that the line has fallen is seen at an exit.
        read(private() + 0x200);
    }
    interrupts(true);
    for _ in 0..100 {
        // Each read is an exit, after which what is pending is delivered.
        read(private() + 0x200);
    }
    interrupts(false);
}

pub(crate) extern "C" fn handler() {
    let acknowledged = acknowledge();
    let id = acknowledged & 0x3ff;
    match id {
        SPURIOUS.. => return,
        TIMER => timer(),
        SPI => {
            SPIS.add(1);
        }
        _ => nested(id.into()),
    }
    end(acknowledged);
    if id < 16 {
        ENDS.add(1);
        LAST_END.set(id.into());
    }
}

/// SGI n sends SGI n + 1, which is more urgent, up to the last one; the fourth sends 15, the least urgent, as
/// well.
fn nested(sgi: u64) {
    let depth = DEPTH.add(1);
    DEEPEST.set(DEEPEST.get().max(depth));
    if sgi < LAST.get() {
        let ends = ENDS.get();
        if sgi == 4 {
            send(15);
        }
        send(sgi + 1);
        interrupts(true);
        wait(|| ENDS.get() > ends);
        interrupts(false);
    }
    DEPTH.set(depth - 1);
}

fn timer() {
    let ticks = TICKS.add(1);
    CONTROL.set(mrs!("cntv_ctl_el0"));
    match MODE.get() {
        SWITCH_OFF => msr!("cntv_ctl_el0", 0),
        MOVE_ON => {
            msr!("cntv_cval_el0", mrs!("cntvct_el0") + mrs!("cntfrq_el0") / 4096);
            if ticks >= 10 {
                msr!("cntv_ctl_el0", 0);
            }
        }
        _ if ticks >= 5 => msr!("cntv_ctl_el0", 0),
        _ => {}
    }
}

fn arm(mode: u64, control: u64) {
    MODE.set(mode);
    TICKS.set(0);
    msr!("cntv_cval_el0", mrs!("cntvct_el0"));
    msr!("cntv_ctl_el0", control);
}

/// The timer's condition is met.
fn is_due() -> bool {
    mrs!("cntv_ctl_el0") & 4 != 0
}

fn is_pending(id: u32) -> bool {
    let frame = if id < 32 { private() } else { DISTRIBUTOR };
    read(frame + 0x200 + u64::from(id / 32 * 4)) >> (id % 32) & 1 != 0
}

fn set_up() {
    // The architecture's version is elsewhere in a GICv3.
    IS_V3.set(u64::from(read(DISTRIBUTOR + 0xfe8) == 0));
    if v3() {
        write(DISTRIBUTOR, 0x12);
        msr!("s3_0_c12_c12_5", 7);
        msr!("s3_0_c4_c6_0", 0xff);
        msr!("s3_0_c12_c12_3", 0);
        msr!("s3_0_c12_c12_7", 1);
    } else {
        write(DISTRIBUTOR, 1);
        write(INTERFACE + 4, 0xff);
        write(INTERFACE + 8, 0);
        write(INTERFACE, 1);
    }
    for sgi in 0..16 {
        let priority = if sgi == 15 { 0xf0 } else { 0xe0 - sgi as u32 * 0x10 };
        write_byte(private() + 0x400 + sgi, priority);
    }
    write_byte(private() + 0x400 + u64::from(TIMER), 0x80);
    write(private() + 0x100, 0xffff | 1 << TIMER);
}

fn nest() {
    for last in [3, 4, 6, 9, 12] {
        for word in [DEPTH, DEEPEST, ENDS, LAST_END] {
            word.set(0);
        }
        LAST.set(last);
        send(1);
        interrupts(true);
        let all = if last > 4 { last + 1 } else { last };
        let ended = wait(|| ENDS.get() == all);
        interrupts(false);
        say("nested, of them:", &[DEEPEST.get(), last]);
        check("nesting", ended && DEEPEST.get() == last);
        check("least-urgent-last", LAST_END.get() == if last > 4 { 15 } else { 1 });
    }
}

fn level() {
    arm(SWITCH_OFF, 1);
    check("due", wait(is_due));
    check("control-is-what-was-written", mrs!("cntv_ctl_el0") == 5);
    check("pending-while-due", is_pending(TIMER));
    msr!("cntv_ctl_el0", 0);
    check("not-pending-when-off", !is_pending(TIMER));
    let_come();
    check("off-before-it-is-taken", TICKS.get() == 0);

    arm(SWITCH_OFF, 1);
    wait(is_due);
    msr!("cntv_cval_el0", u64::MAX);
    check("not-pending-when-moved", !is_pending(TIMER));
    let_come();
    check("moved-before-it-is-taken", TICKS.get() == 0);
    msr!("cntv_ctl_el0", 0);
    if v3() {
        // Nothing of this is an exit, but for the acknowledgement.
        arm(SWITCH_OFF, 1);
        wait(is_due);
        msr!("cntv_cval_el0", u64::MAX);
        interrupts(true);
        interrupts(false);
        let_come();
        check("moved-without-an-exit", TICKS.get() == 0);
        msr!("cntv_ctl_el0", 0);
    }

    arm(MOVE_ON, 1);
    interrupts(true);
    check("goes-on-by-cval-alone", wait(|| TICKS.get() == 10));
    interrupts(false);
    check("control-in-the-handler", CONTROL.get() == 5);

    arm(NOTHING_AT_FIRST, 1);
    interrupts(true);
    check("comes-again-while-due", wait(|| TICKS.get() == 5));
    let_come();
    check("and-no-more", TICKS.get() == 5);

    arm(SWITCH_OFF, 3);
    wait(is_due);
    let_come();
    check("masked-by-the-guest", TICKS.get() == 0 && mrs!("cntv_ctl_el0") == 7);
    msr!("cntv_ctl_el0", 1);
    interrupts(true);
    check("unmasked", wait(|| TICKS.get() == 1));
    interrupts(false);

    arm(SWITCH_OFF, 1);
    msr!("cntv_cval_el0", mrs!("cntvct_el0") + mrs!("cntfrq_el0") / 256);
    while !is_due() {
        wait_for_interrupt();
    }
    check("wakes", mrs!("cntv_ctl_el0") == 5);
    msr!("cntv_ctl_el0", 0);
    let_come();
    check("off-after-it-woke", TICKS.get() == 0);

    // Disabled in the controller while it is due.
    write(private() + 0x180, 1 << TIMER);
    arm(SWITCH_OFF, 1);
    wait(is_due);
    let_come();
    check("disabled", TICKS.get() == 0 && is_pending(TIMER));
    write(private() + 0x100, 1 << TIMER);
    interrupts(true);
    check("enabled", wait(|| TICKS.get() == 1));
    interrupts(false);
}

fn raise() -> bool {
    let before = SPIS.get();
    write(DISTRIBUTOR + 0x200 + u64::from(SPI / 32 * 4), 1 << (SPI % 32));
    interrupts(true);
    let come = wait(|| SPIS.get() > before);
    interrupts(false);
    come
}

fn route(vcpus: u64) {
    let (router, target) = (DISTRIBUTOR + 0x6000 + 8 * u64::from(SPI), DISTRIBUTOR + 0x800 + u64::from(SPI));
    write_byte(DISTRIBUTOR + 0x400 + u64::from(SPI), 0x80);
    write(DISTRIBUTOR + 0x100 + u64::from(SPI / 32 * 4), 1 << (SPI % 32));
    check("first-route", raise());
    if !v3() && vcpus == 1 {
        // As Linux does, which writes back what it has read.
        let read_back = read(target);
        write(target, read_back);
        check("no-targets-on-one-cpu", read_back == 0 && raise());
    } else if v3() {
        write(router, 1 << 31);
        check("any", read(router) == 1 << 31 && raise());
    } else {
        write(target, 0x0303_0303);
        check("targets-as-written", read(target) == 0x0303_0303 && raise());
    }
    if vcpus > 1 {
        // The other one is off, and off again after it has been on.
        if v3() {
            write(router, 1);
        } else {
            write(target, 0x0202_0202);
        }
        check("to-one-that-is-off", raise());
        call(PSCI_CPU_ON, &[1, second(), 1]);
        while call(PSCI_AFFINITY_INFO, &[1, 0]) != 1 {}
        check("to-one-that-has-gone-off", raise());
    }
}

pub(crate) extern "C" fn main(number: u64) -> ! {
    if number != 0 {
        call(PSCI_CPU_OFF, &[]);
    }
    for word in 0..16 {
        Word(word).set(0);
    }
    set_up();
    nest();
    level();
    let one = call(PSCI_AFFINITY_INFO, &[1, 0]) as i32 as i64;
    route(if one < 0 { 1 } else { 2 });
    check("end", true);
    off()
}
