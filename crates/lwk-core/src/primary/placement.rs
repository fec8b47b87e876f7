//! Which core a vCPU goes to.

/// Spreads vCPUs over cores, one after the other, beginning behind the core that the primary itself starts
/// on: with several cores, the first one stays free as long as possible for the primary's own work.
///
/// ```
/// use lwk_core::primary::placement::Placement;
///
/// let cores: Vec<usize> = Placement::new(4, 0).take(5).collect();
/// assert_eq!(cores, [1, 2, 3, 0, 1]);
/// ```
#[derive(Clone, Debug)]
pub struct Placement {
    cores: usize,
    next: usize,
}

impl Placement {
    /// Over `cores` cores (at least one), beginning after `first`.
    pub const fn new(cores: usize, first: usize) -> Self {
        let cores = if cores == 0 { 1 } else { cores };
        Self { cores, next: (first + 1) % cores }
    }
}

impl Iterator for Placement {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let core = self.next;
        self.next = (core + 1) % self.cores;
        Some(core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_core_takes_all() {
        assert!(Placement::new(1, 0).take(9).all(|core| core == 0));
        assert!(Placement::new(0, 0).take(3).all(|core| core == 0));
    }

    proptest! {
        #[test]
        fn balances_within_one_task(cores in 1..64_usize, vcpus in 0..300_usize) {
            let mut load = std::vec![0; cores];
            for core in Placement::new(cores, 0).take(vcpus) {
                load[core] += 1;
            }
            let (most, least) = (load.iter().max().unwrap(), load.iter().min().unwrap());
            prop_assert!(most - least <= 1);
            prop_assert!(load[0] == *least);
        }
    }
}
