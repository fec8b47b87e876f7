//! The smallest kernel: a platform and a program.
#![no_std]
#![no_main]

use lwk_core::{
    app::{App, Status},
    platform::Vm,
};

static PLATFORM: Vm = Vm::new();

fn main(app: &App) -> Status {
    lwk_core::println!("hello from {} cores", app.cores());
    Status::SUCCESS
}

lwk_core::image!(PLATFORM, main);
