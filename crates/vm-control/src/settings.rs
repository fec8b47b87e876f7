//! How a VM is to be run, in words: what `margay,control` of its manifest node says.

use crate::{Policy, Scheduling};
use core::fmt;

/// Maximum number of vCPUs that `cores=` can place.
pub const MOST_CORES: usize = 64;

/// Condition under which the control task restarts a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// It does not.
    Never,
    /// When it asks for a reset.
    #[default]
    Reset,
    /// That, or when it was stopped for a fault.
    Crash,
    /// However it ended, but for an order of the control task's own.
    Always,
}

/// Parsed settings of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Start it at boot.
    pub autostart: bool,
    /// When to start it again.
    pub restart: Restart,
    /// How its cores are shared out, if it matters.
    pub scheduling: Option<Scheduling>,
    cores: [u16; MOST_CORES],
    count: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            autostart: false,
            restart: Restart::default(),
            scheduling: None,
            cores: [0; MOST_CORES],
            count: 0,
        }
    }
}

/// A word that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadWord<'a>(pub &'a str);

impl fmt::Display for BadWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" says nothing of how a VM is to be run", self.0)
    }
}

impl core::error::Error for BadWord<'_> {}

impl Settings {
    /// Reads words separated by blanks.
    ///
    /// | word | meaning |
    /// |---|---|
    /// | `autostart` | the VM is started at boot |
    /// | `restart=never`, `reset`, `crash`, `always` | when it is started again: when it asks for it (usual), also after a fault, or whenever it has ended by itself |
    /// | `cores=1,2,…` | the cores of its vCPUs, in their order; those that are not named are spread out |
    /// | `policy=round-robin`, `pinned`, `fifo`, `share`, `edf`, `gang` | the policy of its cores |
    /// | `quantum-ms=N` | a turn's length |
    /// | `priority=N`, `weight=N` | with `fifo`, `share` |
    /// | `reserve-us=N/M` | with `edf`: N µs in each M |
    ///
    /// # Errors
    /// The first word that means nothing.
    pub fn parse(text: &str) -> Result<Self, BadWord<'_>> {
        let mut settings = Self::default();
        for word in text.split_ascii_whitespace() {
            settings.word(word).ok_or(BadWord(word))?;
        }
        Ok(settings)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "autostart" if value.is_empty() => self.autostart = true,
            "restart" => {
                self.restart = match value {
                    "never" => Restart::Never,
                    "reset" => Restart::Reset,
                    "crash" => Restart::Crash,
                    "always" => Restart::Always,
                    _ => return None,
                }
            }
            "cores" => {
                self.count = 0;
                for core in value.split(',') {
                    *self.cores.get_mut(self.count)? = core.parse().ok()?;
                    self.count += 1;
                }
            }
            _ => return scheduling_word(&mut self.scheduling, key, value),
        }
        Some(())
    }

    /// The core of a vCPU, if it is said.
    pub fn core(&self, vcpu: u16) -> Option<u16> {
        self.cores[..self.count].get(usize::from(vcpu)).copied()
    }
}

/// A word about scheduling: the policy comes first.
pub fn scheduling_word(scheduling: &mut Option<Scheduling>, key: &str, value: &str) -> Option<()> {
    if key == "policy" {
        *scheduling = Some(Scheduling::of(Policy::from_word(value)?));
        return Some(());
    }
    let scheduling = scheduling.get_or_insert(Scheduling::of(Policy::RoundRobin));
    match (key, scheduling.policy) {
        ("quantum-ms", _) => scheduling.quantum_ns = value.parse::<u64>().ok()?.checked_mul(1_000_000)?,
        ("priority", Policy::Fifo) | ("weight", Policy::Share) => {
            scheduling.parameter = value.parse().ok().filter(|number| *number > 0)?;
        }
        ("reserve-us", Policy::Edf) => {
            let (reserved, period) = value.split_once('/')?;
            scheduling.reserved_ns = reserved.parse::<u64>().ok()?.checked_mul(1000)?;
            scheduling.period_ns = period.parse::<u64>().ok()?.checked_mul(1000)?;
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_understood() {
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
        let settings =
            Settings::parse(" cores=3,1  policy=fifo priority=7 quantum-ms=5 restart=crash ").unwrap();
        assert_eq!((settings.core(0), settings.core(1), settings.core(2)), (Some(3), Some(1), None));
        assert!(!settings.autostart);
        assert_eq!(settings.restart, Restart::Crash);
        let fifo = Scheduling { parameter: 7, quantum_ns: 5_000_000, ..Scheduling::of(Policy::Fifo) };
        assert_eq!(settings.scheduling, Some(fifo));
        let edf = Settings::parse("policy=edf reserve-us=2000/10000").unwrap().scheduling.unwrap();
        assert_eq!((edf.reserved_ns, edf.period_ns), (2_000_000, 10_000_000));
    }

    #[test]
    fn error_names_unknown_setting() {
        for bad in [
            "autostart=yes",
            "cores=",
            "cores=1,x",
            "cores=99999",
            "restart=sometimes",
            "policy=fair",
            "priority=3",
            "policy=share priority=3",
            "policy=fifo priority=0",
            "policy=edf reserve-us=7",
            "quantum-ms=18446744073709551615",
            "colour=red",
        ] {
            let word = bad.split(' ').next_back().unwrap();
            assert_eq!(Settings::parse(bad), Err(BadWord(word)), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_input_causes_no_panic(text in ".*") {
            let _ = Settings::parse(&text);
        }

        #[test]
        fn limits_number_of_cores(count in 1..100_usize) {
            let list: std::vec::Vec<_> = (0..count).map(|core| std::format!("{core}")).collect();
            let text = std::format!("cores={}", list.join(","));
            prop_assert_eq!(Settings::parse(&text).is_ok(), count <= MOST_CORES);
        }
    }
}
