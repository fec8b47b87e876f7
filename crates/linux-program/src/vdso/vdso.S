// The functions of the vDSO. `code.rs` has these instructions as words; a test assembles this file and compares.
//
// The page before the vDSO is a `Clock`. Only registers that a function may change are used: x0 to x17 and flags.
// Each function that is called by its address begins with a landing pad (FEAT_BTI); a NOP elsewhere.

    .equ    CODE, 0x400                     // Where this begins in the image.
    .equ    PAGE, 0x1000

    .equ    COUNTER_BASE, 0                 // Clock; multiplier, shift and real-time offset follow.
    .equ    SHIFT, 16
    .equ    READABLE, 32

    .equ    SYS_CLOCK_GETTIME, 113
    .equ    SYS_CLOCK_GETRES, 114
    .equ    SYS_RT_SIGRETURN, 139
    .equ    SYS_GETTIMEOFDAY, 169

    // Bits of clock numbers: realtime 0, monotonic 1, monotonic raw 4, realtime coarse 5, monotonic coarse 6 and
    // boottime 7 are computed here; 0 and 5 are real time.
    .equ    CLOCKS, 0xf3
    .equ    REALTIME, 0x21

    .text
code:

// x11 = monotonic time in nanoseconds, x15 = real-time offset. x10 = the clock.
    .macro  now
    isb                                     // The counter is read now, not earlier.
    mrs     x11, cntvct_el0
    ldp     x12, x13, [x10, #COUNTER_BASE]
    ldp     x14, x15, [x10, #SHIFT]
    sub     x11, x11, x12
    umulh   x12, x11, x13
    mul     x11, x11, x13
    lsr     x11, x11, x14
    neg     x14, x14                        // Shifts take their amount modulo 64.
    lsl     x12, x12, x14
    orr     x11, x11, x12
    .endm

// x13 = whole seconds of x11, x14 = nanoseconds of the rest.
    .macro  split
    mov     w12, #0xca00                    // 1 000 000 000
    movk    w12, #0x3b9a, lsl #16
    udiv    x13, x11, x12
    msub    x14, x13, x12, x11
    .endm

// Signal handlers return to it. Unwinders recognise a signal's frame by these two instructions, and look one
// instruction back. It is reached by RET, which needs no landing pad.
    nop
__kernel_rt_sigreturn:
    mov     x8, #SYS_RT_SIGRETURN
    svc     #0

// int clock_gettime(clockid_t clock, struct timespec *time)
__kernel_clock_gettime:
    bti     c
    cmp     w0, #7
    b.hi    1f
    mov     w9, #CLOCKS
    lsr     w9, w9, w0
    tbz     w9, #0, 1f
    adr     x10, code - CODE - PAGE
    ldr     x11, [x10, #READABLE]
    cbz     x11, 1f
    now
    mov     w9, #REALTIME
    lsr     w9, w9, w0
    tst     w9, #1
    csel    x15, x15, xzr, ne
    add     x11, x11, x15
    split
    stp     x13, x14, [x1]
    mov     w0, #0
    ret
1:  mov     x8, #SYS_CLOCK_GETTIME
    svc     #0
    ret

// int gettimeofday(struct timeval *time, struct timezone *zone)
__kernel_gettimeofday:
    bti     c
    cbz     x0, 1f
    adr     x10, code - CODE - PAGE
    ldr     x11, [x10, #READABLE]
    cbz     x11, 3f
    now
    add     x11, x11, x15
    split
    mov     w12, #1000
    udiv    x14, x14, x12
    stp     x13, x14, [x0]
1:  cbz     x1, 2f
    stp     wzr, wzr, [x1]                  // Greenwich.
2:  mov     w0, #0
    ret
3:  mov     x8, #SYS_GETTIMEOFDAY
    svc     #0
    ret

// int clock_getres(clockid_t clock, struct timespec *resolution)
__kernel_clock_getres:
    bti     c
    cmp     w0, #7
    b.hi    1f
    mov     w9, #CLOCKS
    lsr     w9, w9, w0
    tbz     w9, #0, 1f
    cbz     x1, 2f
    mov     w9, #1                          // Nanosecond.
    stp     xzr, x9, [x1]
2:  mov     w0, #0
    ret
1:  mov     x8, #SYS_CLOCK_GETRES
    svc     #0
    ret
