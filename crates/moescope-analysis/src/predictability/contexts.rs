//! Whether a token takes the same route in another context.

use std::collections::BTreeMap;

use moescope_base::{Column, Seed, Table};
use moescope_trace::{LayerRouting, RoutingTrace};
use rand::RngExt;
use rayon::prelude::*;

use crate::AnalysisError;
use crate::check;
use crate::statistics::{Bootstrap, LEAST_UNITS, Resampling, bootstrap};
use crate::tabulate::bootstrap_columns;

/// Agreement of the routes of one token in two contexts, in one layer.
///
/// Each token that occurs in another document as well is set beside one such occurrence, drawn at random, and beside another token of any id
/// of that same document.
///
/// - **Unit and range:** mean over these tokens of the Jaccard index of the two sets of experts, from 0 to 1: 1 where the context decides
///   nothing.
/// - **Null:** of `same`, tokens of any id of the document in which it was met: what loads and the subject of that document alone make agree.
///   `gain` is the paired difference. Intervals resample the documents of the first of each two; the second ones are not drawn anew, so
///   that intervals are a little too narrow.
/// - **Does not show:** what in the context decides: words before, position and domain may all differ; and frequent tokens count most.
/// - **Source:** context-independent specialisation, Xue et al. 2024 (OpenMoE); Jaccard index of sets of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContextAgreement {
    /// Block.
    pub layer: usize,
    /// Of two occurrences of one token in different documents.
    pub same: Bootstrap,
    /// Of a token and any other one of the document in which it was met.
    pub any: f64,
    /// The difference, paired.
    pub gain: Bootstrap,
    /// Tokens that occur in two documents.
    pub tokens: usize,
}

/// A token of the text with its two partners in another document.
struct Met {
    token: usize,
    document: usize,
    same: usize,
    any: usize,
}

/// Agreement of routes between contexts, for each layer; nothing where too few documents share tokens for an interval.
///
/// # Errors
/// If the intervals cannot be made.
pub fn context_agreement(
    trace: &RoutingTrace,
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<ContextAgreement>, AnalysisError> {
    let tokens = trace.tokens();
    let met = partners(&tokens.ids, &tokens.documents, seed);
    let documents = met.iter().map(|met| met.document).max().map_or(0, |last| last + 1);
    if documents < LEAST_UNITS {
        return Ok(Vec::new());
    }
    trace.layers().par_iter().map(|layer| of_layer(layer, &met, documents, resampling)).collect()
}

fn of_layer(
    layer: &LayerRouting,
    met: &[Met],
    documents: usize,
    resampling: Resampling,
) -> Result<ContextAgreement, AnalysisError> {
    let (mut same, mut any, mut of) = (vec![0.0; documents], vec![0.0; documents], vec![0.0; documents]);
    for met in met {
        let own = layer.chosen(met.token);
        same[met.document] += jaccard(own, layer.chosen(met.same));
        any[met.document] += jaccard(own, layer.chosen(met.any));
        of[met.document] += 1.0;
    }
    let share = |drawn: &[usize], value: &dyn Fn(usize) -> f64| {
        drawn.iter().map(|document| value(*document)).sum::<f64>()
            / drawn.iter().map(|document| of[*document]).sum::<f64>()
    };
    let interval = |value: &(dyn Fn(usize) -> f64 + Sync)| {
        bootstrap(documents, |drawn| share(drawn, &|document| value(document)), resampling)
    };
    Ok(ContextAgreement {
        layer: layer.layer,
        same: interval(&|document| same[document])?,
        any: any.iter().sum::<f64>() / of.iter().sum::<f64>(),
        gain: interval(&|document| same[document] - any[document])?,
        tokens: met.len(),
    })
}

/// For every token that stands in another document too, such an occurrence and another token of that document, each drawn at random. Documents are
/// numbered from 0 in the order in which they first have one.
fn partners(ids: &[u32], documents: &[u32], seed: Seed) -> Vec<Met> {
    let mut places: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    ids.iter().enumerate().for_each(|(token, id)| places.entry(*id).or_default().push(token));
    let mut rng = seed.child("contexts").rng();
    let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
    let mut of_document: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    documents
        .iter()
        .enumerate()
        .for_each(|(token, document)| of_document.entry(*document).or_default().push(token));
    let mut found = Vec::new();
    for token in 0..ids.len() {
        let elsewhere = |other: &usize| documents[*other] != documents[token];
        let Some(same) = draw(&places[&ids[token]], elsewhere, &mut rng) else { continue };
        let Some(any) = draw(&of_document[&documents[same]], |other| *other != same, &mut rng) else {
            continue;
        };
        let next = numbers.len();
        let document = *numbers.entry(documents[token]).or_insert(next);
        found.push(Met { token, document, same, any });
    }
    found
}

/// One of these places that is wanted, each as likely; none if no one is.
fn draw(among: &[usize], wanted: impl Fn(&usize) -> bool, rng: &mut impl rand::Rng) -> Option<usize> {
    // Some draws are enough but where few are wanted; then all places are looked through.
    let drawn = (0..8).map(|_| among[rng.random_range(0..among.len())]).find(&wanted);
    drawn.or_else(|| {
        let left: Vec<usize> = among.iter().copied().filter(&wanted).collect();
        (!left.is_empty()).then(|| left[rng.random_range(0..left.len())])
    })
}

/// Common members of two sets, as a share of all members.
fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let common = a.iter().filter(|expert| b.contains(expert)).count();
    common as f64 / (a.len() + b.len() - common).max(1) as f64
}

/// One row for each layer.
///
/// # Errors
/// If the columns make no table.
pub(super) fn table(found: &[ContextAgreement]) -> Result<Table, AnalysisError> {
    check::at_least("agreement between contexts", "layers", found.len(), 1)?;
    let of = |pick: fn(&ContextAgreement) -> Bootstrap| found.iter().map(pick).collect::<Vec<Bootstrap>>();
    let unit = "Jaccard index";
    let mut columns =
        vec![Column::integer_key("layer", "", "block", found.iter().map(|row| row.layer as i64).collect())];
    let meaning = "of the experts of one token in two documents";
    columns.extend(bootstrap_columns("same", unit, meaning, &of(|row| row.same)));
    let any = found.iter().map(|row| row.any).collect();
    columns.push(Column::null("same", unit, "with any other token of the second document", any));
    let meaning = "beyond any other token of the second document, paired";
    columns.extend(bootstrap_columns("gain", unit, meaning, &of(|row| row.gain)));
    columns.push(Column::null("gain", unit, "the token decides nothing", vec![0.0; found.len()]));
    let tokens = found.iter().map(|row| row.tokens as i64).collect();
    columns.push(Column::count("tokens", "tokens", "that occur in another document", tokens));
    let method = "Each token beside one occurrence of it in another document, and beside any other token of that document, drawn at random. \
                  Intervals resample the first document of each two. Does not show what in the context decides; frequent tokens count most.";
    Ok(Table::new(
        "context_agreement",
        "Whether a token takes the same route in another context",
        method,
        columns,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use crate::statistics::BootstrapMethod;
    use moescope_trace::TokenTable;

    /// Twenty documents of 30 tokens of six ids.
    fn trace(choice: impl Fn(usize, u32) -> Vec<u32>, seed: u64) -> RoutingTrace {
        let mut rng = Seed(seed).rng();
        let ids: Vec<u32> = (0..600).map(|_| rng.random_range(0..6)).collect();
        let choices: Vec<u32> = ids.iter().enumerate().flat_map(|(token, id)| choice(token, *id)).collect();
        let layer = LayerRouting {
            layer: 3,
            experts: 6,
            per_token: 2,
            weights: vec![0.5; choices.len()],
            choices,
            entropy: vec![0.0; 600],
            margin: vec![0.0; 600],
            relative_margin: vec![0.0; 600],
        };
        let table = TokenTable {
            next_ids: ids.clone(),
            domains: vec![0; 600],
            documents: (0..600).map(|token| token / 30).collect(),
            positions: (0..600).map(|token| token % 30).collect(),
            classes: vec![0; 600],
            domain_names: vec!["text".into()],
            class_names: vec!["class".into()],
            ids,
        };
        RoutingTrace::new(table, vec![layer]).unwrap()
    }

    fn agreement(trace: &RoutingTrace, seed: u64) -> ContextAgreement {
        let resampling = Resampling {
            replicates: 200,
            level: 0.95,
            method: BootstrapMethod::Percentile,
            seed: Seed(seed),
        };
        let found = context_agreement(trace, Seed(seed), resampling).unwrap();
        assert_eq!(found.len(), 1);
        found[0]
    }

    #[test]
    fn sets_are_compared_by_hand() {
        assert_eq!((jaccard(&[0, 1], &[1, 0]), jaccard(&[0, 1], &[2, 3])), (1.0, 0.0));
        assert!((jaccard(&[0, 1], &[1, 2]) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn partners_are_of_other_documents_and_of_the_same_token() {
        let (ids, documents) = ([5, 6, 5, 7, 6, 5], [0, 0, 1, 1, 1, 1]);
        let met = partners(&ids, &documents, Seed(1));
        // The only 7 has no other.
        assert_eq!(met.iter().map(|met| met.token).collect::<Vec<_>>(), [0, 1, 2, 4, 5]);
        for met in &met {
            assert_eq!(ids[met.token], ids[met.same]);
            assert!(documents[met.token] != documents[met.same] && documents[met.same] == documents[met.any]);
            assert_ne!(met.same, met.any);
        }
        assert_eq!((met[0].document, met[2].document), (0, 1));
        assert!(partners(&[1, 2, 3], &[0, 1, 2], Seed(1)).is_empty());
    }

    #[test]
    fn routes_by_token_agree_everywhere_and_renaming_experts_changes_nothing() {
        let by_token = trace(|_, id| vec![id, (id + 1) % 6], 1);
        let found = agreement(&by_token, 1);
        assert!((found.same.estimate - 1.0).abs() < 1e-12 && found.gain.low > 0.3, "{found:?}");
        // Of six neighbouring pairs around a circle, one is the same, two share one expert: 1/6 + 2/6 · 1/3.
        assert!((found.any - 5.0 / 18.0).abs() < 0.05, "{found:?}");
        let renamed = trace(
            |_, id| vec![[3, 5, 0, 1, 4, 2][id as usize], [3, 5, 0, 1, 4, 2][(id as usize + 1) % 6]],
            1,
        );
        assert_eq!(agreement(&renamed, 1), found);
    }

    #[test]
    fn routes_that_the_token_does_not_decide_gain_at_the_stated_rate() {
        let rate = planted::rejection_rate(200, |seed| {
            // Experts by the place in the text, in stretches of five tokens.
            let draw =
                |token: usize| Seed(seed).child("place").index((token / 5) as u64).rng().random_range(0..6);
            let routed = trace(|token, _| vec![draw(token), (draw(token) + 1) % 6], 1000 + seed);
            if agreement(&routed, seed).gain.low > 0.0 { 0.0 } else { 1.0 }
        });
        // One side of 95 % over twenty documents, a little liberal: of 200 tests at 2.5 %, 14 and more in less than 1 of 1,000 cases.
        assert!(rate < 0.07, "{rate}");
    }

    #[test]
    fn a_route_that_the_subject_of_the_document_decides_is_not_the_tokens() {
        // Documents of two subjects with words of their own; the subject alone decides the route.
        let rate = planted::rejection_rate(200, |seed| {
            let subject = |token: usize| (token / 30) % 2;
            let routed =
                trace(|token, _| vec![2 * subject(token) as u32, 2 * subject(token) as u32 + 1], 1000 + seed);
            let mut table = routed.tokens().clone();
            table.ids.iter_mut().enumerate().for_each(|(token, id)| *id += 6 * subject(token) as u32);
            let routed = RoutingTrace::new(table, routed.layers().to_vec()).unwrap();
            if agreement(&routed, seed).gain.low > 0.0 { 0.0 } else { 1.0 }
        });
        assert!(rate < 0.07, "{rate}");
    }

    #[test]
    fn too_few_documents_have_no_interval_and_no_row() {
        let one = trace(|_, id| vec![id, (id + 1) % 6], 1);
        let mut table = one.tokens().clone();
        table.documents.iter_mut().for_each(|document| *document = (*document).min(1));
        let few = RoutingTrace::new(table, one.layers().to_vec()).unwrap();
        let resampling =
            Resampling { replicates: 20, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        assert!(context_agreement(&few, Seed(1), resampling).unwrap().is_empty());
    }
}
