//! Statistics: intervals, tests and corrections, each in its own file.
//!
//! The independent unit is the seed when models are compared and the document within one model. Every random choice
//! comes from a [`Seed`](moescope_base::Seed) that the caller names, and no result depends on the number of threads.

mod benjamini_hochberg;
mod bootstrap;
mod correlation;
mod effect_size;
mod equivalence;
mod holm;
mod interaction;
mod jackknife;
mod jonckheere;
mod page;
mod paired;
mod permutation;
mod power;
mod proportion;
mod random_intercept;
mod spread;
pub(crate) mod student;
mod summary;
mod trend;
mod welch;

pub use benjamini_hochberg::benjamini_hochberg;
pub use bootstrap::{Bootstrap, BootstrapMethod, LEAST_UNITS, Resampling, bootstrap, cluster_bootstrap};
pub use correlation::{Correlation, midranks, pearson, spearman};
pub use effect_size::{EffectSize, group_effect, paired_effect};
pub use equivalence::{Equivalence, tost};
pub use holm::holm;
pub use interaction::{Interaction, interaction};
pub(crate) use jackknife::jackknife;
pub use jonckheere::{JonckheereTerpstra, jonckheere_terpstra};
pub use page::{PageTrend, page_trend};
pub use paired::{PairedDifference, paired};
pub use permutation::{PermutationTest, Tail, permutation_test};
pub use power::{detectable_effect, equivalence_margin, equivalence_power, paired_power};
pub use proportion::{Proportion, at_least, proportion};
pub use random_intercept::{RandomIntercept, random_intercept_slope};
pub use summary::{Summary, mean, one_sample, standard_deviation, variance};
pub use trend::{Trend, log2_trend};
pub use welch::{WelchTest, welch};
