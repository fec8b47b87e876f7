//! How to call PSCI.
use crate::{survey::Survey, tree};

/// The instruction that reaches firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// `hvc`: a hypervisor, or firmware at EL2.
    Hvc,
    /// `smc`: firmware at EL3.
    Smc,
}

/// The PSCI version that the tree promises. `PSCI_VERSION` returns the exact version from 0.2 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PsciVersion {
    /// 0.1, where function numbers are the tree's.
    V0_1 {
        /// The number of `CPU_ON`, if there is such a function.
        cpu_on: Option<u32>,
        /// The number of `CPU_OFF`, if there is such a function.
        cpu_off: Option<u32>,
    },
    /// 0.2: function numbers are the standard ones.
    V0_2,
    /// 1.0 or later.
    V1_0,
}

/// PSCI, as the tree describes it (bindings, `arm/psci.yaml`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Psci {
    /// How to call it.
    pub conduit: Conduit,
    /// What it promises.
    pub version: PsciVersion,
}

pub(crate) fn find(survey: &Survey<'_>) -> Option<Psci> {
    let node = survey.psci?.node();
    let conduit = match tree::string(&node, "method")? {
        "hvc" => Conduit::Hvc,
        "smc" => Conduit::Smc,
        _ => return None,
    };
    let version = if tree::is_compatible(&node, &["arm,psci-1.0"]) {
        PsciVersion::V1_0
    } else if tree::is_compatible(&node, &["arm,psci-0.2"]) {
        PsciVersion::V0_2
    } else {
        PsciVersion::V0_1 { cpu_on: tree::cell(&node, "cpu_on"), cpu_off: tree::cell(&node, "cpu_off") }
    };
    Some(Psci { conduit, version })
}
