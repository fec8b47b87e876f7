//! Every state that two cores can put the vCPUs of two secondaries into, which run, exchange direct messages,
//! switch themselves and each other's vCPUs on and off, are stopped, torn down and started again, all at the
//! same time.
//!
//! The transitions are the crate's. A step of the model makes one atomic access, together with those before
//! it that change nothing, and those after it to what the core alone can reach (a vCPU that it has claimed, a
//! VM whose token it holds). In which order the hypervisor makes them is written down here once more, beside
//! the name of the function of `hv-core` that does it. Guests are hostile: between two steps the vCPU that a
//! core has loaded does anything that it can do. The primary does so too.
//!
//! In each state must hold what `properties` says. From each state, furthermore, each VM can be brought to
//! the phase *off* by the hypervisor and the primary, without any guest's help (`progress`).
//!
//! Each rule of docs/lifecycle.md is then broken once. There the checker must find what is wrong.
// Miri would take hours for all these states.
#![cfg(not(miri))]

mod progress;
mod state;
mod world;

use state::Flaw;
use stateright::{Checker, HasDiscoveries, Model};
use world::{SOMETIMES, World};

/// All states of a world are fine. Prints how many there are.
fn check(world: World) {
    let start = std::time::Instant::now();
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!(
        "{} states, {} transitions, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    );
    let wrong = checker.discoveries().into_iter().find(|(name, _)| !SOMETIMES.contains(name));
    if let Some((name, path)) = wrong {
        panic!("{name}: {:?} ends in {:?}", path.clone().into_actions(), path.last_state());
    }
}

const WORLD: World =
    World { flaw: Flaw::None, requests: 0, primary_asks: false, power: false, lenders: false, ready: &[] };

const POWER: World = World { power: true, lenders: true, ..WORLD };
const MESSAGES: World = World { requests: 1, ready: &[1], ..WORLD };

#[test]
fn cores_run_switch_stop_and_restart() {
    check(POWER);
    assert_eq!(POWER.stuck(), None);
}

#[test]
fn cores_exchange_messages_while_vms_stop() {
    check(MESSAGES);
    assert_eq!(MESSAGES.stuck(), None);
}

/// Takes many minutes, and memory: `cargo test -p vm-lifecycle -- --ignored`.
#[test]
#[ignore = "takes many minutes"]
fn everything_at_once() {
    check(World { primary_asks: true, requests: 2, ..POWER });
}

#[test]
fn stop_without_kick_never_completes() {
    let world = World { flaw: Flaw::NoKick, ..WORLD };
    let stuck = world.stuck().expect("the VM stays in the phase stopping");
    println!("{stuck}");
}

#[test]
fn flaws_are_found() {
    use Flaw::*;
    let flaws = [
        LookThenClaim,
        HaltThenStop,
        NoKick,
        PublishThenSave,
        ParkRunning,
        ReclaimUnparked,
        NoToken,
        PublishThenStart,
        PublishFirst,
        NumbersBeginAgain,
        LateHalt,
        ReleaseThenFail,
        ParkAllThenFail,
        ChainForgotten,
    ];
    for flaw in flaws {
        let world =
            World { flaw, ..if matches!(flaw, PublishThenStart | PublishFirst) { POWER } else { MESSAGES } };
        let checker = world.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found = checker.discoveries().into_iter().filter(|(name, _)| !SOMETIMES.contains(name));
        let found: Vec<_> = found.map(|(name, path)| (name, path.into_actions())).collect();
        println!("{flaw:?}, after {} states: {found:?}", checker.unique_state_count());
        assert!(!found.is_empty(), "{flaw:?} went unnoticed");
    }
}
