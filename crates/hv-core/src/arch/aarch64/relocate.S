// Copies for the boot, and the move of the hypervisor to another place in memory. Boot core only, before there is a VM: the FP/SIMD
// registers are free, and hold nothing afterwards that a VM may not see (they hold parts of images, and are zeroed at the end).

    .arch_extension fp
    .arch_extension simd
    .section .text.boot, "ax"

// x0: to, x1: from, x2: bytes. Clobbers x0 to x3, q0 to q7.
    .global hv_copy
hv_copy:
    subs    x2, x2, #128
    b.lo    2f
1:  ldp     q0, q1, [x1]
    ldp     q2, q3, [x1, #32]
    ldp     q4, q5, [x1, #64]
    ldp     q6, q7, [x1, #96]
    add     x1, x1, #128
    subs    x2, x2, #128
    stp     q0, q1, [x0]
    stp     q2, q3, [x0, #32]
    stp     q4, q5, [x0, #64]
    stp     q6, q7, [x0, #96]
    add     x0, x0, #128
    b.hs    1b
2:  adds    x2, x2, #128
    b.eq    4f
3:  ldrb    w3, [x1], #1
    strb    w3, [x0], #1
    subs    x2, x2, #1
    b.ne    3b
4:  ret

// x0: address, x1: bytes. Clobbers x0, x1, q0.
    .global hv_zero
hv_zero:
    movi    v0.2d, #0
    subs    x1, x1, #128
    b.lo    2f
1:  stp     q0, q0, [x0]
    stp     q0, q0, [x0, #32]
    stp     q0, q0, [x0, #64]
    stp     q0, q0, [x0, #96]
    add     x0, x0, #128
    subs    x1, x1, #128
    b.hs    1b
2:  adds    x1, x1, #128
    b.eq    4f
3:  strb    wzr, [x0], #1
    subs    x1, x1, #1
    b.ne    3b
4:  ret

// x0: the new physical address of the image, x1: the present one, x2: the root of the tables for the new place. The tables in use map
// the new place writable at its physical address. Returns at the address where it was called, which is in the new place then.
//
// Two rules of the architecture shape this. A live translation must not change its output address (Arm ARM, D8.16.1,
// break-before-make), so the tables are exchanged with the MMU off. With the MMU off, instructions and data come from memory and not
// from the caches (B2.10), so what is used then is cleaned first, and nothing of the old place is left in a cache: a VM will have it.
    .global hv_move_image
hv_move_image:
    mov     x10, x0
    mov     x11, x1
    mov     x12, x2
    mov     x13, x30
    // Everything up to the boot stack, and of that what is in use.
    ldr     x14, =__image_start
    ldr     x2, =__bss_end
    mov     x1, x14
    sub     x2, x2, x14
    bl      hv_copy
    mov     x1, sp
    sub     x3, x1, x14
    add     x0, x10, x3
    ldr     x2, =__boot_stack_top
    sub     x2, x2, x1
    bl      hv_copy
    // New text and constants, to memory.
    ldr     x3, =__rodata_end
    sub     x3, x3, x14
    add     x3, x3, x10
    mrs     x4, ctr_el0
    ubfx    x4, x4, #16, #4             // DminLine: log2 of the words in a line
    mov     x5, #4
    lsl     x4, x5, x4
    mov     x5, x10
1:  dc      cvac, x5
    add     x5, x5, x4
    cmp     x5, x3
    b.lo    1b
    // The old data, bss and stack, out of the caches.
    ldr     x5, =__rodata_end
    ldr     x3, =__boot_stack_top
2:  dc      civac, x5
    add     x5, x5, x4
    cmp     x5, x3
    b.lo    2b
    dsb     sy
    // To the identity map of the old place, where the MMU goes off; from there to the new place, where it goes on.
    ldr     x3, =3f
    sub     x3, x3, x14
    add     x3, x3, x11
    ldr     x4, =4f
    sub     x4, x4, x14
    add     x4, x4, x10
    br      x3
3:  mrs     x5, sctlr_el2
    bic     x5, x5, #1
    msr     sctlr_el2, x5
    isb
    br      x4
4:  mov     x0, x12
    bl      enable_mmu                  // forgets all translations and instructions
    mov     x30, x13
    movi    v0.2d, #0
    movi    v1.2d, #0
    movi    v2.2d, #0
    movi    v3.2d, #0
    movi    v4.2d, #0
    movi    v5.2d, #0
    movi    v6.2d, #0
    movi    v7.2d, #0
    ret
    .ltorg
