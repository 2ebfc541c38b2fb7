//! Whether a token takes the same route in another context.

use std::collections::BTreeMap;

use moescope_base::{Column, Seed, Table};
use moescope_trace::{LayerRouting, RoutingTrace};
use rand::RngExt;

use crate::AnalysisError;
use crate::check;
use crate::statistics::{Bootstrap, LEAST_UNITS, Resampling, bootstrap};
use crate::tabulate::bootstrap_columns;

/// Agreement of the routes of one token in two contexts, in one layer.
///
/// Each token that occurs in another document as well is set beside one such occurrence, drawn at random, and beside a token of any id
/// of another document.
///
/// - **Unit and range:** mean over these tokens of the Jaccard index of the two sets of experts, from 0 to 1: 1 where the context decides
///   nothing.
/// - **Null:** of `same`, tokens of any id: what loads alone make agree. `gain` is the paired difference. The interval is over documents of the
///   first of each two.
/// - **Does not show:** what in the context decides: words before, position and domain all differ; and frequent tokens count most.
/// - **Source:** context-independent specialisation, Xue et al. 2024 (OpenMoE); Jaccard index of sets of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContextAgreement {
    /// Block.
    pub layer: usize,
    /// Of two occurrences of one token in different documents.
    pub same: Bootstrap,
    /// Of two tokens of any id in different documents.
    pub any: f64,
    /// The difference, paired.
    pub gain: Bootstrap,
    /// Tokens that occur in two documents.
    pub tokens: usize,
}

/// A token of the text with its two partners in other documents.
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
    trace.layers().iter().map(|layer| of_layer(layer, &met, documents, resampling)).collect()
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

/// For every token that stands in another document too, such an occurrence and a token of any id, each drawn at random. Documents are numbered
/// from 0 in the order in which they first have one.
fn partners(ids: &[u32], documents: &[u32], seed: Seed) -> Vec<Met> {
    let mut places: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    ids.iter().enumerate().for_each(|(token, id)| places.entry(*id).or_default().push(token));
    let mut rng = seed.child("contexts").rng();
    let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
    let all: Vec<usize> = (0..ids.len()).collect();
    let mut found = Vec::new();
    for token in 0..ids.len() {
        let mut elsewhere = |among: &[usize]| {
            let apart = |other: &&usize| documents[**other] != documents[token];
            // Some draws are enough but where a token hardly stands anywhere else; then all places are looked through.
            let drawn = (0..8).map(|_| &among[rng.random_range(0..among.len())]).find(apart);
            let drawn = drawn.copied();
            drawn.or_else(|| {
                let others: Vec<usize> = among.iter().filter(apart).copied().collect();
                (!others.is_empty()).then(|| others[rng.random_range(0..others.len())])
            })
        };
        let (Some(same), Some(any)) = (elsewhere(&places[&ids[token]]), elsewhere(&all)) else { continue };
        let next = numbers.len();
        let document = *numbers.entry(documents[token]).or_insert(next);
        found.push(Met { token, document, same, any });
    }
    found
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
    columns.push(Column::null("same", unit, "of two tokens of any id in two documents", any));
    let meaning = "beyond tokens of any id, paired";
    columns.extend(bootstrap_columns("gain", unit, meaning, &of(|row| row.gain)));
    columns.push(Column::null("gain", unit, "the token decides nothing", vec![0.0; found.len()]));
    let tokens = found.iter().map(|row| row.tokens as i64).collect();
    columns.push(Column::count("tokens", "tokens", "that occur in another document", tokens));
    let method = "Each token beside one occurrence of it in another document, and beside a token of any id of another document, drawn at random. \
                  Does not show what in the context decides; frequent tokens count most.";
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
            assert!(
                documents[met.token] != documents[met.same] && documents[met.token] != documents[met.any]
            );
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
