use moescope_base::{Seed, Table};
use moescope_trace::RoutingTrace;

use super::{Permutations, coactivation, load, locality, near_ties, sharpness};
use crate::AnalysisError;
use crate::paths::{PathKind, coverage, cross_layer_information, effective_number, path_information};
use crate::specialisation::{
    Exchange, Labels, domain_given_token, domain_load, domain_specialisation, information_table,
    label_specialisation,
};

/// Margin below which [`summary_tables`] counts a choice as nearly tied, in units of the selection scores.
pub const NEAR_TIE: f32 = 1e-3;

/// Numbers of most used paths for which [`summary_tables`] reports coverage.
const MOST_USED: [usize; 9] = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000];

/// Everything that one trace can tell about routing: load, sharpness, co-activation, locality, specialisation, paths.
///
/// Analyses that the trace does not allow are left out: the domain needs at least two domains, locality neighbours,
/// and what lies across layers at least two routed layers.
///
/// # Errors
/// If the trace has no token or no routed layer, no permutation is asked for, or a document spans domains.
pub fn summary_tables(
    trace: &RoutingTrace,
    seed: Seed,
    permutations: usize,
) -> Result<Vec<Table>, AnalysisError> {
    let permutations = Permutations::new(permutations, seed);
    let mut tables = routing_tables(trace, permutations)?;
    tables.push(specialisation_table(trace, permutations)?);
    tables.push(domain_load(trace)?.table()?);
    tables.extend(path_tables(trace, permutations)?);
    Ok(tables)
}

/// Load, sharpness, co-activation and locality.
pub(crate) fn routing_tables(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<Vec<Table>, AnalysisError> {
    let load = load(trace)?;
    let coactivation = coactivation(trace, permutations)?;
    let mut tables = vec![load.table()?, load.over_layers()?, load.by_expert()?];
    tables.push(sharpness(trace, NEAR_TIE)?.table()?);
    tables.push(near_ties(trace)?.table()?);
    tables.extend([coactivation.table()?, coactivation.by_pair()?]);
    match locality(trace, permutations) {
        Ok(report) => tables.push(report.table()?),
        Err(AnalysisError::TooFew { unit: "pairs of neighbouring tokens", .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(tables)
}

/// What the choice of an expert tells about domain, token, class and position.
pub(crate) fn specialisation_table(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<Table, AnalysisError> {
    let tokens = trace.tokens();
    let mut reports = Vec::new();
    if Labels::domain(tokens).values() > 1 {
        reports.push(domain_specialisation(trace, permutations)?);
        reports.push(domain_given_token(trace, permutations)?);
    }
    for label in
        [Labels::token(tokens), Labels::next_token(tokens), Labels::class(tokens), Labels::position(tokens)]
    {
        if label.values() > 1 {
            reports.push(label_specialisation(trace, &label, permutations)?);
        }
    }
    information_table("specialisation", &reports)
}

/// How many paths there are, what they cover, and what they tell.
pub(crate) fn path_tables(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<Vec<Table>, AnalysisError> {
    let tokens = trace.tokens();
    let mut tables = Vec::new();
    for kind in [PathKind::Sets, PathKind::FirstChoices] {
        tables.push(effective_number(trace, kind, permutations)?.table()?);
        tables.push(coverage(trace, kind, &MOST_USED)?.table()?);
    }
    let token = Labels::token(tokens);
    tables.push(path_information(trace, &token, Exchange::Tokens, permutations)?.table()?);
    let domain = Labels::domain(tokens);
    if domain.values() > 1 {
        let exchange = Exchange::Documents(&tokens.documents);
        tables.push(path_information(trace, &domain, exchange, permutations)?.table()?);
    }
    if trace.layers().len() > 1 {
        tables.push(cross_layer_information(trace, permutations)?.table()?);
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use std::collections::BTreeSet;

    fn trace() -> RoutingTrace {
        let mut rng = Seed(8).rng();
        let text = planted::text(4, 25, 10, &mut rng);
        let routes = (0..2).map(|_| planted::random_sets(100, 6, 2, |_| 1.0, &mut rng)).collect();
        planted::trace(text, 6, 2, routes)
    }

    #[test]
    fn all_tables_have_names_of_their_own_and_do_not_depend_on_threads() {
        let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        let run = || format!("{:?}", summary_tables(&trace(), Seed(1), 9).unwrap());
        assert_eq!(threads(1).install(run), threads(3).install(run));
        let tables = summary_tables(&trace(), Seed(1), 9).unwrap();
        let names: BTreeSet<&str> = tables.iter().map(Table::name).collect();
        assert_eq!(names.len(), tables.len());
        assert!(names.contains("specialisation") && names.contains("paths_cross_layer"));
    }

    #[test]
    fn one_domain_and_one_layer_leave_out_what_needs_two() {
        let tokens = planted::tokens(vec![1, 2, 3], vec![0; 3], vec![0, 1, 2]);
        let tables = summary_tables(&planted::trace(tokens, 4, 1, vec![vec![0, 1, 2]]), Seed(1), 9).unwrap();
        let absent = |name: &str| tables.iter().all(|t| t.name() != name);
        assert!(
            absent("routing_locality") && absent("paths_cross_layer") && absent("paths_information_domain")
        );
    }
}
