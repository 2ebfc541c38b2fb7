//! The order in which a run sees its windows: a pure function of the seed and the step.

use moescope_base::Seed;

use crate::error::CorpusError;
use crate::permutation::Permutation;
use crate::window::WindowSet;

/// How often each domain is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Every domain equally often: small domains are seen in more epochs than large ones.
    #[default]
    Equal,
    /// Every window equally often: large domains fill most of each batch.
    Proportional,
}

/// Which windows make the batch of each step.
///
/// [`BatchOrder::batch`] needs no earlier call: a resumed run goes on where it stopped, and all
/// models of a seed see the same windows in the same order.
///
/// With [`Balance::Equal`] each `domains` windows in a row hold one of each domain, in random order,
/// and within a domain every window comes once before any comes again; each such epoch has a new
/// order. With [`Balance::Proportional`] the same holds for all windows together.
#[derive(Clone, Debug)]
pub struct BatchOrder {
    seed: Seed,
    balance: Balance,
    batch: usize,
    first: Vec<usize>,   // [group] → first window
    windows: Vec<usize>, // [group] → number of windows
}

impl BatchOrder {
    /// The order of a seed over a window set, `batch` windows per step.
    ///
    /// # Errors
    /// [`CorpusError::TooLittle`] for a batch of none.
    pub fn new(seed: Seed, windows: &WindowSet, batch: usize, balance: Balance) -> Result<Self, CorpusError> {
        let counts: Vec<usize> = (0..windows.domains()).map(|domain| windows.windows_in(domain)).collect();
        Self::over(seed, &counts, batch, balance)
    }

    /// The order over domains of which only the number of windows is known; windows are numbered
    /// domain after domain.
    fn over(seed: Seed, counts: &[usize], batch: usize, balance: Balance) -> Result<Self, CorpusError> {
        if batch == 0 {
            return Err(CorpusError::TooLittle { what: "batch", found: 0, wanted: 1 });
        }
        let windows = match balance {
            Balance::Equal => counts.to_vec(),
            Balance::Proportional => vec![counts.iter().sum()],
        };
        let before = |group: usize| windows[..group].iter().sum();
        let first = (0..windows.len()).map(before).collect();
        Ok(Self { seed: seed.child("batch order"), balance, batch, first, windows })
    }

    /// Windows per batch.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// How domains are weighted.
    pub fn balance(&self) -> Balance {
        self.balance
    }

    /// The window numbers of the batch of a step, steps counted from 0.
    pub fn batch(&self, step: u64) -> Vec<usize> {
        let start = step as usize * self.batch;
        (start..start + self.batch).map(|draw| self.draw(draw)).collect()
    }

    /// The window of the n-th draw of the run.
    fn draw(&self, draw: usize) -> usize {
        let groups = self.windows.len();
        let (round, place) = (draw / groups, draw % groups);
        let group = Permutation::new(self.seed.child("round").index(round as u64), groups).at(place);
        let (epoch, within) = (round / self.windows[group], round % self.windows[group]);
        let seed = self.seed.child("epoch").index(epoch as u64).index(group as u64);
        self.first[group] + Permutation::new(seed, self.windows[group]).at(within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn draws(order: &BatchOrder, steps: u64) -> Vec<usize> {
        (0..steps).flat_map(|step| order.batch(step)).collect()
    }

    #[test]
    fn a_batch_of_none_is_refused() {
        assert!(BatchOrder::over(Seed(0), &[3], 0, Balance::Equal).is_err());
    }

    #[test]
    fn equal_balance_gives_each_domain_its_share_in_every_round() {
        // Domains of 2 and 50 windows: windows 0 and 1 are the first domain.
        let order = BatchOrder::over(Seed(1), &[2, 50], 4, Balance::Equal).unwrap();
        for step in 0..30 {
            assert_eq!(order.batch(step).iter().filter(|&&window| window < 2).count(), 2);
        }
    }

    #[test]
    fn seeds_and_epochs_have_orders_of_their_own() {
        let order = |seed| BatchOrder::over(Seed(seed), &[40], 40, Balance::Proportional).unwrap();
        assert_eq!(order(1).batch(0), order(1).batch(0));
        assert_ne!(order(1).batch(0), order(2).batch(0));
        assert_ne!(order(1).batch(0), order(1).batch(1));
    }

    proptest! {
        #[test]
        fn an_epoch_is_a_permutation_of_all_windows(
            seed in any::<u64>(), counts in proptest::collection::vec(1usize..30, 1..5), epochs in 1usize..4,
        ) {
            let total: usize = counts.iter().sum();
            let order = BatchOrder::over(Seed(seed), &counts, 1, Balance::Proportional).unwrap();
            let all = draws(&order, (total * epochs) as u64);
            for epoch in all.chunks(total) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..total).collect::<Vec<_>>());
            }
        }

        #[test]
        fn an_equal_epoch_of_a_domain_is_a_permutation_of_its_windows(
            seed in any::<u64>(), counts in proptest::collection::vec(1usize..20, 1..5),
        ) {
            let order = BatchOrder::over(Seed(seed), &counts, counts.len(), Balance::Equal).unwrap();
            let all = draws(&order, 40);
            let mut first = 0;
            for &count in &counts {
                let own: Vec<usize> = all.iter().copied().filter(|w| (first..first + count).contains(w)).collect();
                prop_assert_eq!(own.len(), 40);
                for epoch in own.chunks_exact(count) {
                    let mut sorted = epoch.to_vec();
                    sorted.sort_unstable();
                    prop_assert_eq!(sorted, (first..first + count).collect::<Vec<_>>());
                }
                first += count;
            }
        }

        #[test]
        fn the_batch_size_does_not_change_the_order(seed in any::<u64>(), batch in 1usize..9) {
            let order = |batch| BatchOrder::over(Seed(seed), &[7, 11], batch, Balance::Equal).unwrap();
            prop_assert_eq!(draws(&order(batch), 5), draws(&order(1), 5 * batch as u64));
        }
    }
}
