//! A machine in QEMU, with its console read line by line and a time limit.

use crate::{
    board::{Board, Gic},
    serial,
    setup::QEMU,
    terminal,
};
use anyhow::{Context, Result, anyhow};
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// A console that says more than this has run wild.
const MOST_LINES: usize = 200_000;

/// Where kernel, initrd and tree are if there is firmware; `firmware.S` of the board knows the first and the
/// last.
const KERNEL: u64 = 0x4020_0000;
pub const INITRD: u64 = 0x4800_0000;
const TREE: u64 = 0x47f0_0000;

/// A machine to boot.
#[derive(Clone, Debug)]
pub struct Machine {
    pub board: &'static Board,
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub bootargs: String,
    pub cores: u32,
    pub memory: String,
    /// A device tree to use instead of QEMU's own.
    pub tree: Option<PathBuf>,
    /// Enter the kernel at EL2 (else EL1).
    pub el2: bool,
    pub gic: Gic,
    /// Firmware at EL3, which QEMU otherwise stands in for. It needs a tree that says so.
    pub firmware: Option<PathBuf>,
    /// QEMU's `-cpu`.
    pub cpu: String,
    /// Arguments for devices besides those of the machine.
    pub devices: Vec<String>,
    /// An SD card's image.
    pub card: Option<PathBuf>,
    /// Input of a second serial line when it listens, if there is to be one.
    pub second_serial: Option<serial::Dialogue>,
    /// That line is this terminal, and the console goes to this file.
    pub terminal: Option<PathBuf>,
    /// Where that line's socket is.
    socket: PathBuf,
    /// Count instructions: deterministic, and slower.
    pub icount: bool,
    /// Wait for a debugger; there is no time limit then.
    pub gdb: bool,
    pub limit: Duration,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It shut itself down.
    PowerOff,
    /// It still ran when its time was up.
    TimeUp,
    /// The watcher had seen enough.
    Stopped,
    /// Its console would not end.
    Flood,
    /// QEMU itself gave up; what it said.
    Failed(String),
}

/// What came of a machine.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub lines: Vec<String>,
    pub end: End,
    pub took: Duration,
}

impl Machine {
    /// A machine with the defaults of `cargo xtask run`.
    pub fn new(board: &'static Board, kernel: PathBuf) -> Self {
        Self {
            board,
            kernel,
            initrd: None,
            bootargs: String::new(),
            tree: board.tree(),
            cores: 4,
            memory: "1G".into(),
            el2: true,
            gic: board.machine.gic,
            firmware: None,
            cpu: board.machine.cpu.into(),
            devices: Vec::new(),
            card: None,
            second_serial: None,
            terminal: None,
            socket: serial::socket(),
            icount: false,
            gdb: false,
            limit: Duration::from_mins(2),
        }
    }

    /// Counts instructions, on so many cores: under `-icount` the cores share a clock, and others'
    /// instructions would be in it.
    pub fn count_on(&mut self, cores: u32) {
        if self.board.machine.fixed.is_none() {
            self.cores = cores;
        }
        self.icount = true;
        self.limit = Duration::from_mins(20);
    }

    /// QEMU with this machine, and `options` of `-M` in addition.
    pub fn hardware(&self, options: &str) -> Command {
        let mut qemu = Command::new(QEMU);
        let hardware = &self.board.machine;
        let mut machine = hardware.name.to_owned();
        if let Gic::Version(version) = self.gic {
            let _ = write!(machine, ",gic-version={version}");
        }
        if hardware.virtualization {
            let el2 = if self.el2 { "on" } else { "off" };
            let secure = if self.firmware.is_some() { ",secure=on" } else { "" };
            let _ = write!(machine, ",virtualization={el2}{secure}");
        }
        let (cores, memory) = hardware.fixed.unwrap_or((self.cores, &self.memory));
        qemu.args(["-M", &(machine + options), "-smp", &cores.to_string(), "-m", memory]);
        if !self.cpu.is_empty() {
            qemu.args(["-cpu", &self.cpu]);
        }
        qemu.args(["-display", "none", "-nic", "none"]).args(hardware.options);
        if self.terminal.is_none() {
            qemu.args(["-monitor", "none"]);
        }
        if let Some(log) = &self.terminal {
            // The second line is this terminal, and the console a file.
            let console = format!("file:{}", log.display());
            let (first, second) = if hardware.serial == 0 {
                (console.as_str(), "mon:stdio")
            } else {
                ("mon:stdio", console.as_str())
            };
            qemu.args(["-serial", first, "-serial", second]);
            return qemu;
        }
        // The second line is the first that is not the console: where that is not the first, it is before it.
        let mut second = self.second_serial.as_ref().map(|_| serial::arguments(&self.socket));
        for line in 0..=hardware.serial {
            match second.take() {
                Some(second) if line < hardware.serial => _ = qemu.args(second),
                later => {
                    second = later;
                    qemu.args(["-serial", if line == hardware.serial { "stdio" } else { "null" }]);
                }
            }
        }
        qemu.args(second.into_iter().flatten());
        qemu
    }

    fn command(&self) -> Command {
        let mut qemu = self.hardware("");
        qemu.arg("-no-reboot").args(&self.devices);
        if let Some(firmware) = &self.firmware {
            // What QEMU does with a kernel is the firmware's business then.
            qemu.arg("-bios").arg(firmware).args(["-semihosting-config", "enable=on,target=native"]);
            let parts =
                [(Some(&self.kernel), KERNEL), (self.initrd.as_ref(), INITRD), (self.tree.as_ref(), TREE)];
            for (file, address) in parts.iter().filter_map(|(file, at)| Some(((*file)?, at))) {
                let file = file.display();
                qemu.arg("-device").arg(format!("loader,file={file},addr={address:#x},force-raw=on"));
            }
        } else {
            qemu.arg("-kernel").arg(&self.kernel);
            if let Some(tree) = &self.tree {
                qemu.arg("-dtb").arg(tree);
            }
            if let Some(initrd) = &self.initrd {
                qemu.arg("-initrd").arg(initrd);
            }
        }
        if let Some(card) = &self.card {
            qemu.arg("-drive").arg(format!("file={},if=sd,format=raw", card.display()));
        }
        if !self.bootargs.is_empty() {
            qemu.args(["-append", &self.bootargs]);
        }
        if self.icount {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        if self.gdb {
            qemu.args(["-s", "-S"]);
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        qemu
    }

    /// Boots the machine with its second serial line as this terminal, until it ends.
    pub fn attend(&self) -> Result<()> {
        let mut command = self.command();
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        if let Some(log) = &self.terminal {
            // Not what an earlier machine has said.
            let _ = std::fs::remove_file(log);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {QEMU}"))?;
        let status = match &self.terminal {
            Some(log) => terminal::attend(&mut child, log),
            None => child.wait(),
        };
        let status = status.with_context(|| format!("lost sight of {QEMU}"))?;
        anyhow::ensure!(status.success(), "{QEMU} ended with {status}");
        Ok(())
    }

    /// Boots the machine and shows each line to `watch`, which may answer after how long the machine is to be
    /// stopped.
    pub fn run(&self, mut watch: impl FnMut(&str) -> Option<Duration>) -> Result<Outcome> {
        let mut command = self.command();
        die_with_parent(&mut command);
        let since = Instant::now();
        let mut child = Guard(command.spawn().with_context(|| format!("cannot start {QEMU}"))?);
        let second = self.second_serial.clone().map(|dialogue| serial::talk(self.socket.clone(), dialogue));
        let console = child.0.stdout.take().context("QEMU has no console")?;
        let mut errors = child.0.stderr.take().context("QEMU has no error output")?;
        let (sender, receiver) = mpsc::sync_channel(1024);
        let reader = thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        });

        let mut lines: Vec<String> = Vec::new();
        let mut deadline = since + if self.gdb { Duration::from_hours(24 * 365) } else { self.limit };
        let mut forced = None;
        let mut when_over = End::TimeUp;
        loop {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(grace) = watch(&line) {
                        deadline = deadline.min(Instant::now() + grace);
                        when_over = End::Stopped;
                    }
                    lines.push(line);
                    if forced.is_none() && lines.len() > MOST_LINES {
                        forced = Some(End::Flood);
                        break;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    forced = Some(when_over);
                    break;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        if forced.is_some() {
            child.kill();
            // What it had said by then, a line without an end included.
            lines.extend(receiver.iter().take(MOST_LINES));
        }
        drop(receiver);
        let status = child.0.wait().context("lost sight of QEMU")?;
        let _ = reader.join();
        let complaint = complaints.join().unwrap_or_default();
        let end = forced.unwrap_or_else(|| {
            if status.success() { End::PowerOff } else { End::Failed(format!("{status}: {complaint}")) }
        });
        let second = second.map_or(Ok(Ok(Vec::new())), thread::JoinHandle::join);
        let second = second.map_err(|_| anyhow!("nobody listens to the second serial line"))??;
        lines.extend(second.iter().map(|line| format!("[uart1] {line}")));
        Ok(Outcome { lines, end, took: since.elapsed() })
    }
}

impl End {
    /// For people, after "the machine".
    pub fn describe(&self, limit: Duration) -> String {
        match self {
            Self::PowerOff => "shut itself down".into(),
            Self::TimeUp => format!("did not shut itself down within {} s", limit.as_secs()),
            Self::Stopped => "was stopped from outside".into(),
            Self::Flood => format!("wrote more than {MOST_LINES} lines"),
            Self::Failed(complaint) => format!("was given up by QEMU: {complaint}"),
        }
    }
}

/// Leaves no QEMU behind, whatever happens to this thread.
struct Guard(Child);

impl Guard {
    fn kill(&mut self) {
        let _ = self.0.kill();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
        let _ = self.0.wait();
    }
}

/// Ctrl-C, or the end of this process by any other signal, ends its QEMU too.
fn die_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        // SAFETY: between fork and exec the closure makes one system call, `prctl`, which is
        // async-signal-safe and touches no memory of the parent.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
