//! A second serial line of a machine in QEMU: its output, and the input at its prompts.

use anyhow::{Context, Result};
use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Input, each when a text has been output.
pub type Dialogue = Vec<(String, String)>;

/// How long QEMU takes at most until it offers the line.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the line's socket is: not below the project, because such a name is short.
pub fn socket() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("margay-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

/// QEMU's arguments for a line at `socket`; it starts the machine once somebody is at the other end.
pub fn arguments(socket: &Path) -> [String; 4] {
    let line = format!("socket,id=second,path={},server=on,wait=on", socket.display());
    ["-chardev".into(), line, "-serial".into(), "chardev:second".into()]
}

/// Takes part in the line until QEMU ends; returns what was said.
pub fn talk(socket: PathBuf, dialogue: Dialogue) -> thread::JoinHandle<Result<Vec<String>>> {
    thread::spawn(move || {
        let line = connect(&socket);
        let _ = fs::remove_file(&socket);
        let mut line = line?;
        let mut rest = dialogue.into_iter().peekable();
        // What the next prompt is looked for in begins here.
        let (mut said, mut from, mut buffer) = (Vec::new(), 0, [0; 4096]);
        while let Ok(count @ 1..) = line.read(&mut buffer) {
            said.extend_from_slice(&buffer[..count]);
            while let Some(end) = rest.peek().and_then(|(prompt, _)| end_of(prompt, &said[from..])) {
                from += end;
                let Some((_, answer)) = rest.next() else { break };
                let mut writer = line.try_clone().context("the serial line has one end only")?;
                // The machine may be slow to take it, and says something meanwhile.
                thread::spawn(move || send(&mut writer, answer.as_bytes()));
            }
        }
        let text = String::from_utf8_lossy(&said);
        Ok(text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect())
    })
}

/// Sends `bytes` as a person at a keyboard would, not all at once: a driver that empties a receive buffer as
/// fast as it is filled takes thousands of bytes with a few interrupts, and scenarios count interrupts.
fn send(line: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    bytes.chunks(128).try_for_each(|part| {
        line.write_all(part)?;
        thread::sleep(Duration::from_millis(10));
        Ok(())
    })
}

/// Where a prompt ends in what was said.
fn end_of(prompt: &str, said: &[u8]) -> Option<usize> {
    let prompt = prompt.as_bytes();
    said.windows(prompt.len().max(1)).position(|window| window == prompt).map(|at| at + prompt.len())
}

fn connect(socket: &Path) -> Result<UnixStream> {
    let since = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Err(_) if since.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
            result => return result.context("QEMU has no second serial line"),
        }
    }
}
