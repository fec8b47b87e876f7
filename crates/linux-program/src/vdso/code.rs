//! The instructions of the vDSO's functions, as `vdso.S` assembles to them.

/// A function of the vDSO: where it is among the instructions, and its length, in bytes.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) at: usize,
    pub(super) size: usize,
}

pub(super) const FUNCTIONS: [Function; 4] = [
    Function { name: "__kernel_rt_sigreturn", at: 0x4, size: 0x8 },
    Function { name: "__kernel_clock_gettime", at: 0xc, size: 0x8c },
    Function { name: "__kernel_gettimeofday", at: 0x98, size: 0x7c },
    Function { name: "__kernel_clock_getres", at: 0x114, size: 0x38 },
];

/// `__kernel_rt_sigreturn` is the first of them.
pub(super) const SIGRETURN: usize = FUNCTIONS[0].at;

#[rustfmt::skip]
pub(super) const CODE: [u32; 83] = [
    0xd503_201f, // nop
    // __kernel_rt_sigreturn:
    0xd280_1168, // mov   x8, #0x8b
    0xd400_0001, // svc   #0x0
    // __kernel_clock_gettime:
    0xd503_245f, // bti   c
    0x7100_1c1f, // cmp   w0, #0x7
    0x5400_03c8, // b.hi  code+0x8c
    0x5280_1e69, // mov   w9, #0xf3
    0x1ac0_2529, // lsr   w9, w9, w0
    0x3600_0369, // tbz   w9, #0, code+0x8c
    0x10ff_5eea, // adr   x10, clock
    0xf940_114b, // ldr   x11, [x10, #32]
    0xb400_030b, // cbz   x11, code+0x8c
    0xd503_3fdf, // isb
    0xd53b_e04b, // mrs   x11, cntvct_el0
    0xa940_354c, // ldp   x12, x13, [x10]
    0xa941_3d4e, // ldp   x14, x15, [x10, #16]
    0xcb0c_016b, // sub   x11, x11, x12
    0x9bcd_7d6c, // umulh x12, x11, x13
    0x9b0d_7d6b, // mul   x11, x11, x13
    0x9ace_256b, // lsr   x11, x11, x14
    0xcb0e_03ee, // neg   x14, x14
    0x9ace_218c, // lsl   x12, x12, x14
    0xaa0c_016b, // orr   x11, x11, x12
    0x5280_0429, // mov   w9, #0x21
    0x1ac0_2529, // lsr   w9, w9, w0
    0x7200_013f, // tst   w9, #0x1
    0x9a9f_11ef, // csel  x15, x15, xzr, ne
    0x8b0f_016b, // add   x11, x11, x15
    0x5299_400c, // mov   w12, #0xca00
    0x72a7_734c, // movk  w12, #0x3b9a, lsl #16
    0x9acc_096d, // udiv  x13, x11, x12
    0x9b0c_adae, // msub  x14, x13, x12, x11
    0xa900_382d, // stp   x13, x14, [x1]
    0x5280_0000, // mov   w0, #0x0
    0xd65f_03c0, // ret
    0xd280_0e28, // mov   x8, #0x71
    0xd400_0001, // svc   #0x0
    0xd65f_03c0, // ret
    // __kernel_gettimeofday:
    0xd503_245f, // bti   c
    0xb400_02e0, // cbz   x0, code+0xf8
    0x10ff_5b0a, // adr   x10, clock
    0xf940_114b, // ldr   x11, [x10, #32]
    0xb400_030b, // cbz   x11, code+0x108
    0xd503_3fdf, // isb
    0xd53b_e04b, // mrs   x11, cntvct_el0
    0xa940_354c, // ldp   x12, x13, [x10]
    0xa941_3d4e, // ldp   x14, x15, [x10, #16]
    0xcb0c_016b, // sub   x11, x11, x12
    0x9bcd_7d6c, // umulh x12, x11, x13
    0x9b0d_7d6b, // mul   x11, x11, x13
    0x9ace_256b, // lsr   x11, x11, x14
    0xcb0e_03ee, // neg   x14, x14
    0x9ace_218c, // lsl   x12, x12, x14
    0xaa0c_016b, // orr   x11, x11, x12
    0x8b0f_016b, // add   x11, x11, x15
    0x5299_400c, // mov   w12, #0xca00
    0x72a7_734c, // movk  w12, #0x3b9a, lsl #16
    0x9acc_096d, // udiv  x13, x11, x12
    0x9b0c_adae, // msub  x14, x13, x12, x11
    0x5280_7d0c, // mov   w12, #0x3e8
    0x9acc_09ce, // udiv  x14, x14, x12
    0xa900_380d, // stp   x13, x14, [x0]
    0xb400_0041, // cbz   x1, code+0x100
    0x2900_7c3f, // stp   wzr, wzr, [x1]
    0x5280_0000, // mov   w0, #0x0
    0xd65f_03c0, // ret
    0xd280_1528, // mov   x8, #0xa9
    0xd400_0001, // svc   #0x0
    0xd65f_03c0, // ret
    // __kernel_clock_getres:
    0xd503_245f, // bti   c
    0x7100_1c1f, // cmp   w0, #0x7
    0x5400_0128, // b.hi  code+0x140
    0x5280_1e69, // mov   w9, #0xf3
    0x1ac0_2529, // lsr   w9, w9, w0
    0x3600_00c9, // tbz   w9, #0, code+0x140
    0xb400_0061, // cbz   x1, code+0x138
    0x5280_0029, // mov   w9, #0x1
    0xa900_243f, // stp   xzr, x9, [x1]
    0x5280_0000, // mov   w0, #0x0
    0xd65f_03c0, // ret
    0xd280_0e48, // mov   x8, #0x72
    0xd400_0001, // svc   #0x0
    0xd65f_03c0, // ret
];
