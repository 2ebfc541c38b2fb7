//! What decides a training.

use std::str::FromStr;

use moescope_base::Seed;
use serde::{Deserialize, Serialize};

use crate::DictionaryError;

/// How features are kept sparse. All kinds but `relu` are led to a number of active features, so that they can be compared at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Rectified, with a penalty on the sum of the features, weighted by the length of what each writes, which is 1. How many are active
    /// follows from the penalty; `k` plays no part.
    ///
    /// **Source:** Bricken et al. 2023; weighted as in Conerly et al. 2024, "Update on how we train SAEs".
    Relu,
    /// The `k` largest of each token.
    ///
    /// **Source:** Gao et al. 2024, "Scaling and evaluating sparse autoencoders".
    TopK,
    /// The largest of a batch, `k` for each token on average; used afterwards with one threshold, the running mean of the least
    /// that was kept.
    ///
    /// **Source:** Bussmann, Leask and Nanda 2024, "BatchTopK Sparse Autoencoders".
    BatchTopK,
    /// Those above learned thresholds, with a penalty on the square of how far their number is from `k`, relative to `k`.
    ///
    /// **Source:** Rajamanoharan et al. 2024, "Jumping Ahead", with the loss of its appendix on fixed sparsity.
    JumpRelu,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::Relu, Kind::TopK, Kind::BatchTopK, Kind::JumpRelu];

    /// The name in commands and files.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Relu => "relu",
            Kind::TopK => "topk",
            Kind::BatchTopK => "batchtopk",
            Kind::JumpRelu => "jumprelu",
        }
    }

    /// Whether dead features learn from what is left over, by the auxiliary loss; otherwise they are set anew.
    pub(crate) fn has_auxiliary_loss(self) -> bool {
        matches!(self, Kind::TopK | Kind::BatchTopK)
    }
}

impl FromStr for Kind {
    type Err = DictionaryError;

    fn from_str(name: &str) -> Result<Kind, DictionaryError> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| DictionaryError::Setting {
            setting: "kind",
            found: name.to_owned(),
            wanted: Kind::ALL.map(Kind::name).join(", "),
        })
    }
}

/// Everything that decides a training. Activations aside, the same settings give the same dictionary to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How features are kept sparse.
    pub kind: Kind,
    /// Number of features.
    pub features: usize,
    /// Active features of a token that the training aims at, on average.
    pub k: usize,
    /// Weight of the penalty of `relu` and `jumprelu`: of the sum of the features as a share of the length that a row usually has, or
    /// of the square of how far their number is from `k`, relative to `k`; both beside the share of the variance that is not explained.
    pub penalty: f64,
    /// Rows to learn from, repeats included. The last step is whole.
    pub rows: u64,
    /// Rows of a step.
    pub batch: usize,
    /// Batches among which rows are mixed before they are used, because the tokens of a text that follow each other are alike.
    pub mixed: usize,
    /// Largest learning rate of Adam.
    pub learning_rate: f32,
    /// Share of the steps during which sparsity is brought in: the penalty from nothing, or the number of kept features
    /// from four times `k`.
    pub warm_up: f64,
    /// Rows after which a feature that was never active counts as dead.
    pub dead_after: u64,
    /// Source of everything that is drawn.
    pub seed: Seed,
}

impl Settings {
    /// Settings with the usual choices for what is not named.
    ///
    /// The learning rate falls with the root of the number of features, as Gao et al. 2024 (appendix A) found, and is at most 0.005. A
    /// feature is dead after a tenth of all rows, or ten batches if that is more.
    pub fn new(kind: Kind, features: usize, k: usize, rows: u64, seed: Seed) -> Settings {
        let batch = 1024.min(rows.max(1) as usize);
        let rate = 2e-4 * (16_384.0 / features.max(1) as f32).sqrt();
        Settings {
            kind,
            features,
            k,
            penalty: if kind == Kind::Relu { 0.2 } else { 1.0 },
            rows,
            batch,
            mixed: 16,
            learning_rate: rate.min(5e-3),
            warm_up: 0.1,
            dead_after: (rows / 10).max(10 * batch as u64),
            seed,
        }
    }

    /// Number of steps.
    pub fn steps(&self) -> u64 {
        self.rows.div_ceil(self.batch as u64)
    }

    /// Refuses settings that no training can have.
    ///
    /// # Errors
    /// [`DictionaryError::Setting`].
    pub fn check(&self) -> Result<(), DictionaryError> {
        let require = |setting, found: String, good: bool, wanted: &str| match good {
            true => Ok(()),
            false => Err(DictionaryError::Setting { setting, found, wanted: wanted.to_owned() }),
        };
        require("features", self.features.to_string(), self.features > 0, "1 or more")?;
        let most = format!("1 to {}, the number of features", self.features);
        require("k", self.k.to_string(), (1..=self.features).contains(&self.k), &most)?;
        require("rows", self.rows.to_string(), self.rows > 0, "1 or more")?;
        require("batch", self.batch.to_string(), self.batch > 1, "2 or more")?;
        require("mixed", self.mixed.to_string(), self.mixed > 0, "1 or more")?;
        let rate = self.learning_rate;
        require("learning_rate", rate.to_string(), rate.is_finite() && rate > 0.0, "a number above 0")?;
        let penalty = self.penalty;
        require("penalty", penalty.to_string(), penalty.is_finite() && penalty >= 0.0, "0 or more")?;
        require("warm_up", self.warm_up.to_string(), (0.0..=1.0).contains(&self.warm_up), "0 to 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused_with_all_there_are() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
        }
        let message = "gated".parse::<Kind>().unwrap_err().to_string();
        assert!(
            message.contains("`kind` is gated") && message.contains("relu, topk, batchtopk"),
            "{message}"
        );
    }

    #[test]
    fn impossible_settings_are_named() {
        let good = Settings::new(Kind::TopK, 64, 4, 10_000, Seed(1));
        good.check().unwrap();
        assert_eq!(good.steps(), 10);
        for (bad, name) in [
            (Settings { k: 65, ..good }, "`k` is 65"),
            (Settings { k: 0, ..good }, "`k` is 0"),
            (Settings { features: 0, ..good }, "`features`"),
            (Settings { learning_rate: f32::NAN, ..good }, "`learning_rate`"),
            (Settings { warm_up: 1.5, ..good }, "`warm_up`"),
            (Settings { penalty: -1.0, ..good }, "`penalty` is -1"),
            (Settings { batch: 1, ..good }, "`batch`"),
        ] {
            let message = bad.check().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
