// The exception vectors of the hypervisor, and the only code that touches a vCPU's general registers.
//
// TPIDR_EL2 points to the registers of the vCPU that runs on this core (`Vcpu`, whose first field they are: x0 to x30,
// pc, spsr). The stack of the core is empty whenever a VM runs.
//
// A hypercall saves just what Rust does not preserve (x0 to x18, x29, x30); only if another vCPU is to run are the
// rest saved and `hv_switch` called. Everything else saves all registers first, because a handler may need any of them.
// What is no call, and FFA_ID_GET, is answered here, with x0 to x7.

    .macro  save_volatile               // leaves x0 = current vCPU
    stp     x0, x1, [sp, #-16]!
    mrs     x0, tpidr_el2
    stp     x2, x3, [x0, #(2 * 8)]
    stp     x4, x5, [x0, #(4 * 8)]
    stp     x6, x7, [x0, #(6 * 8)]
    stp     x8, x9, [x0, #(8 * 8)]
    stp     x10, x11, [x0, #(10 * 8)]
    stp     x12, x13, [x0, #(12 * 8)]
    stp     x14, x15, [x0, #(14 * 8)]
    stp     x16, x17, [x0, #(16 * 8)]
    stp     x18, x19, [x0, #(18 * 8)]
    ldp     x2, x3, [sp], #16
    stp     x29, x30, [x0, #(29 * 8)]
    stp     x2, x3, [x0]
    .endm

    .macro  save_preserved              // x1: vCPU
    stp     x20, x21, [x1, #(20 * 8)]
    stp     x22, x23, [x1, #(22 * 8)]
    stp     x24, x25, [x1, #(24 * 8)]
    stp     x26, x27, [x1, #(26 * 8)]
    str     x28, [x1, #(28 * 8)]
    .endm

    .macro  restore_volatile            // x0: vCPU
    ldp     x2, x3, [x0, #(2 * 8)]
    ldp     x4, x5, [x0, #(4 * 8)]
    ldp     x6, x7, [x0, #(6 * 8)]
    ldp     x8, x9, [x0, #(8 * 8)]
    ldp     x10, x11, [x0, #(10 * 8)]
    ldp     x12, x13, [x0, #(12 * 8)]
    ldp     x14, x15, [x0, #(14 * 8)]
    ldp     x16, x17, [x0, #(16 * 8)]
    ldr     x18, [x0, #(18 * 8)]
    ldp     x29, x30, [x0, #(29 * 8)]
    ldp     x0, x1, [x0]
    .endm

// A table entry for an exception of a VM. EC 0x16 is HVC from AArch64.
    .macro  lower_sync
    .balign 0x80
    save_volatile
    mrs     x1, esr_el2
    ubfx    x2, x1, #26, #6
    cmp     x2, #0x16
    b.ne    lower_trap
    b       lower_hypercall             // an entry has room for 32 instructions
    .endm

    .macro  set_w reg, value
    mov     \reg, #((\value) & 0xffff)
    movk    \reg, #((\value) >> 16), lsl #16
    .endm

    .set FFA_ERROR, 0x84000060
    .set FFA_SUCCESS, 0x84000061
    .set FFA_ID_GET, 0x84000069
    .set FFA_FIRST, 0x84000060          // the range in which errors are FFA_ERROR
    .set FFA_COUNT, 0x90
    .set CONVENTION_64, 0x40000000
    .set VCPU_COLUMN, 33 * 8            // see `Vcpu`
    .set VCPU_VM_ID, 34 * 8
    .set CALLS_FUNCTIONS, 256           // see `service::access::Table`

    .macro  lower_irq
    .balign 0x80
    save_volatile
    b       lower_interrupt
    .endm

    .macro  lower_serror
    .balign 0x80
    save_volatile
    b       lower_error
    .endm

    .macro  unexpected kind
    .balign 0x80
    msr     sp_el0, x0                  // nothing of the VM's is needed any more
    mov     x0, sp
    msr     tpidr_el0, x0
    ldr     x0, =__report_stack_top
    mov     sp, x0
    mov     x0, #\kind
    b       report
    .endm

// An SError of EL2, which has them masked but for the moment in which `hv_take_serror` lets one in.
    .macro  hypervisor_serror
    .balign 0x80
    msr     sp_el0, x0
    msr     tpidr_el0, x1
    mrs     x0, elr_el2
    adr     x1, serror_window
    sub     x0, x0, x1
    cmp     x0, #(SERROR_WINDOW)
    mrs     x1, tpidr_el0
    b.hs    1f
    mrs     x0, esr_el2                 // what `hv_take_serror` returns
    eret
1:  mov     x0, sp                      // as `unexpected`
    msr     tpidr_el0, x0
    ldr     x0, =__report_stack_top
    mov     sp, x0
    mov     x0, #7
    b       report
    .endm

    .set SERROR_WINDOW, 2 * 4

    .section .text.vectors, "ax"
    .balign 2048
    .global __vectors
__vectors:
    unexpected 0                        // current EL, SP_EL0
    unexpected 1
    unexpected 2
    unexpected 3
    unexpected 4                        // current EL, SP_EL2
    unexpected 5
    unexpected 6
    hypervisor_serror                   // 7
    lower_sync                          // lower EL, AArch64
    lower_irq
    lower_irq
    lower_serror
    lower_sync                          // lower EL, AArch32: a VM may run such programs at EL0
    lower_irq
    lower_irq
    lower_serror
    .org    __vectors + 0x800           // an error if an entry was too long

lower_trap:                             // x0: vCPU, x1: syndrome
    mov     x2, x1
    mov     x1, x0
    save_preserved
    mov     x1, x2
    bl      hv_trap
    mrs     x1, tpidr_el2
    cmp     x0, x1
    b.eq    resume_all
    mov     x2, x0
    mov     x0, x1
    mov     x1, x2
    b       switch_saved

lower_hypercall:                        // x0: vCPU
    ldr     w2, [x0]                    // the function
    ldr     x4, =HV_CALLS
    eor     w5, w2, w2, lsr #23         // see `slot`
1:  and     w5, w5, #0xff
    ldrb    w6, [x4, x5]
    cbz     w6, no_call
    add     x7, x4, x6, lsl #2
    ldr     w7, [x7, #(CALLS_FUNCTIONS - 4)] // rows are counted from 1
    cmp     w7, w2
    b.ne    2f
    set_w   w3, FFA_ID_GET
    cmp     w2, w3
    b.eq    answer_id
    ldr     x3, [x0, #VCPU_COLUMN]
    add     x6, x4, x6, lsl #4
    ldr     x6, [x6, x3]
    cbz     x6, no_call
    blr     x6
    mrs     x1, tpidr_el2
    cmp     x0, x1
    b.ne    switch_to
    restore_volatile
    eret

2:  add     w5, w5, #1
    b       1b

answer_id:                              // FFA_SUCCESS, w2: the VM's id
    ldr     x2, [x0, #VCPU_VM_ID]
    set_w   w0, FFA_SUCCESS
    mov     x1, xzr
    mov     x3, xzr
    mov     x4, xzr
    mov     x5, xzr
    mov     x6, xzr
    mov     x7, xzr
    eret

no_call:                                // x0: vCPU, w2: the function
    and     w3, w2, #~CONVENTION_64
    set_w   w4, FFA_FIRST
    sub     w3, w3, w4
    cmp     w3, #FFA_COUNT
    b.lo    no_ffa_call
    ldp     x2, x3, [x0, #(2 * 8)]
    ldp     x4, x5, [x0, #(4 * 8)]
    ldp     x6, x7, [x0, #(6 * 8)]
    ldr     x1, [x0, #8]
    mov     x0, #-1                     // SMCCC: NOT_SUPPORTED
    eret

no_ffa_call:                            // FFA_ERROR, w2: NOT_SUPPORTED
    set_w   w0, FFA_ERROR
    mov     x1, xzr
    mov     w2, #-1
    mov     x3, xzr
    mov     x4, xzr
    mov     x5, xzr
    mov     x6, xzr
    mov     x7, xzr
    eret

lower_interrupt:
    bl      hv_interrupt
    mrs     x1, tpidr_el2
    cmp     x0, x1
    b.ne    switch_to
    restore_volatile
    eret

lower_error:
    mov     x1, x0
    save_preserved
    bl      hv_serror
    mrs     x1, tpidr_el2
    cmp     x0, x1
    b.eq    resume_all
    mov     x2, x0
    mov     x0, x1
    mov     x1, x2
    b       switch_saved

switch_to:                              // x0: next vCPU, x1: current
    save_preserved
    mov     x2, x0
    mov     x0, x1
    mov     x1, x2
switch_saved:                           // x0: current, x1: next
    bl      hv_switch                   // returns the vCPU to enter
resume_all:                             // x0: vCPU
    ldr     x19, [x0, #(19 * 8)]
    ldp     x20, x21, [x0, #(20 * 8)]
    ldp     x22, x23, [x0, #(22 * 8)]
    ldp     x24, x25, [x0, #(24 * 8)]
    ldp     x26, x27, [x0, #(26 * 8)]
    ldr     x28, [x0, #(28 * 8)]
    restore_volatile
    eret

// Takes a pending SError; x0: its syndrome, or 0. An exception changes ELR_EL2 and SPSR_EL2.
    .global hv_take_serror
hv_take_serror:
    mrs     x1, elr_el2
    mrs     x2, spsr_el2
    mov     x0, xzr
    msr     daifclr, #4
serror_window:                          // here, or at the next instruction
    isb
    msr     daifset, #4
    msr     elr_el2, x1
    msr     spsr_el2, x2
    ret

// Enters the first vCPU of a core: x0; x1: the top of the core's stack.
    .global hv_enter
hv_enter:
    mov     sp, x1
    mov     x1, x0
    mov     x0, xzr
    b       switch_saved

// An exception of the hypervisor itself. SP_EL0: x0; TPIDR_EL0: SP; x0: which vector. Saves all registers on the
// report stack and reports.
report:
    sub     sp, sp, #(34 * 8)
    stp     x2, x3, [sp, #(2 * 8)]
    stp     x4, x5, [sp, #(4 * 8)]
    stp     x6, x7, [sp, #(6 * 8)]
    stp     x8, x9, [sp, #(8 * 8)]
    stp     x10, x11, [sp, #(10 * 8)]
    stp     x12, x13, [sp, #(12 * 8)]
    stp     x14, x15, [sp, #(14 * 8)]
    stp     x16, x17, [sp, #(16 * 8)]
    stp     x18, x19, [sp, #(18 * 8)]
    stp     x20, x21, [sp, #(20 * 8)]
    stp     x22, x23, [sp, #(22 * 8)]
    stp     x24, x25, [sp, #(24 * 8)]
    stp     x26, x27, [sp, #(26 * 8)]
    stp     x28, x29, [sp, #(28 * 8)]
    mrs     x2, sp_el0
    stp     x2, x1, [sp]
    mrs     x2, tpidr_el0
    stp     x30, x2, [sp, #(30 * 8)]
    mov     x1, sp
    bl      hv_unexpected
    b       .
    .ltorg
