//! The host tests: `cargo test` over the workspace's default members, counted.

use super::Tally;
use crate::{paths, step, toolchain};
use anyhow::Result;

/// Runs every test whose name contains `filter`.
pub fn run(filter: &str) -> Result<Tally> {
    let mut cargo = toolchain::host_cargo();
    cargo.args(["test", "--no-fail-fast"]);
    if !filter.is_empty() {
        cargo.args(["--", filter]);
    }
    let finished = step::run_quietly("host tests (cargo test)", "test-host", cargo)?;
    let log = paths::read(&finished.log)?;
    let log = String::from_utf8_lossy(&log);
    let mut tally = count(&log);
    for line in log.lines().filter(|line| is_failure(line)) {
        println!("FAIL host: {line}");
    }
    if !finished.success {
        tally.failed = tally.failed.max(1);
        if let Err(error) = finished.into_result() {
            println!("FAIL {error}");
        }
    }
    println!("host: {} passed, {} failed, details in target/logs/test-host.log", tally.passed, tally.failed);
    Ok(tally)
}

fn is_failure(line: &str) -> bool {
    line.starts_with("test ") && line.ends_with("... FAILED")
}

/// The sum of what every test program said at its end.
fn count(log: &str) -> Tally {
    let mut tally = Tally::default();
    for line in log.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        let number = |label: &str| -> usize {
            let part = line.split([';', '.']).find_map(|part| part.trim().strip_suffix(label));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        tally.passed += number(" passed");
        tally.failed += number(" failed");
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed() {
        let log = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test a ... FAILED\n\
            test result: FAILED. 10 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.05s\n";
        assert_eq!(count(log), Tally { passed: 12, failed: 1 });
        assert_eq!(log.lines().filter(|line| is_failure(line)).count(), 1);
    }
}
