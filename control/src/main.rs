//! The control task: the program of the primary VM that decides which VM runs when and where.
//!
//! | argument | meaning |
//! |---|---|
//! | `script=FILE` | carry out its orders, one after the other |
//! | `exit-when=all-stopped` | switch the machine off when no VM runs, and the script is done; status 0 if none has been stopped for a fault |
//! | `expect-abort=name,…` | with it: status 0 if exactly these have been |
//! | `stop-after-ms=N` | switch the machine off after N milliseconds, with status 0, whatever runs still |
//! | `statistics` | at the end, print what the hypervisor has counted for each vCPU |

mod command;
#[cfg(test)]
mod fake;
mod kernel;
mod policy;
mod script;

use command::{Command, carry_out, state};
use kernel::{Device, Kernel};
use policy::Policy;
use script::{Script, Step};
use std::{io, process::ExitCode, time::Duration};
use vm_control::VmState;

/// What the arguments say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    script: Option<String>,
    exits: bool,
    expected: Vec<String>,
    stop_after: Option<Duration>,
    statistics: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        for argument in arguments {
            let (key, value) = argument.split_once('=').unwrap_or((&argument, ""));
            match (key, value) {
                ("script", path) if !path.is_empty() => options.script = Some(path.to_owned()),
                ("exit-when", "all-stopped") => options.exits = true,
                ("expect-abort", names) => options.expected = names.split(',').map(str::to_owned).collect(),
                ("statistics", "") => options.statistics = true,
                ("stop-after-ms", ms) => {
                    let ms = ms.parse().map_err(|_| format!("{argument}: no number"))?;
                    options.stop_after = Some(Duration::from_millis(ms));
                }
                _ => return Err(format!("{argument} means nothing to the control task")),
            }
        }
        Ok(options)
    }
}

fn say(line: &str) {
    println!("{line}");
}

fn main() -> ExitCode {
    let outcome = Options::parse(std::env::args().skip(1))
        .map_err(io::Error::other)
        .and_then(|options| run(&mut Device::open()?, &options));
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            println!("the control task ends: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Manages VMs until there is nothing more to do; the status to end with.
fn run(kernel: &mut impl Kernel, options: &Options) -> io::Result<u8> {
    let mut script = options.script.as_deref().map(Script::load).transpose()?.unwrap_or_default();
    let mut policy = Policy::begin(kernel, &mut say)?;
    loop {
        let mut patience = None;
        let is_done = match script.go_on(kernel, &mut say)? {
            Step::Quit(status) => return Ok(status),
            Step::Wait(time) => {
                patience = time;
                false
            }
            Step::Done => true,
        };
        if options.exits
            && is_done
            && kernel.vms()?.iter().all(|vm| !state(vm).is_some_and(VmState::is_alive))
        {
            // Nothing runs, but what has just ended may be started again: that is known when its end has been
            // reported.
            let events = kernel.wait(Some(Duration::ZERO))?;
            if events.is_empty() {
                return finish(kernel, options);
            }
            for event in &events {
                policy.happened(kernel, event, &mut say)?;
            }
            continue;
        }
        if let Some(limit) = options.stop_after {
            let Some(left) = limit.checked_sub(kernel.now()).filter(|left| !left.is_zero()) else {
                say("stopped after the time that stop-after-ms= gives");
                return Ok(0);
            };
            patience = Some(patience.unwrap_or(left).min(left));
        }
        for event in kernel.wait(patience)? {
            policy.happened(kernel, &event, &mut say)?;
        }
    }
}

/// Every VM is over: whether as expected.
fn finish(kernel: &mut impl Kernel, options: &Options) -> io::Result<u8> {
    if options.statistics {
        for line in carry_out(kernel, &Command::Statistics)? {
            say(&line);
        }
    }
    let vms = kernel.vms()?;
    let mut ok = true;
    for vm in &vms {
        let aborted = state(vm) == Some(VmState::Aborted);
        let expected = options
            .expected
            .iter()
            .any(|name| command::find(&vms, name).is_ok_and(|other| other.vm == vm.vm));
        if aborted != expected {
            let what = if aborted { "was aborted" } else { "was expected to be aborted, and was not" };
            say(&format!("{} {what}", vm.name()));
            ok = false;
        }
    }
    for name in options.expected.iter().filter(|name| command::find(&vms, name).is_err()) {
        say(&format!("there is no VM {name} to be aborted"));
        ok = false;
    }
    Ok(u8::from(!ok))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fake::Fake;

    fn options(words: &str) -> Result<Options, String> {
        Options::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_understood() {
        let all =
            options("script=/s exit-when=all-stopped expect-abort=a,b stop-after-ms=5 statistics").unwrap();
        assert_eq!(all.expected, ["a", "b"]);
        assert_eq!(all.stop_after, Some(Duration::from_millis(5)));
        assert!(
            options("exit-when=never").is_err()
                && options("stop-after-ms=x").is_err()
                && options("x").is_err()
        );
    }

    #[test]
    fn the_verdict_compares_with_what_was_expected() {
        let mut fake = Fake::new(&[("one", 1, ""), ("two", 1, "")]);
        fake.set(2, VmState::Aborted);
        fake.set(3, VmState::Off);
        let verdict = |fake: &mut Fake, words: &str| run(fake, &options(words).unwrap()).unwrap();
        assert_eq!(verdict(&mut fake, "exit-when=all-stopped"), 1);
        assert_eq!(verdict(&mut fake, "exit-when=all-stopped expect-abort=one"), 0);
        assert_eq!(verdict(&mut fake, "exit-when=all-stopped expect-abort=vm2"), 0);
        assert_eq!(verdict(&mut fake, "exit-when=all-stopped expect-abort=two"), 1);
        assert_eq!(verdict(&mut fake, "exit-when=all-stopped expect-abort=one,three"), 1);
    }

    #[test]
    fn a_script_goes_on_where_it_was() {
        let text = "start one\nsleep 5\npause one\nawait two off\nquit 3\n";
        let mut fake = Fake::new(&[("one", 1, ""), ("two", 1, "")]);
        let mut script = Script::parse(text, 0).unwrap();
        let mut go_on = |fake: &mut Fake| script.go_on(fake, &mut |_| {}).unwrap();
        assert_eq!(go_on(&mut fake), Step::Wait(Some(Duration::from_millis(5))));
        fake.time = Duration::from_millis(3);
        assert_eq!(go_on(&mut fake), Step::Wait(Some(Duration::from_millis(2))));
        assert_eq!(fake.calls, ["start 2"]);
        fake.time = Duration::from_millis(5);
        assert_eq!(go_on(&mut fake), Step::Wait(None));
        assert_eq!(fake.calls, ["start 2", "pause 2"]);
        fake.set(3, VmState::Off);
        assert_eq!(go_on(&mut fake), Step::Quit(3));
        let mut heir = Script::parse(text, 3).unwrap();
        assert_eq!(heir.go_on(&mut fake, &mut |_| {}).unwrap(), Step::Quit(3));
        assert_eq!(fake.calls.len(), 2, "what was done is not done again");
        assert_eq!(Script::parse("list\nlisten\n", 0).unwrap_err().0, 2);
    }
}
