// Entry of the kernel: the arm64 Image header, the first instructions with the MMU off, early tables, the change to
// the final tables, and the entry of the other cores. Runs at its physical address until it branches to the linked one.
//
// Linux Documentation/arch/arm64/booting.rst: x0 is the physical address of the device tree, the MMU is off, the image
// is loaded at a 2 MiB boundary. Entered at EL2 (bare machine) or EL1 (under a hypervisor).
//
// Early translation (4 KiB granule, 48 bits on either side):
//   TTBR0  the image, identity-mapped: only while the MMU is switched on and while tables are changed
//   TTBR1  the image at IMAGE_VA, the device tree's two 2 MiB blocks at DTB_VA

    .section .head.text, "ax"
    .global _start
_start:
    b       primary_entry
    .long   0
    .quad   0                           // text_offset
    .quad   __image_size
    .quad   0xa                         // little-endian, 4 KiB pages, anywhere in memory
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   0

    .section .text.boot, "ax"
    .set BLOCK_NORMAL, 0x701            // valid block, MAIR index 0, inner shareable, access flag
    .set TABLE, 3
    .set IMAGE_L0, 256                  // bits 47:39 of IMAGE_VA
    .set MAIR, 0x04ff                   // 0: Normal write-back; 1: Device-nGnRE
    .set TCR, 0xb5103510                // T0SZ = T1SZ = 16; 4 KiB; inner shareable write-back walks
    .set SCTLR_OFF, 0x30d00800          // RES1
    .set SCTLR_ON, 0x30d0181d           // and M, C, SA, SA0, I

primary_entry:
    mrs     x19, cntvct_el0             // the moment of entry
    msr     daifset, #0xf
    mov     x20, x0                     // device tree
    bl      drop_to_el1
    adrp    x21, _start                 // where the image is

    // Seven zeroed tables: level 0 for TTBR0 and TTBR1, level 1 for each, two of level 2 for the identity map (an image
    // may lie across a GiB boundary), and one of level 2 for the image and the device tree at their linked addresses.
    adrp    x10, __early_tables
    mov     x1, x10
    mov     x2, #(7 * 4096)
1:  stp     xzr, xzr, [x1], #16
    subs    x2, x2, #16
    b.ne    1b
    add     x11, x10, #0x1000           // TTBR1 level 0
    add     x12, x10, #0x2000           // TTBR0 level 1
    add     x13, x10, #0x3000           // TTBR1 level 1
    add     x14, x10, #0x4000           // level 2, image identity
    add     x15, x10, #0x6000           // level 2, image and device tree at the top
    ubfx    x2, x21, #39, #9
    orr     x1, x12, #TABLE
    str     x1, [x10, x2, lsl #3]
    ubfx    x2, x21, #30, #9
    add     x2, x12, x2, lsl #3
    orr     x1, x14, #TABLE
    str     x1, [x2]
    add     x1, x1, #0x1000
    str     x1, [x2, #8]                // of no effect behind the last entry: what it hits is written below
    orr     x1, x13, #TABLE
    str     x1, [x11, #(IMAGE_L0 * 8)]
    orr     x1, x15, #TABLE
    str     x1, [x13]

    // The image, twice. There is room for 510 blocks beside the device tree: a GiB, less 4 MiB.
    adrp    x4, __image_end
    sub     x4, x4, x21
    add     x4, x4, #0x1ff, lsl #12
    add     x4, x4, #0xfff
    lsr     x4, x4, #21
    ubfx    x5, x21, #21, #9
    mov     x6, #BLOCK_NORMAL
    orr     x7, x21, x6
    mov     x8, #0
    mov     x16, #(1 << 21)
2:  str     x7, [x15, x8, lsl #3]
    add     x9, x5, x8
    str     x7, [x14, x9, lsl #3]
    add     x7, x7, x16
    add     x8, x8, #1
    cmp     x8, x4
    b.lo    2b

    // The device tree: its 2 MiB block and the next one, which it may reach into, in the last entries of that table.
    and     x7, x20, #~0x1fffff
    orr     x7, x7, x6
    str     x7, [x15, #(510 * 8)]
    add     x7, x7, x16
    str     x7, [x15, #(511 * 8)]

    // The tables were written with the caches off: nothing stale may lie over them (Arm ARM, D7.5.9).
    dmb     sy
    mov     x1, x10
    mov     x2, #(7 * 4096)
3:  dc      ivac, x1
    add     x1, x1, #16
    subs    x2, x2, #16
    b.ne    3b
    dsb     sy

    mov     x0, x11
    bl      enable_mmu
    ldr     x1, =primary_high
    br      x1

primary_high:
    ldr     x0, =__bss_start
    ldr     x1, =__bss_end
4:  stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    4b
    ldr     x0, =__boot_stack_top
    mov     sp, x0
    ldr     x0, =lwk_vectors
    msr     vbar_el1, x0
    ldr     x0, =LWK_BOOT_CORE
    msr     tpidr_el1, x0
    isb
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x20
    mov     x1, x21
    mov     x2, x19
    bl      lwk_boot
    b       .

// Another core, started by PSCI with x0: physical address of its CoreStart, cleaned to memory by its starter.
    .global lwk_secondary_entry
lwk_secondary_entry:
    msr     daifset, #0xf
    mov     x20, x0
    bl      drop_to_el1
    ldp     x22, x23, [x20]             // CoreStart: table root, stack top
    ldr     x24, [x20, #16]             // CoreStart: per-core data
    adrp    x10, __early_tables
    mov     x0, x22
    bl      enable_mmu
    ldr     x1, =5f
    br      x1
5:  mov     sp, x23
    ldr     x0, =lwk_vectors
    msr     vbar_el1, x0
    msr     tpidr_el1, x24
    isb
    mov     x29, xzr
    mov     x30, xzr
    bl      lwk_core_started
    b       .

// x10: physical address of the TTBR0 root, x0: of the TTBR1 root. Clobbers x1 to x3.
enable_mmu:
    ldr     x1, =MAIR
    msr     mair_el1, x1
    ldr     x1, =TCR
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #0xf
    cmp     x2, #5                      // more than 48 bits of physical address need other descriptors
    mov     x3, #5
    csel    x2, x2, x3, lo
    bfi     x1, x2, #32, #3
    msr     tcr_el1, x1
    msr     ttbr0_el1, x10
    msr     ttbr1_el1, x0
    mov     x1, #(3 << 20)              // CPACR_EL1.FPEN: FP and SIMD for everyone
    msr     cpacr_el1, x1
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    ldr     x1, =SCTLR_ON
    msr     sctlr_el1, x1
    isb
    ret

// Changes TTBR1 to the table at physical address x0; x1 is the physical address of the image. While the old table is
// gone and the new one not yet in force this runs identity-mapped (Arm ARM, D8.16.1, break-before-make). Afterwards
// TTBR0 is off. Leaf function of the C calling convention.
    .global lwk_change_tables
lwk_change_tables:
    adrp    x2, __image_start
    add     x2, x2, :lo12:__image_start
    adr     x3, 6f
    sub     x3, x3, x2
    add     x3, x3, x1
    br      x3
6:  adrp    x3, __empty_table           // physical now, as the program counter is
    msr     ttbr1_el1, x3
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    msr     ttbr1_el1, x0
    isb
    adr     x3, 7f
    sub     x3, x3, x1
    add     x3, x3, x2
    br      x3
7:  ret

// From EL2 to EL1, if at EL2, with nothing trapped. Returns to x30 at EL1. Clobbers x1 to x3.
drop_to_el1:
    ldr     x1, =SCTLR_OFF
    mrs     x2, CurrentEL
    cmp     x2, #(2 << 2)
    b.eq    8f
    b.hi    .                           // EL3: this is no firmware
    msr     sctlr_el1, x1
    isb
    ret
8:  mov     x2, #(1 << 31)              // HCR_EL2.RW: EL1 is AArch64
    msr     hcr_el2, x2
    isb
    msr     sctlr_el1, x1
    mov     x2, #3                      // CNTHCTL_EL2: EL1 may use the physical counter and timer
    msr     cnthctl_el2, x2
    msr     cntvoff_el2, xzr
    mov     x2, #0x33ff                 // CPTR_EL2: RES1, no trap of FP
    msr     cptr_el2, x2
    msr     hstr_el2, xzr
    msr     vttbr_el2, xzr
    mrs     x2, midr_el1
    msr     vpidr_el2, x2
    mrs     x2, mpidr_el1
    msr     vmpidr_el2, x2
    mov     x3, #0                      // MDCR_EL2: no debug traps, and all counters (if any) to EL1
    mrs     x2, id_aa64dfr0_el1
    ubfx    x2, x2, #8, #4
    sub     x2, x2, #1
    cmp     x2, #0xe                    // 0 and 0xf: no architected PMU
    b.hs    9f
    mrs     x3, pmcr_el0
    ubfx    x3, x3, #11, #5
9:  msr     mdcr_el2, x3
    mrs     x2, id_aa64pfr0_el1
    ubfx    x2, x2, #24, #4
    cbz     x2, 10f                     // no GIC system registers
    mrs     x2, S3_4_C12_C9_5           // ICC_SRE_EL2: SRE and Enable
    orr     x2, x2, #1
    orr     x2, x2, #8
    msr     S3_4_C12_C9_5, x2
    isb
    msr     S3_4_C12_C11_0, xzr         // ICH_HCR_EL2
10: mov     x2, #0x3c5                  // SPSR: EL1h, all masked
    msr     spsr_el2, x2
    msr     elr_el2, x30
    eret

    .ltorg
