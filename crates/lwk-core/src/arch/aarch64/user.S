// Between programs and the kernel, for kernels that leave FP/SIMD to programs. Directly behind the vectors.
//
// While a program runs, SP_EL1 is where lwk_enter_user was called on its thread's kernel stack: there is the address of
// its `UserThread`, and the stack pointer to return with. An entry saves all general registers below (UserFrame), and nothing else: FP/SIMD registers stay where
// they are until another thread gets the core.

    .set USER_FRAME, 272                // UserFrame: x0-x30, sp, pc, pstate
    .set SVC, 0x15                      // exception class

    .section .text.user, "ax"

// The kernel's way to a program's memory: loads and stores that the processor checks as the program's own, so that PAN
// is never lifted. All of it is in this KiB; a fault goes on at `lwk_user_access_failed` with x2 as it was.
    .balign 1024
// lwk_copy_from_user(to, from, bytes): returns how many bytes are missing.
    .global lwk_copy_from_user
lwk_copy_from_user:
    cmp     x2, #8
    b.lo    2f
1:  ldtr    x3, [x1]
    str     x3, [x0], #8
    add     x1, x1, #8
    sub     x2, x2, #8
    cmp     x2, #8
    b.hs    1b
2:  cbz     x2, lwk_user_access_failed
3:  ldtrb   w3, [x1]
    strb    w3, [x0], #1
    add     x1, x1, #1
    sub     x2, x2, #1
    cbnz    x2, 3b
// Also where all is done: nothing is missing then.
    .global lwk_user_access_failed
lwk_user_access_failed:
    mov     x0, x2
    ret

// lwk_copy_to_user(to, from, bytes): returns how many bytes are missing.
    .global lwk_copy_to_user
lwk_copy_to_user:
    cmp     x2, #8
    b.lo    2f
1:  ldr     x3, [x1], #8
    sttr    x3, [x0]
    add     x0, x0, #8
    sub     x2, x2, #8
    cmp     x2, #8
    b.hs    1b
2:  cbz     x2, lwk_user_access_failed
3:  ldrb    w3, [x1], #1
    sttrb   w3, [x0]
    add     x0, x0, #1
    sub     x2, x2, #1
    cbnz    x2, 3b
    b       lwk_user_access_failed

// lwk_load_user_u32(from, _, 4) -> the word, or 1 << 32 and more.
    .global lwk_load_user_u32
lwk_load_user_u32:
    mov     x2, #(1 << 32)
    ldtr    w0, [x0]
    ret
    .balign 1024

    .macro  save_user
    sub     sp, sp, #USER_FRAME
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
    mrs     x21, sp_el0
    mrs     x22, elr_el1
    mrs     x23, spsr_el1
    stp     x30, x21, [sp, #240]
    stp     x22, x23, [sp, #256]
    mov     x29, xzr                    // backtraces of the kernel end here
    .endm

    .global user_synchronous
user_synchronous:
    save_user
    mrs     x1, esr_el1
    lsr     w9, w1, #26
    cmp     w9, #SVC
    b.ne    1f
    msr     daifclr, #6
    b       lwk_syscall
1:  mov     x0, sp
    mrs     x2, far_el1
    msr     daifclr, #6
    bl      lwk_user_exception
    b       lwk_return_to_user

    .global user_interrupt
user_interrupt:
    save_user
    bl      lwk_interrupt
    tbz     w0, #0, lwk_return_to_user  // nothing else had the core meanwhile
    mov     x0, sp
    bl      lwk_user_preempted

// With a UserFrame at sp: back to the program, unless its thread has something else to do first.
    .global lwk_return_to_user
lwk_return_to_user:
    msr     daifset, #2
    ldr     x1, [sp, #USER_FRAME]
    ldr     w2, [x1]                    // UserThread::work
    cbnz    w2, 2f
    ldp     x30, x21, [sp, #240]
    ldp     x22, x23, [sp, #256]
    msr     sp_el0, x21
    msr     elr_el1, x22
    msr     spsr_el1, x23
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
    add     sp, sp, #USER_FRAME
    eret
2:  msr     daifclr, #6
    mov     x0, sp
    bl      lwk_user_work
    b       lwk_return_to_user

// A fault of one of the instructions above, on the kernel stack of a thread; x0 is in TPIDRRO_EL0. What the vectors save
// of an interrupted kernel, without FP/SIMD.
    .global user_access_fault
user_access_fault:
    mrs     x0, tpidrro_el0
    sub     sp, sp, #USER_FRAME
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
    stp     x29, x30, [sp, #224]
    mrs     x19, elr_el1
    mrs     x2, spsr_el1
    stp     x19, x2, [sp, #256]
    mov     x29, sp
    msr     tpidrro_el0, xzr
    mrs     x0, esr_el1
    mrs     x1, far_el1
    msr     daifclr, #6
    bl      lwk_user_access_fault       // whether to try again
    msr     daifset, #2
    adr     x1, lwk_user_access_failed
    cmp     x0, #0
    csel    x19, x19, x1, ne
    ldr     x2, [sp, #264]
    msr     elr_el1, x19
    msr     spsr_el1, x2
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
    ldp     x29, x30, [sp, #224]
    add     sp, sp, #USER_FRAME
    eret

// lwk_enter_user(frame, thread): to a program, on the running task's kernel stack. Returns when the thread leaves it.
    .global lwk_enter_user
lwk_enter_user:
    msr     daifset, #2
    sub     sp, sp, #96
    stp     x29, x30, [sp, #0]
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    mov     x9, sp
    stp     x1, x9, [sp, #-16]!
    sub     sp, sp, #USER_FRAME
    mov     x2, #0
3:  ldr     x3, [x0, x2]
    str     x3, [sp, x2]
    add     x2, x2, #8
    cmp     x2, #USER_FRAME
    b.ne    3b
    b       lwk_return_to_user

// lwk_leave_user(frame): lwk_enter_user returns, whatever is on the stack below it.
    .global lwk_leave_user
lwk_leave_user:
    ldr     x9, [x0, #(USER_FRAME + 8)]
    mov     sp, x9
    ldp     x29, x30, [sp, #0]
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    add     sp, sp, #96
    ret

    .arch_extension fp
    .arch_extension simd
// What stays in the processor (UserState): FPSR, FPCR, TPIDR_EL0, TTBR0_EL1, and q0 to q31 from 32 on.
    .macro  save_state state, a, b
    mrs     \a, fpsr
    mrs     \b, fpcr
    stp     \a, \b, [\state, #0]
    mrs     \a, tpidr_el0
    str     \a, [\state, #16]          // the address space does not change behind the kernel's back
    stp     q0, q1, [\state, #32]
    stp     q2, q3, [\state, #64]
    stp     q4, q5, [\state, #96]
    stp     q6, q7, [\state, #128]
    stp     q8, q9, [\state, #160]
    stp     q10, q11, [\state, #192]
    stp     q12, q13, [\state, #224]
    stp     q14, q15, [\state, #256]
    stp     q16, q17, [\state, #288]
    stp     q18, q19, [\state, #320]
    stp     q20, q21, [\state, #352]
    stp     q22, q23, [\state, #384]
    stp     q24, q25, [\state, #416]
    stp     q26, q27, [\state, #448]
    stp     q28, q29, [\state, #480]
    stp     q30, q31, [\state, #512]
    .endm

// lwk_save_user(state)
    .global lwk_save_user
lwk_save_user:
    save_state x0, x1, x2
    ret

// lwk_switch_user(save, restore, state): lwk_switch, of a task with a program.
    .global lwk_switch_user
lwk_switch_user:
    save_state x2, x3, x4
    b       lwk_switch

// lwk_restore_user(state)
    .global lwk_restore_user
lwk_restore_user:
    ldp     x1, x2, [x0, #0]
    ldp     x3, x4, [x0, #16]
    mrs     x5, ttbr0_el1
    msr     fpsr, x1
    msr     fpcr, x2
    msr     tpidr_el0, x3
    cmp     x4, x5
    b.ne    12f
11:
    ldp     q0, q1, [x0, #32]
    ldp     q2, q3, [x0, #64]
    ldp     q4, q5, [x0, #96]
    ldp     q6, q7, [x0, #128]
    ldp     q8, q9, [x0, #160]
    ldp     q10, q11, [x0, #192]
    ldp     q12, q13, [x0, #224]
    ldp     q14, q15, [x0, #256]
    ldp     q16, q17, [x0, #288]
    ldp     q18, q19, [x0, #320]
    ldp     q20, q21, [x0, #352]
    ldp     q22, q23, [x0, #384]
    ldp     q24, q25, [x0, #416]
    ldp     q26, q27, [x0, #448]
    ldp     q28, q29, [x0, #480]
    ldp     q30, q31, [x0, #512]
    ret
12: msr     ttbr0_el1, x4
    isb
    b       11b

// lwk_zero(start, bytes): pages, by the processor's own block of zeros.
    .global lwk_zero
lwk_zero:
    mrs     x2, dczid_el0
    tbnz    w2, #4, 5f
    and     w2, w2, #15
    mov     x3, #4
    lsl     x2, x3, x2
    add     x1, x0, x1
4:  .rept   2                           // pages are whole, and a block has 2 KiB at most
    dc      zva, x0
    add     x0, x0, x2
    .endr
    cmp     x0, x1
    b.lo    4b
    ret
5:  add     x1, x0, x1
6:  stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    6b
    ret

// lwk_copy(to, from, bytes): from anywhere to anywhere that is the kernel's, without overlap.
    .global lwk_copy
lwk_copy:
    subs    x2, x2, #64
    b.lo    8f
7:  ldp     x4, x5, [x1, #0]
    ldp     x6, x7, [x1, #16]
    ldp     x8, x9, [x1, #32]
    ldp     x10, x11, [x1, #48]
    stp     x4, x5, [x0, #0]
    stp     x6, x7, [x0, #16]
    stp     x8, x9, [x0, #32]
    stp     x10, x11, [x0, #48]
    add     x0, x0, #64
    add     x1, x1, #64
    subs    x2, x2, #64
    b.hs    7b
8:  adds    x2, x2, #64
    b.eq    10f
9:  ldrb    w4, [x1], #1
    strb    w4, [x0], #1
    subs    x2, x2, #1
    b.ne    9b
10: ret
