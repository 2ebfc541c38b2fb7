//! Which experts the domains prefer in one layer, with intervals over documents.
//!
//! A lift of 1 bit means twice as often as the average of all tokens, -1 bit half as often, 0 no preference.
//! Logarithms make the two directions comparable, and half a token is added to what was counted and to what
//! was expected, so that an expert that a domain never chose has a finite lift, and so that rare choices are
//! drawn towards 0 rather than away from it.
//!
//! A small example: of four tokens, two of each of two domains, those of the first choose the experts 0 and
//! 0, those of the second 0 and 1. Expert 0 has 3/4 of all tokens. The first domain should have 1.5 of its
//! tokens there and has 2: log2(2.5 / 2.0), about 0.32 bits. It should have 0.5 at expert 1 and has none:
//! log2(0.5 / 1.0), -1 bit.
//!
//! The average contains the domain itself. Of two domains with as many tokens each, none can prefer an expert
//! by a full bit: whoever has all of an expert's tokens has twice the expected number. A domain that makes up
//! most of the text is close to the average for the same reason, whatever its experts do.

use moescope_base::{Column, Figure, FigureKind, Table};
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};
use rand::RngExt;

use crate::routing::nearest_rank;
use crate::statistics::Resampling;
use crate::{AnalysisError, check};
use rayon::prelude::*;

/// Experts that are drawn: more columns cannot be told apart.
const DRAWN: usize = 48;

/// How much more often than average the tokens of each domain choose each expert of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainLift {
    /// Block.
    pub layer: usize,
    /// Names of the domains that have tokens.
    pub domains: Vec<String>,
    /// Documents of each: the units that are resampled.
    pub documents: Vec<usize>,
    /// Experts, those that a domain prefers side by side; the most used ones of a layer that has very many.
    pub experts: Vec<usize>,
    /// log2 of the domain's tokens that chose the expert over those expected from all tokens, each with half a token added, bits:
    /// `lift[domain, place]`. 0 without preference.
    pub lift: Vec<f64>,
    /// Percentile interval over documents, drawn within each domain; NaN for a domain of one document: `[low, high]`.
    pub intervals: Vec<[f64; 2]>,
    /// Coverage of each interval.
    pub level: f64,
}

/// The documents of a domain with the choices of their tokens.
struct Documents {
    /// Tokens of each document.
    tokens: Vec<f64>,
    /// Choices of each document's tokens: `counts[document, expert]`.
    counts: Vec<Vec<u32>>,
}

/// Preferences of the domains in one layer of a trace.
///
/// - **Null:** 0 bits: all domains choose alike.
/// - **Does not show:** topic apart from vocabulary. Intervals are read one by one: of many that are 95 % wide, one in twenty leaves 0 out.
/// - **Source:** domain specialisation of Muennighoff et al. 2024 (OLMoE) over its mean, with a bootstrap over documents.
///
/// # Errors
/// With fewer than two domains that have tokens, a layer that is not there, or fewer than two replicates.
pub fn domain_lift(
    trace: &RoutingTrace,
    layer: usize,
    resampling: Resampling,
) -> Result<DomainLift, AnalysisError> {
    let method = "domain lift";
    check::at_least(method, "replicates", resampling.replicates, 2)?;
    let tokens = trace.tokens();
    let routing = trace.layers().iter().find(|routing| routing.layer == layer);
    let routing =
        routing.ok_or(AnalysisError::TooFew { method, unit: "routes of the layer", found: 0, wanted: 1 })?;
    let mut domains: Vec<(String, Documents)> = (0..tokens.domain_names.len())
        .map(|domain| (tokens.domain_names[domain].clone(), documents_of(tokens, routing, domain)))
        .collect();
    domains.retain(|(_, documents)| !documents.tokens.is_empty());
    check::at_least(method, "domains", domains.len(), 2)?;
    let all: Vec<Vec<usize>> = domains.iter().map(|(_, d)| (0..d.tokens.len()).collect()).collect();
    let estimate = lifts(&domains, &all, routing.experts);
    let experts = ordered(&domains, &estimate, routing.experts);
    let replicates: Vec<Vec<f64>> = (0..resampling.replicates)
        .into_par_iter()
        .map(|index| {
            let mut rng = resampling.seed.index(index as u64).rng();
            let drawn: Vec<Vec<usize>> =
                all.iter().map(|all| all.iter().map(|_| rng.random_range(0..all.len())).collect()).collect();
            lifts(&domains, &drawn, routing.experts)
        })
        .collect();
    let cells = || (0..domains.len()).flat_map(|domain| experts.iter().map(move |expert| (domain, *expert)));
    let interval = |(domain, expert): (usize, usize)| {
        if all[domain].len() < 2 {
            return [f64::NAN; 2];
        }
        let mut drawn: Vec<f64> =
            replicates.iter().map(|lift| lift[domain * routing.experts + expert]).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        [(1.0 - resampling.level) / 2.0, (1.0 + resampling.level) / 2.0]
            .map(|level| nearest_rank(&drawn, level))
    };
    Ok(DomainLift {
        layer,
        documents: all.iter().map(Vec::len).collect(),
        lift: cells().map(|(domain, expert)| estimate[domain * routing.experts + expert]).collect(),
        intervals: cells().map(interval).collect(),
        domains: domains.iter().map(|(name, _)| name.clone()).collect(),
        experts,
        level: resampling.level,
    })
}

/// Counts of the documents of one domain.
///
/// Documents stand in the order in which the text has them. They are the units of the bootstrap, because the
/// tokens of one document share its topic and its words: single tokens taken for independent would make
/// intervals that are far too narrow.
fn documents_of(tokens: &TokenTable, routing: &LayerRouting, domain: usize) -> Documents {
    let mut places = std::collections::BTreeMap::new();
    let mut found = Documents { tokens: Vec::new(), counts: Vec::new() };
    for (token, chosen) in routing.choices.chunks_exact(routing.per_token).enumerate() {
        if usize::from(tokens.domains[token]) != domain {
            continue;
        }
        let place = *places.entry(tokens.documents[token]).or_insert_with(|| {
            found.tokens.push(0.0);
            found.counts.push(vec![0; routing.experts]);
            found.tokens.len() - 1
        });
        found.tokens[place] += 1.0;
        chosen.iter().for_each(|expert| found.counts[place][*expert as usize] += 1);
    }
    found
}

/// Lifts of the drawn documents: `[domain, expert]`.
///
/// `drawn[domain]` lists the documents that count, each as often as it is listed. The share of an expert is
/// that of the tokens that choose it, so that shares add up to the number of experts for each token. Each
/// replicate has an average of its own, from the documents drawn for it.
fn lifts(domains: &[(String, Documents)], drawn: &[Vec<usize>], experts: usize) -> Vec<f64> {
    let mut counts = vec![0.0; domains.len() * experts];
    let mut tokens = vec![0.0; domains.len()];
    for (domain, ((_, documents), drawn)) in domains.iter().zip(drawn).enumerate() {
        let row = &mut counts[domain * experts..(domain + 1) * experts];
        for &document in drawn {
            tokens[domain] += documents.tokens[document];
            row.iter_mut()
                .zip(&documents.counts[document])
                .for_each(|(sum, count)| *sum += f64::from(*count));
        }
    }
    let all: f64 = tokens.iter().sum();
    let share = |expert: usize| counts.iter().skip(expert).step_by(experts).sum::<f64>() / all;
    let shares: Vec<f64> = (0..experts).map(share).collect();
    let lift = |(cell, count): (usize, &f64)| {
        ((count + 0.5) / (tokens[cell / experts] * shares[cell % experts] + 0.5)).log2()
    };
    counts.iter().enumerate().map(lift).collect()
}

/// The most used experts, by the domain that prefers them most, then by how much.
///
/// Of domains that prefer an expert equally the first one counts. Only the most used experts remain where
/// there are more than can be drawn: a lift of an expert with few tokens is mostly noise, and would stand out
/// for its size.
fn ordered(domains: &[(String, Documents)], lift: &[f64], experts: usize) -> Vec<usize> {
    let used = |expert: usize| -> u64 {
        domains.iter().flat_map(|(_, d)| &d.counts).map(|counts| u64::from(counts[expert])).sum()
    };
    let mut kept: Vec<usize> = (0..experts).filter(|expert| used(*expert) > 0).collect();
    kept.sort_by_key(|expert| std::cmp::Reverse(used(*expert)));
    kept.truncate(DRAWN);
    let of = |domain: usize, expert: usize| lift[domain * experts + expert];
    let preferred = |expert: usize| {
        (0..domains.len())
            .max_by(|a, b| of(*a, expert).total_cmp(&of(*b, expert)).then(b.cmp(a)))
            .unwrap_or(0)
    };
    kept.sort_by(|a, b| {
        let (first, second) = (preferred(*a), preferred(*b));
        first.cmp(&second).then(of(second, *b).total_cmp(&of(first, *a))).then(a.cmp(b))
    });
    kept
}

impl DomainLift {
    /// Pairs of a domain and an expert whose interval leaves 0 out.
    ///
    /// A count of single intervals without a correction for their number: at a level of 0.95, about one in
    /// twenty pairs is among them where all domains choose alike. Pairs of a domain of one document have no
    /// interval and never count.
    pub fn apart(&self) -> usize {
        self.intervals.iter().filter(|[low, high]| *low > 0.0 || *high < 0.0).count()
    }

    /// One row for each domain and expert.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let count = self.experts.len();
        let domain = |cell: usize| self.domains[cell / count].clone();
        let cells = 0..self.lift.len();
        let percent = format!("{:.0} % over documents", 100.0 * self.level);
        let end = |end: usize| self.intervals.iter().map(|interval| interval[end]).collect();
        let [low, high] = Column::interval("lift", "bits", &percent, end(0), end(1));
        let columns = vec![
            Column::key("domain", "of the text", cells.clone().map(domain).collect()),
            Column::integer_key(
                "expert",
                "",
                "those that a domain prefers side by side",
                cells.clone().map(|cell| self.experts[cell % count] as i64).collect(),
            ),
            Column::estimate(
                "lift",
                "bits",
                "log2 of the domain's tokens that chose the expert over those expected from all tokens",
                self.lift.clone(),
            ),
            low,
            high,
            Column::null("lift", "bits", "all domains choose alike", vec![0.0; self.lift.len()]),
            Column::observations(
                "lift",
                "documents",
                cells.map(|cell| self.documents[cell / count] as i64).collect(),
            ),
        ];
        let method = "Documents are drawn anew within each domain; half a token is added to each count and to what is expected. The layer is the \
                      one whose experts tell most of the domain.";
        let title = format!("Which experts the domains prefer in layer {}", self.layer);
        Ok(Table::new("specialisation_lift", &title, method, columns)?)
    }

    /// The heat map.
    pub fn figure(&self) -> Figure {
        let count = self.experts.len();
        let cells = self.lift.len();
        let by_chance = ((1.0 - self.level) * cells as f64).round();
        let most = (0..cells).max_by(|a, b| self.lift[*a].total_cmp(&self.lift[*b])).unwrap_or(0);
        let most = format!(
            "{} takes expert {} most, {:.1} times as often as the average",
            self.domains[most / count],
            self.experts[most % count],
            self.lift[most].exp2(),
        );
        let known = self.intervals.iter().any(|[low, _]| low.is_finite());
        let title = match known {
            true => format!(
                "In layer {}, {} of {cells} pairs of a domain and an expert differ from the average (about {by_chance:.0} would by chance); {most}",
                self.layer,
                self.apart()
            ),
            false => format!(
                "In layer {}, {most}; with one document for each domain, how sure that is cannot be told",
                self.layer
            ),
        };
        let caption = "log2 of how often the tokens of a domain choose an expert over how often all tokens do; 0 is no preference. Point at a \
                       cell for its interval over documents."
            .to_owned();
        let kind = FigureKind::Heatmap {
            x: "expert".into(),
            y: "domain".into(),
            value: "lift".into(),
            center: Some(0.0),
        };
        Figure { id: "domain_lift".into(), title, caption, table: "specialisation_lift".into(), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use crate::statistics::BootstrapMethod;
    use moescope_base::Seed;

    fn resampling(replicates: usize) -> Resampling {
        Resampling { replicates, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(4) }
    }

    #[test]
    fn a_hand_worked_layer() {
        let tokens = planted::tokens(vec![0; 4], vec![0, 0, 1, 1], vec![0, 1, 2, 3]);
        let trace = planted::trace(tokens, 2, 1, vec![vec![0, 0, 0, 1]]);
        let found = domain_lift(&trace, 0, resampling(50)).unwrap();
        let at = |domain: usize, expert: usize| {
            found.lift[domain * 2 + found.experts.iter().position(|e| *e == expert).unwrap()]
        };
        // Shares 3/4 and 1/4: 2 against 1.5, 0 against 0.5, 1 against 1.5, 1 against 0.5.
        let wanted = [2.5f64 / 2.0, 0.5 / 1.0, 1.5 / 2.0, 1.5 / 1.0].map(f64::log2);
        assert_eq!([at(0, 0), at(0, 1), at(1, 0), at(1, 1)], wanted);
        assert_eq!((found.experts.clone(), found.documents.clone()), (vec![0, 1], vec![2, 2]));
        assert_eq!(found.table().unwrap().rows(), 4);
    }

    #[test]
    fn a_planted_preference_leaves_nothing_out_and_random_routes_seldom_do() {
        let mut rng = Seed(5).rng();
        let text = planted::text(40, 50, 5, &mut rng);
        let planted: Vec<u32> = text.domains.iter().map(|domain| u32::from(*domain)).collect();
        let noise = planted::random_sets(2_000, 4, 1, |e| f64::from(1 + e), &mut rng);
        let trace = planted::trace(text, 4, 1, vec![planted, noise]);
        let found = domain_lift(&trace, 0, resampling(400)).unwrap();
        assert_eq!((found.apart(), found.experts.len()), (4, 2));
        let random = domain_lift(&trace, 1, resampling(400)).unwrap();
        assert!(random.apart() <= 2, "{:?}", random.intervals);
        assert!(found.figure().title.contains("4 of 4 pairs") && found.figure().title.contains("2.0 times"));
    }

    /// Intervals over documents, within the stated rate over many seeds.
    #[test]
    fn random_routes_leave_zero_out_about_as_often_as_the_level_says() {
        let (mut apart, mut cells) = (0, 0);
        for seed in 0..200 {
            let mut rng = Seed(seed).rng();
            let text = planted::text(40, 20, 5, &mut rng);
            let trace = planted::trace(text, 2, 1, vec![planted::random_sets(800, 2, 1, |_| 1.0, &mut rng)]);
            let found = domain_lift(&trace, 0, resampling(200)).unwrap();
            // One of the four cells: the others follow from it.
            let [low, high] = found.intervals[0];
            apart += usize::from(low > 0.0 || high < 0.0);
            cells += 1;
        }
        // A percentile interval over twenty documents is a little narrow; 0.05 of 200 with that allowance stays below 24.
        assert!((2..24).contains(&apart), "{apart} of {cells}");
    }

    #[test]
    fn one_document_has_no_interval_and_one_domain_no_lift() {
        let tokens = planted::tokens(vec![0; 3], vec![0, 0, 1], vec![0, 1, 2]);
        let trace = planted::trace(tokens, 2, 1, vec![vec![0, 1, 1]]);
        let found = domain_lift(&trace, 0, resampling(20)).unwrap();
        assert!(found.intervals[2..].iter().flatten().all(|end| end.is_nan()));
        let tokens = planted::tokens(vec![0; 2], vec![0, 1], vec![0, 1]);
        let lone = domain_lift(&planted::trace(tokens, 2, 1, vec![vec![0, 1]]), 0, resampling(20)).unwrap();
        assert!(lone.figure().title.ends_with("cannot be told"), "{}", lone.figure().title);
        let tokens = planted::tokens(vec![0; 3], vec![0; 3], vec![0, 1, 2]);
        let trace = planted::trace(tokens, 2, 1, vec![vec![0, 1, 1]]);
        assert!(domain_lift(&trace, 0, resampling(20)).is_err());
    }

    #[test]
    fn names_of_experts_are_immaterial() {
        let mut rng = Seed(6).rng();
        let text = planted::text(6, 30, 5, &mut rng);
        let trace = planted::trace(text, 5, 2, vec![planted::random_sets(180, 5, 2, |_| 1.0, &mut rng)]);
        let told = |trace: &RoutingTrace| {
            let mut lifts = domain_lift(trace, 0, resampling(20)).unwrap().lift;
            lifts.sort_by(f64::total_cmp);
            lifts
        };
        assert_eq!(told(&trace), told(&planted::renamed(&trace, 1)));
    }
}
