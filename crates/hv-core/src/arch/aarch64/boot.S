// Entry of the hypervisor: the arm64 Image header, the first instructions with the MMU off, early tables, and the
// entry of the other cores. Runs at its physical address until it branches to the linked one.
//
// Linux Documentation/arch/arm64/booting.rst: x0 is the physical address of the device tree, the MMU is off, the
// image is loaded at a 2 MiB boundary.

    .set BLOCK_NORMAL, 0x701            // valid block, MAIR index 0, inner shareable, access flag
    .set TABLE, 3
    .set BLOCK_SHIFT, 21
    .set IMAGE_L0_INDEX, 256            // bits 47:39 of IMAGE_VA
    .set MAIR, 0x04ff                   // 0: Normal write-back; 1: Device-nGnRE
    .set TCR_FIXED, 0x80803510          // RES1; TG0 4 KiB; inner shareable; write-back walks; T0SZ 16
    .set SCTLR_ON, 0x30c5183d           // RES1; I, SA, C, M; and A off... see SCTLR_EL2
    .set HCR_RW, 1 << 31
    .set CPTR_OPEN, 0x32ff              // RES1; nothing traps

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
primary_entry:
    msr     daifset, #0xf
    mrs     x9, CurrentEL
    cmp     x9, #(2 << 2)
    b.ne    wrong_level
    mov     x9, #HCR_RW
    msr     hcr_el2, x9                 // no VHE, and nothing else yet
    mov     x9, #CPTR_OPEN
    msr     cptr_el2, x9                // boot copies with FP/SIMD registers
    isb
    mov     x20, x0                     // device tree
    adrp    x21, _start                 // where the image is

    // Six zeroed tables: level 0; level 1 for the identity map and for the image; level 2 for the identity map of the
    // image, for the device tree, and for the image.
    adrp    x10, __early_tables
    mov     x1, x10
    mov     x2, #(6 * 4096)
1:  stp     xzr, xzr, [x1], #16
    subs    x2, x2, #16
    b.ne    1b
    add     x11, x10, #0x1000
    add     x12, x10, #0x2000
    add     x13, x10, #0x3000
    add     x14, x10, #0x4000
    add     x15, x10, #0x5000

    orr     x1, x12, #TABLE
    str     x1, [x10, #(IMAGE_L0_INDEX * 8)]
    ubfx    x2, x21, #39, #9
    orr     x1, x11, #TABLE
    str     x1, [x10, x2, lsl #3]
    orr     x1, x15, #TABLE
    str     x1, [x12]
    ubfx    x2, x21, #30, #9
    orr     x1, x13, #TABLE
    str     x1, [x11, x2, lsl #3]
    ubfx    x3, x20, #30, #9
    cmp     x3, x2                      // device tree in the same GiB as the image?
    csel    x14, x13, x14, eq
    orr     x1, x14, #TABLE
    str     x1, [x11, x3, lsl #3]

    // The image, twice: at its physical and at its linked address.
    adrp    x4, __image_end
    sub     x4, x4, x21
    add     x4, x4, #(1 << BLOCK_SHIFT), lsl #0
    sub     x4, x4, #1
    lsr     x4, x4, #BLOCK_SHIFT
    ubfx    x5, x21, #BLOCK_SHIFT, #9
    mov     x6, #BLOCK_NORMAL
    orr     x7, x21, x6
    mov     x8, #0
2:  str     x7, [x15, x8, lsl #3]
    add     x9, x5, x8
    str     x7, [x13, x9, lsl #3]
    add     x7, x7, #(1 << BLOCK_SHIFT)
    add     x8, x8, #1
    cmp     x8, x4
    b.lo    2b

    // The device tree: its 2 MiB block and the next one, which it may reach into.
    and     x7, x20, #~((1 << BLOCK_SHIFT) - 1)
    orr     x7, x7, x6
    ubfx    x5, x20, #BLOCK_SHIFT, #9
    str     x7, [x14, x5, lsl #3]
    add     x5, x5, #1
    cmp     x5, #512
    b.hs    3f
    add     x7, x7, #(1 << BLOCK_SHIFT)
    str     x7, [x14, x5, lsl #3]
3:
    // The tables were written with the caches off: nothing stale may lie over them (Arm ARM, D7.5.9).
    dmb     sy
    mov     x1, x10
    mov     x2, #(6 * 4096)
4:  dc      ivac, x1
    add     x1, x1, #16
    subs    x2, x2, #16
    b.ne    4b
    dsb     sy

    mov     x0, x10
    bl      enable_mmu
    ldr     x1, =primary_high
    br      x1

primary_high:
    ldr     x0, =__bss_start
    ldr     x1, =__bss_end
5:  stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    5b
    ldr     x0, =__boot_stack_top
    mov     sp, x0
    ldr     x0, =__vectors
    msr     vbar_el2, x0
    msr     tpidr_el2, xzr
    isb
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x20
    mov     x1, x21
    bl      hv_boot
    b       .

// x0: physical address of the level 0 table. Clobbers x1, x2.
enable_mmu:
    ldr     x1, =MAIR
    msr     mair_el2, x1
    ldr     x1, =TCR_FIXED
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #0xf
    cmp     x2, #5                      // more than 48 bits of physical address need other descriptors
    mov     x3, #5
    csel    x2, x2, x3, lo
    bfi     x1, x2, #16, #3
    msr     tcr_el2, x1
    msr     ttbr0_el2, x0
    isb
    tlbi    alle2
    ic      iallu
    dsb     sy
    isb
    ldr     x1, =SCTLR_ON
    msr     sctlr_el2, x1
    isb
    ret

// Another core, started by PSCI with x0: physical address of its `CoreStart`, which its starter has cleaned to memory.
    .global hv_secondary_entry
hv_secondary_entry:
    msr     daifset, #0xf
    mov     x9, #HCR_RW
    msr     hcr_el2, x9
    isb
    ldp     x20, x21, [x0]              // CoreStart: tables, stack top
    ldr     x22, [x0, #16]              // CoreStart: core
    mov     x0, x20
    bl      enable_mmu
    ldr     x1, =6f
    br      x1
6:  mov     sp, x21
    ldr     x0, =__vectors
    msr     vbar_el2, x0
    msr     tpidr_el2, xzr
    isb
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x22
    bl      hv_core_started
    b       .

// Entered at the wrong exception level: say so on the board's console, as firmware left it, and stop.
wrong_level:
    adr     x1, wrong_level_text
    cmp     x9, #(1 << 2)
    adr     x2, wrong_level_text_el3
    csel    x1, x1, x2, eq
    adrp    x2, BOARD_EARLY_CONSOLE
    ldr     x2, [x2, :lo12:BOARD_EARLY_CONSOLE]
7:  ldrb    w3, [x1], #1
    cbz     w3, 9f
    str     w3, [x2]                    // some UARTs want words
    mov     x4, #0x8000                 // no status register is common to all UARTs: give it time
8:  subs    x4, x4, #1
    b.ne    8b
    b       7b
9:  adrp    x2, BOARD_EARLY_STOP
    ldr     x2, [x2, :lo12:BOARD_EARLY_STOP]
    cbz     x2, 10f
    ldr     x0, =0x84000008             // PSCI SYSTEM_OFF
    mrs     x9, CurrentEL
    cmp     x9, #(1 << 2)
    b.ne    10f
    hvc     #0                          // at EL1 the conduit is HVC
10: wfi
    b       10b
wrong_level_text:
    .asciz  "[hv] fatal: entered at EL1, but the hypervisor must be entered at EL2\r\n"
wrong_level_text_el3:
    .asciz  "[hv] fatal: entered at EL3, but the hypervisor must be entered at EL2\r\n"
    .balign 4
    .ltorg
