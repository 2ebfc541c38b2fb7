use moescope_base::{Column, Table};
use moescope_trace::RoutingTrace;

use super::intern::how_often;
use super::{Interned, PathKind, Paths};
use crate::AnalysisError;
use crate::routing::{NullComparison, Permutations, comparison_columns};
use crate::shuffled::Shuffled;
use crate::statistics::Tail;

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
        chao_shen -= times * covered * covered.log2() / seen_share(covered, n);
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

/// Chance that a thing of this share is among `n` draws: `1 − (1 − share)^n`, without losing digits when the share is small.
pub(crate) fn seen_share(share: f64, n: f64) -> f64 {
    -(n * (-share).ln_1p()).exp_m1()
}

/// log2 of the number of ways to choose `chosen` of `experts`. Exact to rounding: log2 C(64, 8) = 32.04.
pub fn combinations_log2(experts: usize, chosen: usize) -> f64 {
    if chosen > experts {
        return f64::NEG_INFINITY;
    }
    let fewer = chosen.min(experts - chosen);
    (1..=fewer).map(|i| ((experts - fewer + i) as f64 / i as f64).log2()).sum::<f64>() + 0.0
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
        || vec![Shuffled::default(); paths.stops.len()],
        |shuffled, rng| {
            // Stops of one layer may stay: what lies beside them is in random order.
            let others = shuffled.iter_mut().zip(&paths.stops).skip(1);
            others.for_each(|(shuffled, stops)| shuffled.fill(&stops.ids, rng));
            let lying = |(place, stops): (usize, &Interned)| match place {
                0 => (paths.stops[0].ids.as_slice(), stops.distinct),
                _ => (shuffled[place].items(), stops.distinct),
            };
            let parts: Vec<(&[u32], usize)> = paths.stops.iter().enumerate().map(lying).collect();
            entropy(&how_often(&parts, paths.tokens())).chao_shen
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
        independence: NullComparison::new(used.chao_shen, &draws, Tail::Less),
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
        let single = self.layers.iter().map(|l| NullComparison::without_draws(l.used.chao_shen));
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
            Column::estimate(
                "effective_number",
                "paths or sets",
                "2^entropy",
                real(|r| r.used.effective_number()),
            ),
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
                real(|r| r.used.coverage),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    fn run(routes: Vec<Vec<u32>>, seed: u64) -> EffectiveNumberReport {
        let n = routes[0].len();
        let trace = planted::trace(planted::tokens(vec![0; n], vec![0; n], vec![0; n]), 8, 1, routes);
        effective_number(&trace, PathKind::Sets, Permutations::new(39, Seed(seed))).unwrap()
    }

    fn draw(n: usize, limit: u32, seed: Seed) -> Vec<u32> {
        let mut rng = seed.rng();
        (0..n).map(|_| rng.random_range(0..limit)).collect()
    }

    #[test]
    fn a_hand_worked_estimate() {
        // n = 4, f1 = 2, coverage ½: −Σ ½p log2(½p) / (1 − (1 − ½p)^4).
        let found = entropy(&[1, 0, 2, 1]);
        let wanted = 0.5 / (1.0 - 0.75f64.powi(4)) + 2.0 * 0.375 / (1.0 - 0.875f64.powi(4));
        assert!((found.chao_shen - wanted).abs() < 1e-12);
        assert_eq!((found.plug_in, found.coverage, found.distinct, found.tokens), (1.5, 0.5, 3, 4));
        // All seen once: f1 = n − 1 keeps the estimate finite.
        assert_eq!(entropy(&[1, 1]).coverage, 0.5);
        assert_eq!(entropy(&[9]).effective_number(), 1.0);
    }

    #[test]
    fn the_number_of_possible_sets_is_binomial() {
        assert!((combinations_log2(64, 8).exp2() / 4_426_165_368.0 - 1.0).abs() < 1e-9);
        assert!((combinations_log2(16, 2) - 120f64.log2()).abs() < 1e-12);
        assert_eq!((combinations_log2(8, 8), combinations_log2(2, 3)), (0.0, f64::NEG_INFINITY));
    }

    #[test]
    fn chao_shen_sees_more_of_an_undersampled_uniform_law_than_the_plug_in() {
        let mut counts = vec![0u32; 1_000];
        draw(1_000, 1_000, Seed(1)).iter().for_each(|i| counts[*i as usize] += 1);
        let found = entropy(&counts);
        let truth = 1_000f64.log2();
        assert!((found.chao_shen - truth).abs() < 0.25 && found.plug_in < truth - 0.5);
    }

    #[test]
    fn locked_layers_use_fewer_paths_than_independent_ones() {
        let first = draw(200, 8, Seed(3));
        let report = run(vec![first.clone(), first.iter().map(|e| (e + 3) % 8).collect()], 1);
        assert!(report.independence.p_value <= 0.025 && report.independence.excess() < -1.5);
        assert!((report.paths.used.effective_number() - 8.0).abs() < 1.0);
        assert!((report.paths.possible_log2 - 6.0).abs() < 1e-9);
        assert_eq!(report.table().unwrap().rows(), 3);
    }

    #[test]
    fn independent_layers_are_rejected_at_the_stated_rate() {
        let p_value = |seed| {
            let layer = |l| draw(80, 4, Seed(seed).index(l));
            run(vec![layer(0), layer(1), layer(2)], seed).independence.p_value
        };
        let rate = planted::rejection_rate(200, p_value);
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    }

    proptest! {
        #[test]
        fn names_of_experts_and_order_of_tokens_are_immaterial(seed in 0u64..500) {
            let mut rng = Seed(seed).rng();
            let text = planted::text(2, 20, 5, &mut rng);
            let routes = (0..2).map(|_| planted::random_sets(40, 5, 2, |e| f64::from(1 + e), &mut rng)).collect();
            let trace = planted::trace(text, 5, 2, routes);
            let run = |t: &RoutingTrace| effective_number(t, PathKind::Sets, Permutations::new(3, Seed(1))).unwrap();
            prop_assert_eq!(run(&trace), run(&planted::renamed(&trace, seed)));
            prop_assert_eq!(run(&trace).paths, run(&planted::reordered(&trace, seed)).paths);
        }
    }
}
