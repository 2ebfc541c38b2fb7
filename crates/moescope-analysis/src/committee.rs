//! Standing committees: whether a few experts carry most of the weight, and whether they are the same for every domain.

mod gives;

use moescope_base::{Column, Figure, FigureKind, Table};
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};
use rand::seq::SliceRandom;

use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, Reads, Rule,
};
use crate::routing::{NullComparison, Permutations, comparison_columns, gini};
use crate::statistics::{Bootstrap, Resampling, Tail, bootstrap};
use crate::tabulate::bootstrap_columns;
use crate::{AnalysisError, check};

/// Share of the routed weight that a committee holds.
pub const MASS: f64 = 0.7;

/// The committee of one layer.
///
/// - **Unit and range:** `size` in experts, from 1 to all; `gini` from 0 (even) to `1 − 1/experts`; overlaps are Jaccard indices, from 0
///   (nothing in common) to 1 (the same).
/// - **Null:** of `size`, the experts that hold as much of an even load; of overlaps, whole documents exchanged between the
///   domains, which keeps all loads: an overlap below it says that domains have committees of their own, one within it that the
///   committee stands whatever the domain. `chance` is what sets drawn at random share.
/// - **Does not show:** that the committee is needed (take it out with `knockout`), nor that its experts do the same for every domain.
/// - **Source:** standing committees as in arXiv 2601.03425, here with the weights as applied and a null.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCommittee {
    /// Block.
    pub layer: usize,
    /// Experts of the layer.
    pub experts: usize,
    /// Least number of experts that hold [`MASS`] of the routed weight, with a 95 % interval over documents.
    pub size: Bootstrap,
    /// Least number of experts that hold [`MASS`] of an even load.
    pub even_size: usize,
    /// Gini coefficient of the weight of the experts.
    pub gini: f64,
    /// Between domains; none where the text has one domain only.
    pub domains: Option<DomainOverlap>,
}

/// How alike the experts of the domains are.
///
/// The overlap of sets is the published number, but a poor test: where two groups of experts are about equally strong, exchanged
/// documents tip the set of a domain from one to the other as a whole. The overlap of weight has no such edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DomainOverlap {
    /// Experts in the set of a domain: twice as many as a token chooses, at most half of the layer.
    pub set: usize,
    /// Mean Jaccard index of the sets over pairs of domains, beside exchanged documents.
    pub sets: NullComparison,
    /// The same of the shares of weight, `Σ min / Σ max` over all experts; small values speak against the null.
    pub weight: NullComparison,
    /// Mean Jaccard index of two sets of this size that are drawn at random.
    pub chance: f64,
}

/// The committee of each routed layer.
///
/// # Errors
/// If there are fewer than two documents, no permutation is asked for, or the weights of a layer are not finite or are all zero.
pub fn committee(
    trace: &RoutingTrace,
    permutations: Permutations,
    resampling: Resampling,
) -> Result<Vec<LayerCommittee>, AnalysisError> {
    permutations.check("committee")?;
    let documents = Documents::new(trace.tokens());
    check::at_least("committee", "documents", documents.domain.len(), 2)?;
    trace.layers().iter().map(|layer| of_layer(layer, &documents, permutations, resampling)).collect()
}

/// The documents of a text. What lies in two domains counts as two.
struct Documents {
    /// Document of each token, numbered from 0.
    of_token: Vec<usize>,
    /// Domain of each document, numbered from 0 among those that occur.
    domain: Vec<usize>,
    /// Domains that occur.
    domains: usize,
}

impl Documents {
    fn new(tokens: &TokenTable) -> Documents {
        let key = |token: usize| (tokens.domains[token], tokens.documents[token]);
        let mut names: Vec<(u16, u32)> = (0..tokens.len()).map(key).collect();
        names.sort_unstable();
        names.dedup();
        let number = |token| names.binary_search(&key(token)).expect("a document of the list");
        let of_token = (0..tokens.len()).map(number).collect();
        let runs = names.chunk_by(|a, b| a.0 == b.0);
        let domain: Vec<usize> = runs.enumerate().flat_map(|(at, run)| vec![at; run.len()]).collect();
        Documents { of_token, domains: domain.last().map_or(0, |last| last + 1), domain }
    }
}

fn of_layer(
    layer: &LayerRouting,
    documents: &Documents,
    permutations: Permutations,
    resampling: Resampling,
) -> Result<LayerCommittee, AnalysisError> {
    let masses = masses(layer, documents); // [document][expert]
    let all: Vec<usize> = (0..masses.len()).collect();
    let mass = total(&masses, &all, layer.experts);
    check::finite("committee", &mass)?;
    check::in_range("committee", "routed weight", 0, mass.iter().any(|m| *m > 0.0), "above 0")?;
    let size = |drawn: &[usize]| committee_size(&total(&masses, drawn, layer.experts)) as f64;
    let domains = (documents.domains > 1)
        .then(|| between_domains(&masses, documents, layer.per_token, permutations.index(layer.layer)));
    Ok(LayerCommittee {
        layer: layer.layer,
        experts: layer.experts,
        size: bootstrap(masses.len(), size, resampling)?,
        even_size: committee_size(&vec![1.0; layer.experts]),
        gini: gini(&mass),
        domains,
    })
}

/// Routed weight by document and expert.
fn masses(layer: &LayerRouting, documents: &Documents) -> Vec<Vec<f64>> {
    let mut masses = vec![vec![0.0; layer.experts]; documents.domain.len()];
    let slots = layer.choices.iter().zip(&layer.weights).enumerate();
    for (slot, (expert, weight)) in slots {
        masses[documents.of_token[slot / layer.per_token]][*expert as usize] += f64::from(*weight);
    }
    masses
}

/// Weight of each expert over some documents.
fn total(masses: &[Vec<f64>], documents: &[usize], experts: usize) -> Vec<f64> {
    let mut sum = vec![0.0; experts];
    for document in documents {
        sum.iter_mut().zip(&masses[*document]).for_each(|(sum, mass)| *sum += mass);
    }
    sum
}

/// Least number of experts that hold [`MASS`] of the weight.
pub(crate) fn committee_size(mass: &[f64]) -> usize {
    let mut sorted = mass.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    // A share that is reached but for rounding is reached.
    let wanted = MASS * sorted.iter().sum::<f64>() * (1.0 - 1e-9);
    let mut held = 0.0;
    let short = |mass: &&f64| {
        held += **mass;
        held < wanted
    };
    sorted.iter().take_while(short).count() + 1
}

/// Experts in the set of a domain: twice as many as a token chooses, at most half of the layer.
pub(crate) fn set_size(per_token: usize, experts: usize) -> usize {
    (2 * per_token).min(experts / 2).max(1)
}

/// Both overlaps beside the same draws of exchanged documents.
fn between_domains(
    masses: &[Vec<f64>],
    documents: &Documents,
    per_token: usize,
    permutations: Permutations,
) -> DomainOverlap {
    let experts = masses[0].len();
    let set = set_size(per_token, experts);
    let observed = overlaps(masses, &documents.domain, documents.domains, set);
    let scratch = || documents.domain.clone();
    let draws = permutations.draw(scratch, |domain, rng| {
        domain.copy_from_slice(&documents.domain);
        domain.shuffle(rng);
        overlaps(masses, domain, documents.domains, set)
    });
    let [sets, weight] = [0, 1].map(|which| {
        let draws: Vec<f64> = draws.iter().map(|draw| draw[which]).collect();
        NullComparison::new(observed[which], &draws, Tail::Less)
    });
    DomainOverlap { set, sets, weight, chance: chance(experts, set) }
}

/// Means over pairs of domains of the Jaccard indices of the sets of experts with most weight, and of the shares of weight.
fn overlaps(masses: &[Vec<f64>], domain: &[usize], domains: usize, set: usize) -> [f64; 2] {
    let of_domain = |wanted: usize| {
        let documents: Vec<usize> = (0..domain.len()).filter(|d| domain[*d] == wanted).collect();
        total(masses, &documents, masses[0].len())
    };
    let found: Vec<Vec<f64>> = (0..domains).map(of_domain).collect();
    let (mut sum, mut pairs) = ([0.0; 2], 0.0);
    for (at, first) in found.iter().enumerate() {
        for second in &found[at + 1..] {
            let both = overlap(first, second, set);
            sum.iter_mut().zip(both).for_each(|(sum, one)| *sum += one);
            pairs += 1.0;
        }
    }
    sum.map(|sum| sum / pairs)
}

/// Jaccard indices of the sets of experts with most weight, and of the shares of weight, of two lists of weight by expert.
pub(crate) fn overlap(first: &[f64], second: &[f64], set: usize) -> [f64; 2] {
    let (own, other) = (most_used(first, set), most_used(second, set));
    let both = own.iter().zip(&other).filter(|(a, b)| **a && **b).count();
    let sums = [first, second].map(|mass| mass.iter().sum::<f64>());
    let common: f64 = first.iter().zip(second).map(|(a, b)| (a / sums[0]).min(b / sums[1])).sum();
    [both as f64 / (2 * set - both) as f64, common / (2.0 - common)] // the shares of each sum to 1
}

/// Which experts have most weight; of equals, those with the lower number.
fn most_used(mass: &[f64], set: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..mass.len()).collect();
    order.sort_by(|a, b| mass[*b].total_cmp(&mass[*a]));
    let mut chosen = vec![false; mass.len()];
    order[..set].iter().for_each(|expert| chosen[*expert] = true);
    chosen
}

/// Mean Jaccard index of two sets of a size drawn at random: the number in common is hypergeometric.
pub(crate) fn chance(experts: usize, set: usize) -> f64 {
    let ln_choose = |n: usize, k: usize| (0..k).map(|i| ((n - i) as f64 / (i + 1) as f64).ln()).sum::<f64>();
    let all = ln_choose(experts, set);
    let least = (2 * set).saturating_sub(experts);
    let term = |both: usize| {
        let share = (ln_choose(set, both) + ln_choose(experts - set, set - both) - all).exp();
        share * both as f64 / (2 * set - both) as f64
    };
    (least..=set).map(term).sum()
}

/// One table of sizes by layer, and where there are two domains or more, one of overlaps.
///
/// # Errors
/// If the columns make no table.
pub fn tables(layers: &[LayerCommittee]) -> Result<Vec<Table>, AnalysisError> {
    let key = |layer: &LayerCommittee| layer.layer as i64;
    let real = |pick: fn(&LayerCommittee) -> f64| layers.iter().map(pick).collect::<Vec<f64>>();
    let sizes: Vec<Bootstrap> = layers.iter().map(|layer| layer.size).collect();
    let mut columns = vec![
        Column::integer_key("layer", "", "block", layers.iter().map(key).collect()),
        Column::count(
            "experts",
            "experts",
            "experts of the layer",
            layers.iter().map(|l| l.experts as i64).collect(),
        ),
    ];
    columns.extend(bootstrap_columns(
        "size",
        "experts",
        "least number of experts that hold 70 % of the routed weight",
        &sizes,
    ));
    columns.push(Column::null("size", "experts", "the same of an even load", real(|l| l.even_size as f64)));
    columns.push(Column::estimate(
        "gini",
        "ratio",
        "Gini coefficient of the routed weight; an even load has 0",
        real(|l| l.gini),
    ));
    let method =
        "Routed weight is the sum of the weights as applied. Does not show that the committee is needed.";
    let title = "How few experts hold most of the routed weight";
    let mut tables = vec![Table::new("committee", title, method, columns)?];
    let between: Vec<(i64, DomainOverlap)> =
        layers.iter().filter_map(|layer| Some((key(layer), layer.domains?))).collect();
    if !between.is_empty() {
        tables.push(domain_table(&between)?);
    }
    Ok(tables)
}

fn domain_table(rows: &[(i64, DomainOverlap)]) -> Result<Table, AnalysisError> {
    let of =
        |pick: fn(&DomainOverlap) -> NullComparison| rows.iter().map(|row| pick(&row.1)).collect::<Vec<_>>();
    let mut columns = vec![
        Column::integer_key("layer", "", "block", rows.iter().map(|row| row.0).collect()),
        Column::count(
            "set",
            "experts",
            "most used experts of a domain",
            rows.iter().map(|row| row.1.set as i64).collect(),
        ),
    ];
    let (unit, null) = ("Jaccard index", "whole documents exchanged between domains");
    let meaning = "mean over pairs of domains of what their shares of weight have in common";
    columns.extend(comparison_columns("weight", unit, meaning, null, &of(|domains| domains.weight)));
    let meaning = "mean over pairs of domains of what their sets of most used experts have in common";
    columns.extend(comparison_columns("sets", unit, meaning, null, &of(|domains| domains.sets)));
    let chance = rows.iter().map(|row| row.1.chance).collect();
    columns.push(Column::estimate("chance", "Jaccard index", "`sets` of sets drawn at random", chance));
    let method = "The set of a domain holds twice as many experts as a token chooses, at most half of the layer. A small `weight_p` says \
                  that domains have sets of their own. Does not show that an expert does the same for every domain.";
    Ok(Table::new("committee_domains", "Whether the domains use the same experts most", method, columns)?)
}

/// The instrument `committee`.
pub struct Committee;

const OWN_EXPERTS: Reading = Reading {
    says: "domains have experts of their own",
    table: "committee_domains",
    rows: &[],
    value: "weight",
    rule: Rule::Significant,
};
const FEW: Reading = Reading {
    says: "few experts hold most of the weight",
    table: "committee",
    rows: &[],
    value: "size",
    rule: Rule::Below(1.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::DomainRoutes, OWN_EXPERTS),
    Promise::is_silent(Property::TokenRoutes, OWN_EXPERTS),
    Promise::is_silent(Property::RandomRoutes, OWN_EXPERTS),
    Promise::finds(Property::UnevenLoad, FEW),
    Promise::is_silent(Property::RandomRoutes, FEW),
];

impl Instrument for Committee {
    fn about(&self) -> About {
        About {
            name: "committee",
            group: Group::Routing,
            question: "Do a few experts carry most of the routed weight, and are they the same for every domain?",
            null: "an even load; and whole documents exchanged between domains, loads kept",
            does_not_show: "that the committee is needed, nor that its experts do the same for every domain",
            source: "standing committees, arXiv 2601.03425; Gini coefficient and Jaccard index",
            passes: "one for each batch",
            routed: true,
            gives: gives::GIVES,
            promises: PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::Whole
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (permutations, resampling) =
            (material.permutations("committee"), material.resampling("committee"));
        let layers = committee(material.routes()?, permutations, resampling)?;
        let tables = tables(&layers)?;
        let bars = |table: &str, y: &str, title: String, caption: &str| Figure {
            id: table.into(),
            title,
            caption: caption.into(),
            table: table.into(),
            kind: FigureKind::Bars { x: "layer".into(), y: y.into(), series: None },
        };
        let caption = "Experts that hold 70 % of the routed weight, with 95 % intervals over documents, beside an even load.";
        let mut figures = vec![bars("committee", "size", size_in_words(&layers), caption)];
        let between: Vec<DomainOverlap> = layers.iter().filter_map(|layer| layer.domains).collect();
        if !between.is_empty() {
            let caption = "What the shares of weight of two domains have in common, beside documents exchanged between them.";
            figures.push(bars("committee_domains", "weight", overlap_in_words(&between), caption));
        }
        Ok(Finding { tables, figures })
    }
}

fn mean<T>(of: &[T], pick: impl Fn(&T) -> f64) -> f64 {
    of.iter().map(pick).sum::<f64>() / of.len().max(1) as f64
}

fn size_in_words(layers: &[LayerCommittee]) -> String {
    format!(
        "70 % of the routed weight lies on {:.1} of {:.0} experts in the mean of the layers; of an even load it would lie on {:.1}",
        mean(layers, |layer| layer.size.estimate),
        mean(layers, |layer| layer.experts as f64),
        mean(layers, |layer| layer.even_size as f64)
    )
}

fn overlap_in_words(between: &[DomainOverlap]) -> String {
    format!(
        "The weight of two domains overlaps by {:.2}, with documents exchanged by {:.2}; their most used experts by {:.2}, sets at random by {:.2}",
        mean(between, |domains| domains.weight.observed),
        mean(between, |domains| domains.weight.null_mean),
        mean(between, |domains| domains.sets.observed),
        mean(between, |domains| domains.chance)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use crate::statistics::BootstrapMethod;
    use moescope_base::Seed;
    use proptest::prelude::*;

    const RESAMPLING: Resampling =
        Resampling { replicates: 50, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(3) };

    fn run(trace: &RoutingTrace, draws: usize, seed: u64) -> LayerCommittee {
        committee(trace, Permutations::new(draws, Seed(seed)), RESAMPLING).unwrap().remove(0)
    }

    /// Twenty documents of two domains; expert `e` of 16 is drawn in proportion to `weight(domain, e)`, two for each token.
    fn drawn(weight: impl Fn(u32, u32) -> f64, seed: u64) -> RoutingTrace {
        let mut rng = Seed(seed).child("planted").rng();
        let text = planted::text(20, 30, 10, &mut rng);
        let mut set = |domain: u32| planted::random_sets(1, 16, 2, |expert| weight(domain, expert), &mut rng);
        let choices = text.domains.iter().flat_map(|domain| set(u32::from(*domain))).collect();
        planted::trace(text, 16, 2, vec![choices])
    }

    #[test]
    fn a_hand_worked_layer() {
        // Weights 4, 3, 2 and 1 of four experts: the first two hold 7 of 10. Gini: (−3·1 − 1·2 + 1·3 + 3·4) / (4 · 10).
        assert_eq!(committee_size(&[1.0, 4.0, 2.0, 3.0]), 2);
        assert_eq!(committee_size(&[1.0, 4.0, 2.0, 2.9]), 3);
        assert!((gini(&[1.0, 4.0, 2.0, 3.0]) - 0.25).abs() < 1e-12);
        // Domain 0 uses experts 0 and 1 most, domain 1 experts 1 and 2: one in common of three.
        let masses = [vec![3.0, 2.0, 0.0, 1.0], vec![0.0, 2.0, 2.5, 1.0]];
        let [sets, weight] = overlaps(&masses, &[0, 1], 2, 2);
        assert!((sets - 1.0 / 3.0).abs() < 1e-12);
        // Shares 3/6, 2/6, 0, 1/6 and 0, 4/11, 5/11, 2/11: 1/3 + 1/6 in common.
        assert!((weight - 0.5 / 1.5).abs() < 1e-12);
        // Two of four at random: none, one or two in common in 1, 4 and 1 of 6 cases.
        assert!((chance(4, 2) - (4.0 / 3.0 + 1.0) / 6.0).abs() < 1e-12);
    }

    #[test]
    fn a_committee_that_stands_is_found_and_does_not_differ_between_domains() {
        let found = run(&drawn(|_, e| if e < 3 { 60.0 } else { 1.0 }, 1), 99, 1);
        assert!(found.size.high <= 3.0 && found.even_size == 12 && found.gini > 0.6, "{found:?}");
        let domains = found.domains.unwrap();
        assert_eq!(domains.set, 4);
        assert!(domains.weight.p_value > 0.05 && domains.sets.observed > 1.2 * domains.chance);
    }

    #[test]
    fn committees_of_domains_are_found() {
        let found = run(&drawn(|domain, e| if e / 4 == domain { 60.0 } else { 1.0 }, 2), 99, 1);
        let domains = found.domains.unwrap();
        assert_eq!(domains.sets.observed, 0.0);
        assert!(domains.weight.p_value <= 0.02 && domains.weight.observed < 0.1, "{domains:?}");
        assert!(domains.weight.null_mean > 0.4);
    }

    #[test]
    fn routes_that_do_not_know_the_domain_are_called_different_at_the_stated_rate() {
        let found = planted::rejection_rate(200, |seed| {
            let trace = drawn(|_, e| 1.0 / f64::from(e + 1), seed);
            run(&trace, 39, seed).domains.unwrap().weight.p_value
        });
        // Of 200 tests at 5 %, 20 and more reject in less than 1 of 300 cases.
        assert!(found < 0.1, "{found}");
    }

    #[test]
    fn one_domain_has_no_overlap_and_one_document_is_refused() {
        let text = |documents: Vec<u32>| planted::tokens(vec![1; 4], vec![0; 4], documents);
        let of = |documents| planted::trace(text(documents), 3, 1, vec![vec![0, 1, 2, 2]]);
        let found = run(&of(vec![0, 0, 1, 1]), 9, 1);
        assert!(found.domains.is_none() && tables(&[found]).unwrap().len() == 1);
        let refused = committee(&of(vec![0; 4]), Permutations::new(9, Seed(1)), RESAMPLING);
        assert!(matches!(refused, Err(AnalysisError::TooFew { .. })));
    }

    proptest! {
        #[test]
        fn names_of_experts_and_order_of_tokens_do_not_matter(seed in any::<u64>()) {
            // Loads are far apart, so that no two experts of a domain tie where a set ends.
            let trace = drawn(|domain, e| 0.5f64.powi((e as i32 + 5 * domain as i32) % 16), 4);
            let own = run(&trace, 9, 1);
            for other in [run(&planted::renamed(&trace, seed), 9, 1), run(&planted::reordered(&trace, seed), 9, 1)] {
                prop_assert_eq!(own.size, other.size);
                prop_assert!((own.gini - other.gini).abs() < 1e-9);
                let overlap = |found: &LayerCommittee| found.domains.unwrap().sets.observed;
                prop_assert_eq!(overlap(&own), overlap(&other));
            }
        }
    }
}
