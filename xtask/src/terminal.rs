//! A VM's terminal that is this one: what becomes of the VM is said here too, and not only on the console,
//! which is a file.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Child, ExitStatus},
    thread,
    time::Duration,
};

/// The VM with the terminal, in `images/login.toml`.
const VM: &str = "login";

/// What a line of the console says about the VM's end or start, if it does.
fn news(line: &str) -> Option<&str> {
    let (speaker, text) = line.trim_end_matches('\r').strip_prefix('[')?.split_once("] ")?;
    match speaker {
        "hv" => text
            .strip_prefix(VM)
            .filter(|rest| rest.starts_with(" (vm") && rest.contains(" stopped at "))
            .map(|_| text),
        // The primary and the control task.
        "primary" => {
            let text = text.trim_start_matches("INFO").trim_start();
            let rest = text.strip_prefix(VM)?.strip_prefix(' ')?;
            let verbs = ["is off", "is stopped", "starts again", "asks for a reset", "has crashed"];
            verbs.iter().any(|verb| rest.starts_with(verb)).then_some(text)
        }
        _ => None,
    }
}

/// Waits for QEMU, and says on this terminal what its console, in the file `log`, says about the VM.
pub fn attend(child: &mut Child, log: &PathBuf) -> std::io::Result<ExitStatus> {
    let mut console = None;
    let mut pending = Vec::new();
    loop {
        let ended = child.try_wait()?;
        if console.is_none() {
            console = File::open(log).ok();
        }
        if let Some(file) = &mut console {
            file.read_to_end(&mut pending)?;
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Some(news) = news(String::from_utf8_lossy(&line).trim_end()) {
                // The terminal may be raw.
                print!("\r\n*** {news}\r\n");
                std::io::stdout().flush()?;
            }
        }
        match ended {
            Some(status) => return Ok(status),
            None => thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_why_the_vm_ended() {
        let stopped = "login (vm2) vcpu 0 stopped at 0xffff: syndrome 0x92000005, address 0x0, ipa 0x0";
        assert_eq!(news(&format!("[hv] {stopped}\r")), Some(stopped));
        assert_eq!(news("[primary] INFO  login starts again"), Some("login starts again"));
        assert_eq!(
            news("[primary] login has crashed 9 times in a row, and stays as it is"),
            Some("login has crashed 9 times in a row, and stays as it is")
        );
        for other in [
            "[hv] compute (vm3) vcpu 0 stopped at 0x0: syndrome 0x0, address 0x0, ipa 0x0",
            "[primary] INFO  compute is off",
            "[primary] INFO  vCPU 0 of login on core 1",
            "[login] login is off",
            "login is off",
            "",
        ] {
            assert_eq!(news(other), None, "{other}");
        }
    }
}
