//! A second serial line of a machine in QEMU: what it says, and what it is told when it listens.

use anyhow::{Context, Result};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// What is said by who wants to be told something. Before that it might be lost.
pub const LISTENS: &str = "listening";

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
pub fn talk(socket: PathBuf, told: String) -> thread::JoinHandle<Result<Vec<String>>> {
    thread::spawn(move || {
        let line = connect(&socket);
        let _ = fs::remove_file(&socket);
        let line = line?;
        let mut writer = Some(line.try_clone().context("the serial line has one end only")?);
        let mut lines = Vec::new();
        for text in BufReader::new(line).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&text).trim_end_matches('\r').to_owned();
            if text == LISTENS
                && let Some(mut writer) = writer.take()
            {
                let told = told.clone();
                // The machine may be slow to take it, and says something meanwhile.
                thread::spawn(move || writer.write_all(told.as_bytes()));
            }
            lines.push(text);
        }
        Ok(lines)
    })
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
