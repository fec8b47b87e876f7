// Firmware at EL3 for tests, on QEMU's virt machine with secure=on: it gives interrupts and registers to the normal world, enters the
// image at EL2, and answers SMCs: what PSCI needs for a start and a stop, and workarounds, of which it remembers what was asked.

    .set GICD, 0x08000000               // hw/arm/virt.c, memory map
    .set GICR, 0x080a0000
    .set SECURE_RAM, 0x0e000000
    .set CALLS, SECURE_RAM              // how often ARCH_WORKAROUND_1 was called
    .set STATE, SECURE_RAM + 8          // last argument of ARCH_WORKAROUND_2
    .set MAILBOXES, SECURE_RAM + 0x100  // for each core: entry, and x0
    .set IMAGE, 0x40200000              // xtask/src/qemu.rs puts image and tree there
    .set TREE, 0x47f00000

    // SCR_EL3: non-secure; HVC; EL2 is AArch64; no traps of keys, tags, contexts, HFG*, ECV, HCRX.
    .set SCR, 1 << 0 | 3 << 4 | 1 << 8 | 1 << 10 | 3 << 16 | 0xf << 25 | 1 << 38
    .set EL2H_MASKED, 0x3c9

    .section .head, "ax"
    .global _start
_start:
    ldr     x0, =vectors
    msr     vbar_el3, x0
    ldr     x0, =SCR
    msr     scr_el3, x0
    mov     x0, #(1 << 8)               // CPTR_EL3.EZ
    msr     cptr_el3, x0
    msr     mdcr_el3, xzr
    mov     x0, #0xf
    msr     s3_6_c12_c12_5, x0          // ICC_SRE_EL3
    isb
    mov     x0, #0xff
    msr     s3_0_c4_c6_0, x0            // ICC_PMR_EL1: the normal world may not raise it from the secure half
    mrs     x9, mpidr_el1
    and     x9, x9, #0xff
    // All private interrupts are the normal world's (group 1), and this core's redistributor is awake.
    ldr     x1, =GICR
    add     x1, x1, x9, lsl #17
    str     wzr, [x1, #0x14]            // GICR_WAKER
1:  ldr     w0, [x1, #0x14]
    tbnz    w0, #2, 1b
    mov     w3, #-1
    add     x1, x1, #0x10000
    str     w3, [x1, #0x80]             // GICR_IGROUPR0
    cbnz    x9, wait
    // And so are the shared ones.
    ldr     x1, =GICD
    mov     w0, #0x30                   // GICD_CTLR: affinity routing, in both worlds
    str     w0, [x1]
    add     x2, x1, #0x80               // GICD_IGROUPR
    mov     w4, #31
2:  str     w3, [x2, #4]!
    subs    w4, w4, #1
    b.ne    2b
    ldr     x1, =IMAGE
    ldr     x0, =TREE
    b       enter

wait:                                   // for CPU_ON
    ldr     x2, =MAILBOXES
    add     x2, x2, x9, lsl #4
3:  wfe
    ldp     x1, x0, [x2]
    cbz     x1, 3b

enter:                                  // x1: where, x0: its argument
    msr     elr_el3, x1
    mov     x2, #EL2H_MASKED
    msr     spsr_el3, x2
    mov     x1, xzr
    mov     x2, xzr
    mov     x3, xzr
    eret

    .balign 2048
vectors:
    .org    vectors + 0x400             // from a lower level, AArch64: only SMCs come here
    .macro  on function, label
    ldr     w17, =\function
    cmp     w0, w17
    b.eq    \label
    .endm
    on      0x84000000, version         // PSCI_VERSION
    on      0x8400000a, success         // PSCI_FEATURES
    on      0x84000008, off             // SYSTEM_OFF
    on      0xc4000003, core_on         // CPU_ON
    on      0x80000000, version         // SMCCC_VERSION
    on      0x80000001, features        // SMCCC_ARCH_FEATURES
    b       others
    .org    vectors + 0x800
others:
    on      0x80008000, workaround_1
    on      0x80007fff, workaround_2
    on      0x3f000000, query
no: mov     x0, #-1
    eret

version:                                // 1.1
    ldr     x0, =0x10001
    eret

success:
    mov     x0, xzr
    eret

features:                               // 1 and 2 are needed, 3 is there
    mov     w0, w1
    on      0x80008000, success
    on      0x80007fff, success
    ldr     w17, =0x80003fff
    cmp     w0, w17
    b.ne    no
    mov     x0, #1
    eret

workaround_1:
    ldr     x17, =CALLS
    ldr     x0, [x17]
    add     x0, x0, #1
    str     x0, [x17]
    eret

workaround_2:
    ldr     x17, =STATE
    str     x1, [x17]
    eret

query:                                  // who asks, how often 1 was called, what 2 is; in x7 nothing that was there
    ldr     x17, =CALLS
    mov     x0, x7
    ldp     x1, x2, [x17]
    mov     x7, #-1
    eret

core_on:
    ldr     x17, =MAILBOXES
    and     x1, x1, #0xff
    add     x17, x17, x1, lsl #4
    stp     x2, x3, [x17]
    dsb     sy
    sev
    mov     x0, xzr
    eret

off:                                    // semihosting: SYS_EXIT, ADP_Stopped_ApplicationExit
    mov     w0, #0x18
    adr     x1, exit
    hlt     #0xf000
    b       .
    .balign 8
exit:
    .quad   0x20026, 0
