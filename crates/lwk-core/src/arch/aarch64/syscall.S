// A system call, with a UserFrame at sp and the program's x8 still in x8. Every path has this in it.
    .section .text.syscall, "ax"
    .global lwk_syscall
lwk_syscall:
    ldr     x0, [sp, #272]              // the thread
    mov     x1, sp
    cmp     x8, #{NUMBERS}
    b.hs    1f
    adrp    x9, {CALLS}
    add     x9, x9, :lo12:{CALLS}
    ldr     x9, [x9, x8, lsl #3]
    blr     x9
    cmn     x0, #{RESTART}
    b.eq    2f
    str     x0, [sp]
    b       lwk_return_to_user
1:  bl      {UNKNOWN}
    str     x0, [sp]
    b       lwk_return_to_user
2:  ldr     x0, [sp, #272]
    mov     x1, sp
    bl      {INTERRUPTED}
    b       lwk_return_to_user
