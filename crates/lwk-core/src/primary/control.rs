//! A primary whose VMs are managed by the control task: the first program of its initrd, at EL0.
//!
//! The kernel provides mechanism and reports by `/dev/margay`; the control task sets policy. If that crashes,
//! VMs run on, and it is started again.

use super::{Machines, partitions};
use crate::{
    app::{App, Status},
    fault::fatal,
    task, time, user,
};
use spin::Once;

/// A control task that crashes sooner than this after its start is not started again at once.
const PATIENCE_NS: u64 = 1_000_000_000;

static MACHINES: Once<&'static Machines> = Once::new();

/// The VMs that this kernel schedules, if it is a primary with programs.
pub(crate) fn machines() -> Option<&'static Machines> {
    MACHINES.get().copied()
}

/// Runs the control task that `init=` names from the initrd, again if it crashes, to its end: the main
/// function of an image for primaries.
pub fn main(app: &App) -> Status {
    match partitions::discover(app) {
        Ok(partitions) => {
            for partition in &partitions {
                log::info!("{} is {}, {} vCPUs", partition.id, partition.name, partition.vcpus);
            }
            MACHINES.call_once(|| Machines::new(partitions, app.cores()));
        }
        Err(error) => fatal(format_args!("the hypervisor does not say which VMs there are: {error:?}")),
    }
    user::provide_device();
    user::set_up(app);
    loop {
        let started = time::ticks();
        let ended = user::run_first(app);
        if !(ended.crashed && user::had_device(ended.id)) {
            return ended.status;
        }
        log::error!("the control task has crashed, and is started again; VMs go on");
        let soonest = started + time::frequency().ns_to_ticks(PATIENCE_NS);
        task::sleep_until(soonest);
    }
}
