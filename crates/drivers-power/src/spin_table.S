// Where a released core begins, at its physical address, with its MMU and caches off and nothing in its registers: finds its
// entry in SPIN_TABLE by its affinity, and goes on to what it names with its context in x0.

    .section .text.boot, "ax"
    .global spin_table_trampoline
spin_table_trampoline:
    mrs     x1, mpidr_el1
    mov     x2, #0xffff
    movk    x2, #0xff, lsl #16
    movk    x2, #0xff, lsl #32
    and     x1, x1, x2                  // Aff3, Aff2, Aff1, Aff0
    adrp    x2, SPIN_TABLE
    add     x2, x2, :lo12:SPIN_TABLE
    mov     w3, #16                     // MAX_CORES
1:  ldr     x4, [x2]
    cmp     x4, x1
    b.eq    2f
    add     x2, x2, #64
    subs    w3, w3, #1
    b.ne    1b
    // No such core has been released: an old word, and not for this image.
    wfe
    b       spin_table_trampoline
2:  ldp     x4, x0, [x2, #8]
    br      x4
