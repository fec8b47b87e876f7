//! Orders from a file, one after the other, each when its time has come.
//!
//! Where a script stands is written down before each order is carried out, so that a control task which
//! crashes goes on behind it.

use crate::{
    command::{self, Command, state},
    kernel::Kernel,
};
use std::{collections::VecDeque, fs, io, path::PathBuf, time::Duration};

/// A script, and where it stands.
#[derive(Debug, Default)]
pub struct Script {
    rest: VecDeque<(usize, Command)>,
    /// When a `sleep` or `watch` is over.
    until: Option<Duration>,
    /// What a watched VM had run at its beginning.
    ran_ns: u64,
    /// Where the number of the last line that was begun is written.
    mark: Option<PathBuf>,
}

/// What a script wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is nothing more.
    Done,
    /// Something has to happen, or time to pass.
    Wait(Option<Duration>),
    /// The machine is to be switched off.
    Quit(u8),
}

impl Script {
    /// Reads a script; the lines up to the marked one have been carried out by another control task.
    ///
    /// # Errors
    /// The file cannot be read, or a line is no order.
    pub fn load(path: &str) -> io::Result<Self> {
        let mark = PathBuf::from("/tmp/control.mark");
        let done = fs::read_to_string(&mark).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let mut script = Self::parse(&fs::read_to_string(path)?, done).map_err(|(line, why)| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{path}:{line}: {why}"))
        })?;
        script.mark = Some(mark);
        Ok(script)
    }

    /// Reads a text; the first lines have been carried out.
    ///
    /// # Errors
    /// The number of a line, and what is wrong with it.
    pub fn parse(text: &str, done: usize) -> Result<Self, (usize, command::BadCommand)> {
        let mut rest = VecDeque::new();
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(command) = Command::parse(line).map_err(|why| (number, why))?
                && number > done
            {
                rest.push_back((number, command));
            }
        }
        Ok(Self { rest, ..Self::default() })
    }

    /// Carries out what can be now.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn go_on(&mut self, kernel: &mut impl Kernel, say: &mut impl FnMut(&str)) -> io::Result<Step> {
        while let Some((number, command)) = self.rest.front().cloned() {
            match &command {
                Command::Sleep(time) | Command::Watch(_, time) => {
                    let now = kernel.now();
                    if self.until.is_none()
                        && let Command::Watch(vm, _) = &command
                    {
                        self.ran_ns = command::ran_ns(kernel, vm).unwrap_or(0);
                    }
                    let until = *self.until.get_or_insert(now + *time);
                    if let Some(left) = until.checked_sub(now).filter(|left| !left.is_zero()) {
                        return Ok(Step::Wait(Some(left)));
                    }
                    self.until = None;
                }
                Command::Await(vm, wanted) => match command::find(&kernel.vms()?, vm) {
                    Ok(vm) if state(&vm) != Some(*wanted) => return Ok(Step::Wait(None)),
                    Ok(_) => {}
                    Err(error) => say(&format!("line {number}: {error}")),
                },
                _ => {}
            }
            self.rest.pop_front();
            if let Some(mark) = &self.mark {
                fs::write(mark, format!("{number}\n"))?;
            }
            match command {
                Command::Fail => {
                    say("crashes now");
                    std::process::abort();
                }
                Command::Quit(status) => return Ok(Step::Quit(status)),
                Command::Watch(vm, _) => match command::ran_ns(kernel, &vm) {
                    Ok(ran) if ran == self.ran_ns => say(&format!("{vm} did not run")),
                    Ok(ran) => say(&format!("{vm} ran {} us", (ran - self.ran_ns) / 1000)),
                    Err(error) => say(&format!("line {number}: {error}")),
                },
                command => match command::carry_out(kernel, &command) {
                    Ok(lines) => lines.iter().for_each(|line| say(line)),
                    Err(error) => say(&format!("line {number}: {error}")),
                },
            }
        }
        Ok(Step::Done)
    }
}
