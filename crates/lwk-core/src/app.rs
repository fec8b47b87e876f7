//! What an application gets: everything it needs of the kernel, and nothing of the machine.

use crate::{cmdline::CommandLine, percore, platform::platform};
use core::fmt;
use machine::Machine;

/// An application linked into an image.
pub type Main = fn(&App) -> Status;

/// Exit status of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u8);

impl Status {
    /// Everything went well.
    pub const SUCCESS: Self = Self(0);
    /// Something did not.
    pub const FAILURE: Self = Self(1);

    /// Success or failure.
    pub const fn of(ok: bool) -> Self {
        if ok { Self::SUCCESS } else { Self::FAILURE }
    }
}

/// The kernel, as the application sees it.
pub struct App {
    machine: &'static Machine<'static>,
    line: CommandLine<'static>,
    entry_ticks: u64,
}

impl App {
    pub(crate) fn new(
        machine: &'static Machine<'static>,
        line: CommandLine<'static>,
        entry_ticks: u64,
    ) -> Self {
        Self { machine, line, entry_ticks }
    }

    /// The kernel's command line.
    pub fn command_line(&self) -> CommandLine<'static> {
        self.line
    }

    /// The machine, as its device tree describes it.
    pub fn machine(&self) -> &'static Machine<'static> {
        self.machine
    }

    /// Returns the number of cores that run tasks. They have the indices from 0, without a gap unless one did
    /// not come up.
    pub fn cores(&self) -> usize {
        percore::all().iter().filter(|core| core.takes_tasks()).count()
    }

    /// The virtual counter when the image's first instruction ran.
    pub fn entry_ticks(&self) -> u64 {
        self.entry_ticks
    }

    /// Runs the image's program to its end, and switches the machine off.
    pub(crate) fn run(&self) -> ! {
        let status = (crate::platform::image().main)(self);
        crate::println!("@exit status={}", status.0);
        platform().power_off()
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "App({:?})", self.line.as_str())
    }
}

/// Makes a kernel image of a platform and a program: `image!(PLATFORM, main)`, where `PLATFORM` is a static
/// platform and `main` a `fn(&App) -> Status`, as in the [example of this crate](crate).
///
/// Without a program of its own, `image!(PLATFORM)`, the image runs the program that `init=` names from its
/// initrd.
#[macro_export]
macro_rules! image {
    ($platform:ident) => {
        $crate::image!($platform, $crate::user::main);
    };
    ($platform:ident, $main:path) => {
        #[unsafe(export_name = "LWK_IMAGE")]
        static LWK_IMAGE: $crate::platform::Image =
            $crate::platform::Image { platform: &$platform, main: $main };

        /// Names of functions, filled in by the image tool.
        #[used]
        #[unsafe(link_section = ".symbols")]
        static LWK_SYMBOLS: [u8; $crate::symbols::ROOM] = [0; $crate::symbols::ROOM];
    };
}
