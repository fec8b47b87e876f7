//! How many instructions each call may take, without those of firmware. `docs/abi.md` shows the table, and what each depends on; an image that measures
//! itself ([`crate::measured`]) holds what guests do against it.

use hv_abi::{ffa as f, psci as p, vendor as v};

/// What is not in the table.
const SHORT: u32 = 10_000;
/// The longest that any call, trap or interrupt may keep a core.
pub(crate) const LONGEST: u32 = 100_000;

/// The bound of a call.
#[expect(clippy::match_same_arms, reason = "a row of the table in the documentation each")]
pub(crate) const fn bound(function: u32) -> u32 {
    match function {
        f::MEM_DONATE | f::MEM_DONATE_64 | f::MEM_LEND | f::MEM_LEND_64 | f::MEM_SHARE | f::MEM_SHARE_64 => {
            LONGEST
        }
        f::MEM_FRAG_TX
        | f::MEM_RETRIEVE_REQ
        | f::MEM_RETRIEVE_REQ_64
        | f::MEM_RELINQUISH
        | f::MEM_RECLAIM => LONGEST,
        v::VM_RESTART => LONGEST,
        f::CONSOLE_LOG | f::CONSOLE_LOG_64 | f::NOTIFICATION_INFO_GET | f::NOTIFICATION_INFO_GET_64 => 50_000,
        f::PARTITION_INFO_GET | v::VM_STOP => 30_000,
        p::SYSTEM_OFF | p::SYSTEM_RESET | p::SYSTEM_RESET2 | p::SYSTEM_RESET2_64 => 30_000,
        _ => SHORT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::access::{functions, named};
    use std::{string::String, vec::Vec};

    #[test]
    fn the_documentation_says_the_bounds() {
        let text = include_str!("../../../../docs/abi.md");
        let start = text.find("| calls | instructions |").expect("a table of bounds");
        let mut others = functions();
        for line in text[start..].lines().skip(2).take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let said: u32 = cells[2].replace(' ', "").parse().unwrap();
            assert!(said <= LONGEST, "{line}");
            if cells[1] == "all others" {
                assert!(others.iter().all(|function| bound(*function) == said), "{line}");
                others.clear();
            }
            let names: Vec<String> = cells[1].split('`').skip(1).step_by(2).map(String::from).collect();
            for name in names {
                let all = named(&name);
                assert!(!all.is_empty(), "no call {name}");
                for function in all {
                    assert_eq!(bound(function), said, "{name}");
                    others.retain(|other| *other != function);
                }
            }
        }
        assert!(others.is_empty(), "no bounds: {others:x?}");
    }
}
