//! Prints what the library reads from device trees:
//! `cargo run -p margay-machine --example describe -- file.dtb ...`
use machine::Machine;

fn main() {
    for path in std::env::args().skip(1) {
        let dtb = match std::fs::read(&path) {
            Ok(dtb) => dtb,
            Err(error) => {
                println!("{path}: {error}");
                continue;
            }
        };
        match Machine::from_dtb(&dtb) {
            Ok(machine) => describe(&path, &machine),
            Err(error) => println!("{path}: {error}"),
        }
    }
}

fn describe(path: &str, machine: &Machine) {
    println!("{path}: {}", machine.model().unwrap_or("(no model)"));
    for region in machine.memory() {
        println!("  memory     {region:x?}");
    }
    for reserved in machine.reserved() {
        println!("  reserved   {reserved:x?}");
    }
    for core in machine.cores() {
        println!("  core       {core:x?}");
    }
    println!("  psci       {:?}", machine.psci());
    println!("  interrupts {:x?}", machine.interrupt_controller());
    println!("  timer      {:?}", machine.timer());
    println!("  console    {:x?} {:x?}", machine.console(), machine.console_settings());
    println!("  bootargs   {:?}", machine.bootargs());
    println!("  initrd     {:?}", machine.initrd());
}
