use std::cmp::Reverse;

use moescope_base::{Column, Table};
use moescope_trace::RoutingTrace;

use super::{Interned, PathKind, Paths};
use crate::AnalysisError;
use crate::specialisation::Labels;

/// Share of tokens that the most used paths, or sets of one layer, account for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoveragePoint {
    /// Block; none for whole paths.
    pub layer: Option<usize>,
    /// Number of most used paths.
    pub most_used: usize,
    /// Share of the tokens from which the most used were found, from 0 to 1. Optimistic: most used by construction.
    pub share: f64,
    /// Share of the tokens of every second document that the most used of the other documents cover; NaN for one
    /// document.
    pub held_out: f64,
    /// Share that as many random paths would cover if every possible path were as frequent: `most_used / possible`.
    pub uniform: f64,
}

/// Coverage over growing numbers of paths.
#[derive(Clone, Debug, PartialEq)]
pub struct CoverageReport {
    /// What counts as a stop.
    pub kind: PathKind,
    /// For whole paths first, then for each layer, in the order of `most_used`.
    pub points: Vec<CoveragePoint>,
    /// Tokens.
    pub tokens: usize,
}

/// Share of tokens covered by the most used paths and by the most used stops of each layer.
///
/// - **Does not show:** what the uncovered tokens lose when they have to take another path; see
///   [`restriction`](super::restriction).
///
/// # Errors
/// If the trace has no token or routed layer.
pub fn coverage(
    trace: &RoutingTrace,
    kind: PathKind,
    most_used: &[usize],
) -> Result<CoverageReport, AnalysisError> {
    let paths = Paths::of(trace, kind)?;
    let documents = Labels::new("document", &trace.tokens().documents);
    let whole = (None, &paths.paths, paths.possible_log2.iter().sum::<f64>());
    let single =
        (0..paths.layers.len()).map(|i| (Some(paths.layers[i]), &paths.stops[i], paths.possible_log2[i]));
    let mut points = Vec::new();
    for (layer, things, possible_log2) in std::iter::once(whole).chain(single) {
        let (share, held_out) = (in_sample(things), held_out(things, documents.codes()));
        points.extend(most_used.iter().map(|k| CoveragePoint {
            layer,
            most_used: *k,
            share: up_to(&share, *k),
            held_out: up_to(&held_out, *k),
            uniform: ((*k as f64).log2() - possible_log2).exp2().min(1.0),
        }));
    }
    Ok(CoverageReport { kind, points, tokens: paths.tokens() })
}

/// Things by how often they occur, the most used first; of equals the one seen first.
pub(super) fn by_use(counts: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..counts.len() as u32).collect();
    order.sort_unstable_by_key(|id| (Reverse(counts[*id as usize]), *id));
    order
}

/// Cumulative share of tokens of the most used things.
fn in_sample(things: &Interned) -> Vec<f64> {
    let counts = things.counts();
    cumulative(by_use(&counts).iter().map(|id| f64::from(counts[*id as usize])), things.ids.len())
}

/// The same, with the most used found in every second document and the share measured in the others.
///
/// Things that were found equally often each cover what they cover on average: which of them was met first, and so the order of the documents, decides nothing.
fn held_out(things: &Interned, documents: &[u32]) -> Vec<f64> {
    let mut halves = [vec![0u32; things.distinct], vec![0u32; things.distinct]]; // [half, id]
    for (id, document) in things.ids.iter().zip(documents) {
        halves[*document as usize % 2][*id as usize] += 1;
    }
    let [found, measured] = &halves;
    let tokens = measured.iter().map(|c| *c as usize).sum();
    let used: Vec<u32> = by_use(found).into_iter().filter(|id| found[*id as usize] > 0).collect();
    let mean = |equals: &[u32]| {
        let sum: u32 = equals.iter().map(|id| measured[*id as usize]).sum();
        std::iter::repeat_n(f64::from(sum) / equals.len() as f64, equals.len())
    };
    let equals = used.chunk_by(|one, other| found[*one as usize] == found[*other as usize]);
    cumulative(equals.flat_map(mean), tokens)
}

fn cumulative(counts: impl Iterator<Item = f64>, tokens: usize) -> Vec<f64> {
    let running = counts.scan(0.0, |sum, count| {
        *sum += count;
        Some(*sum / tokens as f64)
    });
    running.collect()
}

/// The cumulative share at `k`, where no more than all things can be taken.
fn up_to(cumulative: &[f64], k: usize) -> f64 {
    match k {
        0 => 0.0,
        _ => cumulative.get(k - 1).or(cumulative.last()).copied().unwrap_or(f64::NAN),
    }
}

impl CoverageReport {
    /// One row for each unit and number of most used paths.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let rows = self.points.len();
        let real = |f: fn(&CoveragePoint) -> f64| self.points.iter().map(f).collect::<Vec<f64>>();
        let name = |p: &CoveragePoint| p.layer.map_or("path".into(), |l| format!("layer {l}"));
        let columns = vec![
            Column::key("kind", "what counts as a stop", vec![self.kind.to_string(); rows]),
            Column::key("unit", "whole path or one layer", self.points.iter().map(name).collect()),
            Column::integer_key(
                "most_used",
                "paths or sets",
                "how many of the most used",
                self.points.iter().map(|p| p.most_used as i64).collect(),
            ),
            Column::estimate(
                "covered",
                "share of tokens",
                "in the tokens that named the most used",
                real(|p| p.share),
            ),
            Column::null(
                "covered",
                "share of tokens",
                "all possible paths equally frequent",
                real(|p| p.uniform),
            ),
            Column::observations("covered", "tokens", vec![self.tokens as i64; rows]),
            Column::estimate(
                "covered_held_out",
                "share of tokens",
                "in other documents than those that named them",
                real(|p| p.held_out),
            ),
        ];
        let method = "Paths ranked by use. Held out: ranked in every second document, measured in the others. Does \
                      not show what uncovered tokens lose on another path.";
        let name = format!("paths_coverage_{}", self.kind.identifier());
        Ok(Table::new(name, "How much the most used paths cover", method, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;

    #[test]
    fn a_hand_worked_curve() {
        // Expert 0 takes 3 of 6 tokens, 1 two, 2 one; documents of three tokens: [0, 0, 1] and [0, 1, 2].
        let tokens = planted::tokens(vec![0; 6], vec![0; 6], vec![0, 0, 0, 1, 1, 1]);
        let trace = planted::trace(tokens, 4, 1, vec![vec![0, 0, 1, 0, 1, 2]]);
        let report = coverage(&trace, PathKind::Sets, &[1, 2, 9]).unwrap();
        let whole: Vec<(f64, f64, f64)> =
            report.points[..3].iter().map(|p| (p.share, p.held_out, p.uniform)).collect();
        assert_eq!(whole[0], (0.5, 1.0 / 3.0, 0.25));
        assert_eq!((whole[1].0, whole[1].1, whole[1].2), (5.0 / 6.0, 2.0 / 3.0, 0.5));
        assert_eq!((whole[2].0, whole[2].1, whole[2].2), (1.0, 2.0 / 3.0, 1.0));
        assert_eq!((report.points.len(), report.table().unwrap().rows()), (6, 6));
    }

    #[test]
    fn of_paths_that_are_used_alike_none_goes_first() {
        // Experts 0 and 1 are found once each; of the four tokens of the other document 0 has three and 1 has one.
        let at = |routes: Vec<u32>| {
            let tokens = planted::tokens(vec![0; 6], vec![0; 6], vec![0, 0, 1, 1, 1, 1]);
            let trace = planted::trace(tokens, 4, 1, vec![routes]);
            let report = coverage(&trace, PathKind::Sets, &[1, 2]).unwrap();
            [report.points[0].held_out, report.points[1].held_out]
        };
        assert_eq!(at(vec![0, 1, 0, 0, 0, 1]), [0.5, 1.0]);
        assert_eq!(at(vec![1, 0, 0, 0, 0, 1]), [0.5, 1.0]);
    }

    #[test]
    fn few_planted_paths_cover_and_random_ones_do_not_beyond_their_null() {
        let mut rng = Seed(1).rng();
        let text = planted::text(4, 100, 5, &mut rng);
        let few: Vec<u32> = (0..400u32).map(|t| t * 7 % 3).collect();
        let random = (0..2).map(|_| planted::random_sets(400, 16, 1, |_| 1.0, &mut rng)).collect();
        let at =
            |routes, k| coverage(&planted::trace(text.clone(), 16, 1, routes), PathKind::Sets, &[k]).unwrap();
        assert_eq!(at(vec![few.clone(), few], 3).points[0].held_out, 1.0);
        let null = at(random, 20).points[0];
        // In the sample the most used cover more by construction; in other documents they do not.
        assert!(null.share > null.uniform + 0.05 && (null.held_out - null.uniform).abs() < 0.06);
    }

    #[test]
    fn one_document_has_nothing_held_out() {
        let trace = planted::trace(planted::tokens(vec![0], vec![0], vec![0]), 2, 1, vec![vec![1]]);
        let point = coverage(&trace, PathKind::FirstChoices, &[1]).unwrap().points[0];
        assert!(point.share == 1.0 && point.held_out.is_nan());
    }

    proptest! {
        #[test]
        fn coverage_grows_and_the_names_of_experts_are_immaterial(seed in 0u64..500) {
            let mut rng = Seed(seed).rng();
            let text = planted::text(3, 15, 5, &mut rng);
            let trace = planted::trace(text, 6, 2, vec![planted::random_sets(45, 6, 2, |_| 1.0, &mut rng)]);
            let run = |t: &RoutingTrace| coverage(t, PathKind::Sets, &[1, 2, 4, 8, 16]).unwrap();
            let report = run(&trace);
            prop_assert!(report.points[..5].windows(2).all(|w| w[0].share <= w[1].share));
            prop_assert_eq!(report, run(&planted::renamed(&trace, seed)));
        }
    }
}
