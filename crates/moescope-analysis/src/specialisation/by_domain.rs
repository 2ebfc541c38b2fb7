use moescope_base::{Column, Table};
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};

use crate::counting::Contingency;
use crate::{AnalysisError, check};

/// How often the tokens of each domain go to each expert of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerDomainLoad {
    /// Block.
    pub layer: usize,
    /// Share of the domain's tokens that chose the expert, from 0 to 1; NaN for a domain without tokens:
    /// `shares[domain, expert]`. Each row sums to the experts that a token chooses.
    pub shares: Vec<f64>,
    /// The same share over all tokens: `overall[expert]`.
    pub overall: Vec<f64>,
}

/// Domain specialisation of single experts: which expert a domain prefers.
///
/// - **Null:** the expert's share over all tokens. A deviation from it has no test of its own here; whether a layer
///   knows the domain at all is tested by [`domain_specialisation`](super::domain_specialisation).
/// - **Does not show:** topic apart from vocabulary; see [`domain_given_token`](super::domain_given_token).
/// - **Source:** domain specialisation of OLMoE (Muennighoff et al. 2024), with the load in place of `k / n` as null.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainLoadReport {
    /// Names of the domains.
    pub domains: Vec<String>,
    /// Tokens of each domain.
    pub tokens: Vec<u32>,
    /// Documents of each domain: the independent units.
    pub documents: Vec<u32>,
    /// In the order of the trace.
    pub layers: Vec<LayerDomainLoad>,
}

/// Share of each domain's tokens that chose each expert.
///
/// # Errors
/// If the trace has no token.
pub fn domain_load(trace: &RoutingTrace) -> Result<DomainLoadReport, AnalysisError> {
    let table = trace.tokens();
    check::at_least("domain load", "tokens", table.len(), 1)?;
    let mut tokens = vec![0u32; table.domain_names.len()];
    table.domains.iter().for_each(|d| tokens[*d as usize] += 1);
    Ok(DomainLoadReport {
        layers: trace.layers().iter().map(|l| of_layer(l, &table.domains, &tokens)).collect(),
        domains: table.domain_names.clone(),
        documents: documents(table),
        tokens,
    })
}

/// Distinct documents of each domain.
fn documents(table: &TokenTable) -> Vec<u32> {
    let mut pairs: Vec<(u16, u32)> =
        table.domains.iter().copied().zip(table.documents.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut documents = vec![0; table.domain_names.len()];
    pairs.iter().for_each(|(domain, _)| documents[*domain as usize] += 1);
    documents
}

fn of_layer(routing: &LayerRouting, domains: &[u16], tokens: &[u32]) -> LayerDomainLoad {
    let mut counts = Contingency::new(routing.experts);
    counts.add(domains.iter().map(|domain| u32::from(*domain)), &routing.choices, routing.per_token);
    LayerDomainLoad::of_counts(routing.layer, &counts, tokens)
}

impl LayerDomainLoad {
    /// The shares of a layer from slots by domain and expert, and the tokens of each domain.
    pub(crate) fn of_counts(layer: usize, counts: &Contingency, tokens: &[u32]) -> LayerDomainLoad {
        let experts = counts.codes();
        let cells = (0..tokens.len()).flat_map(|domain| (0..experts).map(move |expert| (domain, expert)));
        let share = |(domain, expert)| f64::from(counts.count(domain, expert)) / f64::from(tokens[domain]);
        let slots =
            |expert| (0..tokens.len()).map(|domain| u64::from(counts.count(domain, expert))).sum::<u64>();
        let all: u64 = tokens.iter().map(|tokens| u64::from(*tokens)).sum();
        LayerDomainLoad {
            layer,
            shares: cells.map(share).collect(),
            overall: (0..experts).map(|expert| slots(expert) as f64 / all as f64).collect(),
        }
    }
}

impl DomainLoadReport {
    /// One row for each layer, domain and expert.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let rows: Vec<(&LayerDomainLoad, usize, usize)> = self
            .layers
            .iter()
            .flat_map(|l| {
                let experts = l.overall.len();
                (0..l.shares.len()).map(move |cell| (l, cell / experts, cell % experts))
            })
            .collect();
        let share = |(l, domain, expert): &(&LayerDomainLoad, usize, usize)| {
            l.shares[domain * l.overall.len() + expert]
        };
        let lift = rows.iter().map(|row| (share(row) / row.0.overall[row.2]).log2()).collect();
        let columns = vec![
            Column::integer_key("layer", "", "block", rows.iter().map(|(l, ..)| l.layer as i64).collect()),
            Column::key("domain", "domain", rows.iter().map(|(_, d, _)| self.domains[*d].clone()).collect()),
            Column::integer_key("expert", "", "expert", rows.iter().map(|(.., e)| *e as i64).collect()),
            Column::estimate(
                "chosen",
                "share of tokens",
                "tokens of the domain that chose the expert",
                rows.iter().map(share).collect(),
            ),
            Column::null(
                "chosen",
                "share of tokens",
                "tokens of all domains that chose the expert",
                rows.iter().map(|(l, _, e)| l.overall[*e]).collect(),
            ),
            Column::observations(
                "chosen",
                "documents",
                rows.iter().map(|(_, d, _)| i64::from(self.documents[*d])).collect(),
            ),
            Column::estimate("lift", "bits", "log2 of the share over its null; 0 without preference", lift),
        ];
        let method = "Tokens counted by domain and expert, each layer by itself. Tests are in `specialisation`. Does \
                      not show topic apart from vocabulary.";
        Ok(Table::new("specialisation_by_domain", "Which experts a domain prefers", method, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;

    #[test]
    fn a_hand_worked_layer() {
        let tokens = planted::tokens(vec![0; 4], vec![0, 0, 0, 1], vec![0, 0, 1, 2]);
        let report = domain_load(&planted::trace(tokens, 3, 1, vec![vec![0, 0, 1, 2]])).unwrap();
        let layer = &report.layers[0];
        assert_eq!(layer.shares, [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!((&layer.overall[..], &report.documents[..]), (&[0.5, 0.25, 0.25][..], &[2, 1][..]));
        let table = report.table().unwrap();
        assert_eq!((table.rows(), table.column("lift").unwrap().data.number(5)), (6, Some(2.0)));
    }

    #[test]
    fn a_planted_preference_stands_out_and_routing_at_random_has_none() {
        let mut rng = Seed(1).rng();
        let text = planted::text(10, 400, 5, &mut rng);
        let noise = planted::random_sets(4_000, 4, 2, |e| f64::from(1 + e), &mut rng);
        let planted: Vec<u32> = text.domains.iter().flat_map(|d| [u32::from(*d), 2]).collect();
        let report = domain_load(&planted::trace(text, 4, 2, vec![planted, noise])).unwrap();
        assert_eq!((report.layers[0].shares[0], report.layers[0].shares[1]), (1.0, 0.0));
        let noise = &report.layers[1];
        let gap = |cell: usize| (noise.shares[cell] - noise.overall[cell % 4]).abs();
        assert!((0..8).map(gap).fold(0.0, f64::max) < 0.03);
    }

    proptest! {
        #[test]
        fn the_order_of_tokens_is_immaterial_and_every_row_sums_to_the_set_size(seed in 0u64..500) {
            let mut rng = Seed(seed).rng();
            let text = planted::text(4, 10, 5, &mut rng);
            let trace = planted::trace(text, 6, 3, vec![planted::random_sets(40, 6, 3, |_| 1.0, &mut rng)]);
            let report = domain_load(&trace).unwrap();
            prop_assert_eq!(&report, &domain_load(&planted::reordered(&trace, seed)).unwrap());
            for row in report.layers[0].shares.chunks_exact(6) {
                prop_assert!((row.iter().sum::<f64>() - 3.0).abs() < 1e-12);
            }
        }
    }
}
