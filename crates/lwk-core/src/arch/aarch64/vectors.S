// Exception vectors of EL1.
//
// An interrupt saves everything on the stack of whatever it interrupts; FP/SIMD too where the kernel itself is built
// with it (NEON), because applications are linked in and the handler may switch to another task. A synchronous
// exception of the kernel is a fault: it is reported on the core's report stack, because the fault may be that there is
// no stack left. What comes from programs is in user.S, for kernels that leave FP/SIMD to programs alone.

    .set USER_ACCESS_KIB, 4             // lwk.ld puts the vectors at 2 KiB; they are 2 KiB, and user.S is behind them
    .set FRAME_SIZE, 816                // TrapFrame: x0-x30, sp, pc, pstate, fpsr, fpcr, q0-q31, 16 bytes of link

    .section .text.vectors, "ax"
    .balign 2048
    .global lwk_vectors
lwk_vectors:
    .macro  entry label, kind
    .balign 128
    .ifnb   \kind
    msr     tpidrro_el0, x0
    mov     x0, #\kind
    .endif
    b       \label
    .endm

    entry   fault, 0                    // current EL with SP_EL0
    entry   fault, 1
    entry   fault, 2
    entry   fault, 3
    .if     {NEON}
    entry   fault, 4                    // current EL with SP_ELx: synchronous
    .else
    .balign 128
    // Is it one of the instructions that touch a program's memory for the kernel? They are in the KiB from
    // USER_ACCESS_KIB on in the image. Nothing but x0 may change, and there may be no stack.
    msr     tpidrro_el0, x0
    mrs     x0, elr_el1
    eor     x0, x0, #0xffff800000000000
    lsr     x0, x0, #10
    sub     x0, x0, #USER_ACCESS_KIB
    cbz     x0, user_access_fault
    mov     x0, #4
    b       fault
    .endif
    entry   interrupt                   // IRQ
    entry   fault, 6                    // FIQ
    entry   fault, 7                    // SError
    .if     {NEON}
    entry   fault, 8                    // lower EL, AArch64
    entry   fault, 9
    .else
    entry   user_synchronous
    entry   user_interrupt
    .endif
    entry   fault, 10
    entry   fault, 11
    entry   fault, 12                   // lower EL, AArch32
    entry   fault, 13
    entry   fault, 14
    entry   fault, 15

    .section .text.exceptions, "ax"
interrupt:
    sub     sp, sp, #FRAME_SIZE
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x1, elr_el1
    mrs     x2, spsr_el1
    add     x5, sp, #FRAME_SIZE
    stp     x30, x5, [sp, #240]
    stp     x1, x2, [sp, #256]
    .if     {NEON}
    mrs     x3, fpsr
    mrs     x4, fpcr
    stp     x3, x4, [sp, #272]
    stp     q0, q1, [sp, #288]
    stp     q2, q3, [sp, #320]
    stp     q4, q5, [sp, #352]
    stp     q6, q7, [sp, #384]
    stp     q8, q9, [sp, #416]
    stp     q10, q11, [sp, #448]
    stp     q12, q13, [sp, #480]
    stp     q14, q15, [sp, #512]
    stp     q16, q17, [sp, #544]
    stp     q18, q19, [sp, #576]
    stp     q20, q21, [sp, #608]
    stp     q22, q23, [sp, #640]
    stp     q24, q25, [sp, #672]
    stp     q26, q27, [sp, #704]
    stp     q28, q29, [sp, #736]
    stp     q30, q31, [sp, #768]
    .endif
    add     x6, sp, #800
    stp     x29, x1, [x6]               // a frame record, so that backtraces go on into what was interrupted
    mov     x29, x6
    bl      lwk_interrupt
    ldp     x1, x2, [sp, #256]
    msr     elr_el1, x1
    msr     spsr_el1, x2
    .if     {NEON}
    ldp     x3, x4, [sp, #272]
    msr     fpsr, x3
    msr     fpcr, x4
    ldp     q0, q1, [sp, #288]
    ldp     q2, q3, [sp, #320]
    ldp     q4, q5, [sp, #352]
    ldp     q6, q7, [sp, #384]
    ldp     q8, q9, [sp, #416]
    ldp     q10, q11, [sp, #448]
    ldp     q12, q13, [sp, #480]
    ldp     q14, q15, [sp, #512]
    ldp     q16, q17, [sp, #544]
    ldp     q18, q19, [sp, #576]
    ldp     q20, q21, [sp, #608]
    ldp     q22, q23, [sp, #640]
    ldp     q24, q25, [sp, #672]
    ldp     q26, q27, [sp, #704]
    ldp     q28, q29, [sp, #736]
    ldp     q30, q31, [sp, #768]
    .endif
    ldp     x0, x1, [sp, #0]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    add     sp, sp, #FRAME_SIZE
    eret

// x0: which vector; the interrupted x0 is in TPIDRRO_EL0. Never returns.
fault:
    msr     daifset, #0xf
    msr     tpidr_el0, x1
    mrs     x1, tpidr_el1
    ldr     x1, [x1, #{REPORT_STACK}]
    sub     x1, x1, #FRAME_SIZE
    stp     x2, x3, [x1, #16]
    stp     x4, x5, [x1, #32]
    stp     x6, x7, [x1, #48]
    stp     x8, x9, [x1, #64]
    stp     x10, x11, [x1, #80]
    stp     x12, x13, [x1, #96]
    stp     x14, x15, [x1, #112]
    stp     x16, x17, [x1, #128]
    stp     x18, x19, [x1, #144]
    stp     x20, x21, [x1, #160]
    stp     x22, x23, [x1, #176]
    stp     x24, x25, [x1, #192]
    stp     x26, x27, [x1, #208]
    stp     x28, x29, [x1, #224]
    mrs     x2, tpidrro_el0
    mrs     x3, tpidr_el0
    stp     x2, x3, [x1, #0]
    mov     x2, sp
    stp     x30, x2, [x1, #240]
    mrs     x3, elr_el1
    mrs     x4, spsr_el1
    stp     x3, x4, [x1, #256]
    mov     sp, x1
    add     x4, sp, #800
    stp     x29, x3, [x4]
    mov     x29, x4
    mov     x1, x0
    mov     x0, sp
    mrs     x2, esr_el1
    mrs     x3, far_el1
    bl      lwk_fault
    b       .
