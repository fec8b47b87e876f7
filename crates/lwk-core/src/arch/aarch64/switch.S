// Cooperative context switch: what the procedure call standard lets a callee keep (AAPCS64, 6.1.1 and 6.1.2).

    .section .text.switch, "ax"
// lwk_switch(save: *mut usize, restore: usize): pushes the context, stores sp in `save`, continues at `restore`.
    .global lwk_switch
    .balign 64
lwk_switch:
    sub     sp, sp, #160
    stp     x29, x30, [sp, #0]
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    .if     {NEON}
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    .endif
    mov     x2, sp
    str     x2, [x0]
    mov     sp, x1
    ldp     x29, x30, [sp, #0]
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    .if     {NEON}
    ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    .endif
    add     sp, sp, #160
    ret

// Where a new task begins, entered by lwk_switch.
    .global lwk_task_entry
lwk_task_entry:
    mov     x29, xzr
    mov     x30, xzr
    bl      lwk_task_main
    b       .
