use moescope_base::{Column, Table};
use moescope_trace::RoutingTrace;
use rand::seq::SliceRandom;
use statrs::function::gamma::ln_gamma;

use super::{Interned, PathKind, Paths};
use crate::AnalysisError;
use crate::routing::{NullComparison, Permutations, Tail, comparison_columns};

/// Entropy of what tokens pass through, estimated from how often each thing was seen.
///
/// Tokens count as independent draws; text is not, so coverage is optimistic for short texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathEntropy {
    /// Tokens.
    pub tokens: usize,
    /// Distinct things seen.
    pub distinct: usize,
    /// Plug-in entropy, bits; too low when many things were seen once.
    pub plug_in: f64,
    /// Estimate of Chao and Shen (2003), bits: corrects the plug-in for things not seen.
    pub chao_shen: f64,
    /// Good–Turing coverage: estimated share of tokens to come whose path was already seen, from 0 to 1.
    pub coverage: f64,
}

impl PathEntropy {
    /// Number of equally frequent paths with this entropy: `2^chao_shen`, the Hill number of order 1.
    pub fn effective_number(&self) -> f64 {
        self.chao_shen.exp2()
    }
}

/// Entropy of things from how often each occurs; things that never occur are left out.
///
/// - **Source:** A. Chao and T.-J. Shen 2003, "Nonparametric estimation of Shannon's index of diversity when there are
///   unseen species in sample"; coverage `1 − f1/n` of Good 1953, with `f1 = n − 1` in place of `n` when every thing
///   was seen once.
pub fn entropy(counts: &[u32]) -> PathEntropy {
    // Ascending, so that the numbering of the things does not change a bit of the sums.
    let mut counts: Vec<u32> = counts.iter().copied().filter(|c| *c > 0).collect();
    counts.sort_unstable();
    let tokens: u64 = counts.iter().map(|c| u64::from(*c)).sum();
    let n = tokens as f64;
    let once = counts.iter().take_while(|c| **c == 1).count() as f64;
    let coverage = 1.0 - if once == n { (n - 1.0) / n } else { once / n };
    let (mut plug_in, mut chao_shen) = (0.0, 0.0);
    for run in counts.chunk_by(|a, b| a == b) {
        let (share, times) = (f64::from(run[0]) / n, run.len() as f64);
        plug_in -= times * share * share.log2();
        let covered = coverage * share;
        // 1 − (1 − covered)^n, without losing digits when `covered` is small.
        let seen = -(n * (-covered).ln_1p()).exp_m1();
        chao_shen -= times * covered * covered.log2() / seen;
    }
    let distinct = counts.len();
    PathEntropy {
        tokens: tokens as usize,
        distinct,
        plug_in: plug_in + 0.0,
        chao_shen: chao_shen + 0.0,
        coverage,
    }
}

/// log2 of the number of ways to choose `chosen` of `experts`. Exact to rounding: log2 C(64, 8) = 32.04.
pub fn combinations_log2(experts: usize, chosen: usize) -> f64 {
    if chosen > experts {
        return f64::NEG_INFINITY;
    }
    let factorial = |n: usize| ln_gamma(n as f64 + 1.0);
    let nats = factorial(experts) - factorial(chosen) - factorial(experts - chosen);
    (nats / std::f64::consts::LN_2).max(0.0)
}

/// How many stops a layer, or how many paths all layers together, effectively offer to the tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EffectiveNumber {
    /// Block; none for whole paths.
    pub layer: Option<usize>,
    /// Entropy of what was used.
    pub used: PathEntropy,
    /// log2 of what is possible.
    pub possible_log2: f64,
}

/// How many paths are in use, beside how many there would be if layers chose independently.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveNumberReport {
    /// What counts as a stop.
    pub kind: PathKind,
    /// Whole paths.
    pub paths: EffectiveNumber,
    /// Single layers, in the order of the trace.
    pub layers: Vec<EffectiveNumber>,
    /// Chao–Shen entropy of paths, bits, beside its null: every layer's stops shuffled over tokens by itself, which
    /// keeps what each layer does and destroys what layers have to do with one another. Tested downwards.
    pub independence: NullComparison,
}

/// Effective number of paths of a trace.
///
/// - **Does not show:** that paths matter for the loss; see [`restriction`](super::restriction). Dependence between
///   layers may come from the token alone; see [`cross_layer_information`](super::cross_layer_information).
///
/// # Errors
/// If the trace has no token or routed layer, or no permutation is asked for.
pub fn effective_number(
    trace: &RoutingTrace,
    kind: PathKind,
    permutations: Permutations,
) -> Result<EffectiveNumberReport, AnalysisError> {
    permutations.check("effective_number")?;
    let paths = Paths::of(trace, kind)?;
    let used = entropy(&paths.paths.counts());
    let draws = permutations.child("independent layers").draw(
        || paths.stops.clone(),
        |stops, rng| {
            for (stop, original) in stops.iter_mut().zip(&paths.stops) {
                stop.ids.copy_from_slice(&original.ids);
                stop.ids.shuffle(rng);
            }
            entropy(&Interned::sequence(stops, paths.tokens()).counts()).chao_shen
        },
    );
    let layer = |i: usize| EffectiveNumber {
        layer: Some(paths.layers[i]),
        used: entropy(&paths.stops[i].counts()),
        possible_log2: paths.possible_log2[i],
    };
    Ok(EffectiveNumberReport {
        kind,
        layers: (0..paths.layers.len()).map(layer).collect(),
        paths: EffectiveNumber { layer: None, used, possible_log2: paths.possible_log2.iter().sum() },
        independence: NullComparison::new(used.chao_shen, &draws, Tail::Lower),
    })
}

impl EffectiveNumberReport {
    /// A row for whole paths, then one for each layer; the null exists for whole paths alone.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let rows: Vec<&EffectiveNumber> = std::iter::once(&self.paths).chain(&self.layers).collect();
        let real = |f: fn(&EffectiveNumber) -> f64| rows.iter().map(|r| f(r)).collect::<Vec<f64>>();
        let name = |r: &&EffectiveNumber| r.layer.map_or("path".into(), |l| format!("layer {l}"));
        let without = |observed| NullComparison {
            observed,
            null_mean: f64::NAN,
            null_low: f64::NAN,
            null_high: f64::NAN,
            p_value: f64::NAN,
            permutations: 0,
        };
        let single = self.layers.iter().map(|l| without(l.used.chao_shen));
        let comparisons: Vec<NullComparison> = std::iter::once(self.independence).chain(single).collect();
        let mut columns = vec![
            Column::key("kind", "what counts as a stop", vec![self.kind.to_string(); rows.len()]),
            Column::key("unit", "whole path or one layer", rows.iter().map(name).collect()),
        ];
        columns.extend(comparison_columns(
            "entropy",
            "bits",
            "Chao-Shen estimate, corrected for what was not seen",
            "stops of each layer shuffled over tokens, layers independent",
            &comparisons,
        ));
        let tokens = rows.iter().map(|r| r.used.tokens as i64).collect();
        let distinct = rows.iter().map(|r| r.used.distinct as i64).collect();
        columns.extend([
            Column::observations("entropy", "tokens", tokens),
            Column::estimate("effective_number", "paths or sets", "2^entropy", {
                real(|r| r.used.effective_number())
            }),
            Column::count("distinct", "paths or sets", "seen at least once", distinct),
            Column::estimate(
                "entropy_plug_in",
                "bits",
                "without correction; too low",
                real(|r| r.used.plug_in),
            ),
            Column::estimate(
                "coverage",
                "share of tokens",
                "Good-Turing: what is to come was already seen",
                { real(|r| r.used.coverage) },
            ),
            Column::estimate(
                "possible",
                "bits",
                "log2 of the number there could be",
                real(|r| r.possible_log2),
            ),
        ]);
        let method = "Entropy of the paths of all tokens, which count as independent draws. Where coverage is low the \
                      number of paths is a lower bound. Does not show that paths matter for the loss.";
        let name = format!("paths_effective_number_{}", self.kind.identifier());
        Ok(Table::new(name, "How many paths are in use", method, columns)?)
    }
}
