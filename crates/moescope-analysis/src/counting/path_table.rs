use moescope_base::{Column, Table};

use super::{KeySample, RouteCounts};
use crate::AnalysisError;
use crate::paths::{combinations_log2, seen_share};

/// How many paths, or sets of one layer, were in use, estimated from a sample of the distinct ones.
///
/// - **Error:** the columns `…_error` are standard errors of the sampling of distinct keys: 0 where all were kept. They do not hold the error of taking
///   tokens for independent draws.
/// - **Source:** entropy of Chao and Shen 2003 and coverage of Good 1953, as in [`entropy`](crate::paths::entropy), with sums over the kept
///   keys divided by the share kept (Horvitz and Thompson 1952).
#[derive(Clone, Debug, PartialEq)]
pub struct PathUse {
    /// `path`, or `layer L`.
    pub unit: String,
    /// `sets` or `first choices`.
    pub kind: &'static str,
    /// Tokens.
    pub tokens: u64,
    /// Distinct ones, and the standard error.
    pub distinct: (f64, f64),
    /// Plug-in entropy, bits, and the standard error. Too low when many were seen once.
    pub plug_in: (f64, f64),
    /// Entropy corrected for what was not seen, bits, and the standard error.
    pub entropy: (f64, f64),
    /// Estimated share of tokens to come whose path was already seen.
    pub coverage: f64,
    /// log2 of the number that there could be.
    pub possible_log2: f64,
    /// Share of the distinct ones that were kept.
    pub kept: f64,
}

impl PathUse {
    fn of(unit: String, kind: &'static str, sample: &KeySample, tokens: u64, possible_log2: f64) -> PathUse {
        let n = tokens as f64;
        let once = sample.total(|count| f64::from(u32::from(count == 1))).0.min(n);
        let coverage = 1.0 - if once == n { (n - 1.0) / n } else { once / n };
        let share = |count: u32| f64::from(count) / n;
        let covered = |count: u32| coverage * share(count);
        let term = |count: u32| -covered(count) * covered(count).log2() / seen_share(covered(count), n);
        PathUse {
            unit,
            kind,
            tokens,
            distinct: sample.distinct(),
            plug_in: sample.total(|count| -share(count) * share(count).log2()),
            entropy: sample.total(term),
            coverage,
            possible_log2,
            kept: 2f64.powi(-(sample.level() as i32)),
        }
    }
}

impl RouteCounts {
    /// How many paths, and sets of each layer, are in use: whole paths of sets, of first choices, then the sets of each layer.
    pub fn path_use(&self) -> Vec<PathUse> {
        let sets = |l: &super::LayerCounts| combinations_log2(l.experts, l.per_token);
        let first = |l: &super::LayerCounts| (l.experts as f64).log2();
        let path = |kind, sample, possible| PathUse::of("path".into(), kind, sample, self.tokens(), possible);
        let mut uses = vec![
            path("sets", self.path_sample(0), self.layers().iter().map(sets).sum()),
            path("first choices", self.path_sample(1), self.layers().iter().map(first).sum()),
        ];
        uses.extend(self.layers().iter().map(|layer| {
            PathUse::of(format!("layer {}", layer.layer), "sets", &layer.sets, self.tokens(), sets(layer))
        }));
        uses
    }

    /// [`path_use`](Self::path_use) as a table.
    pub(super) fn path_table(&self) -> Result<Table, AnalysisError> {
        let uses = self.path_use();
        let real = |f: fn(&PathUse) -> f64| uses.iter().map(f).collect::<Vec<f64>>();
        let columns = vec![
            Column::key("kind", "what counts as a stop", uses.iter().map(|u| u.kind.into()).collect()),
            Column::key("unit", "whole path or one layer", uses.iter().map(|u| u.unit.clone()).collect()),
            Column::estimate(
                "entropy",
                "bits",
                "Chao-Shen estimate, corrected for what was not seen",
                real(|u| u.entropy.0),
            ),
            Column::null("entropy", "bits", "all possible paths equally frequent", real(|u| u.possible_log2)),
            Column::observations("entropy", "tokens", uses.iter().map(|u| u.tokens as i64).collect()),
            Column::estimate(
                "entropy_error",
                "bits",
                "standard error of sampling paths; 0 where all were kept",
                real(|u| u.entropy.1),
            ),
            Column::estimate("effective_number", "paths or sets", "2^entropy", real(|u| u.entropy.0.exp2())),
            Column::estimate("distinct", "paths or sets", "seen at least once", real(|u| u.distinct.0)),
            Column::estimate(
                "distinct_error",
                "paths or sets",
                "standard error of sampling paths; 0 where all were kept",
                real(|u| u.distinct.1),
            ),
            Column::estimate("entropy_plug_in", "bits", "without correction; too low", real(|u| u.plug_in.0)),
            Column::estimate(
                "coverage",
                "share of tokens",
                "Good-Turing: what is to come was already seen",
                real(|u| u.coverage),
            ),
            Column::estimate(
                "kept",
                "share",
                "of the distinct paths, all with exact counts",
                real(|u| u.kept),
            ),
        ];
        let method = "Distinct paths are counted exactly while they fit, then an even sample of them, whatever the \
                      order of tokens. Tokens count as independent draws. Where coverage is low the number of paths is a lower \
                      bound. Does not show that paths matter for the loss.";
        Ok(Table::new("counted_paths", "How many paths are in use", method, columns)?)
    }
}
