//! Firmware for tests (`firmware = true` in a scenario): see `firmware.S`.
#![no_std]
#![no_main]

core::arch::global_asm!(include_str!("../firmware.S"));

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
