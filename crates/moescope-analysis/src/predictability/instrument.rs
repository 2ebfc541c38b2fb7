//! The instrument `predictability`.

use moescope_base::{Figure, FigureKind};

use super::{LayerPredictability, Predictor, input_clusters, predictability, table};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};

/// The instrument `predictability`.
pub struct Predictability;

const BY_TOKEN: Reading = Reading {
    says: "the token tells the route",
    table: "predictability",
    rows: &[("known", "token")],
    value: "gain",
    rule: Rule::MoreThan(0.0),
};
const BY_POSITION: Reading = Reading {
    says: "the position tells the route",
    table: "predictability",
    rows: &[("known", "position")],
    value: "gain",
    rule: Rule::MoreThan(0.0),
};

const BY_CLUSTER: Reading = Reading {
    says: "the cluster of the router's input tells the route",
    table: "predictability",
    rows: &[("known", "cluster of the router's input")],
    value: "gain",
    rule: Rule::MoreThan(0.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::TokenRoutes, BY_TOKEN),
    Promise::finds(Property::PositionRoutes, BY_POSITION),
    Promise::is_silent(Property::TokenRoutes, BY_POSITION),
    Promise::is_silent(Property::PositionRoutes, BY_TOKEN),
    Promise::is_silent(Property::RandomRoutes, BY_TOKEN),
    Promise::is_silent(Property::RandomRoutes, BY_POSITION),
    Promise::finds(Property::TokenRoutes, BY_CLUSTER),
    Promise::finds(Property::PositionRoutes, BY_CLUSTER),
    Promise::is_silent(Property::RandomRoutes, BY_CLUSTER),
];

impl Instrument for Predictability {
    fn about(&self) -> About {
        About {
            name: "predictability",
            group: Group::Routing,
            question: "How much of a route follows from the token, the bigram or the position alone, and how much from the cluster of what the router reads?",
            null: "the layer's most used experts, whatever the token",
            does_not_show: "that the router looks at the token and not at what goes with it; clusters are of the router's own input",
            source: "the baseline behind context-independent specialisation, Xue et al. 2024 (OpenMoE); geometry of the stream, arXiv 2604.09780",
            passes: "three for each batch",
            routed: true,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) = (material.seed.child("halves"), material.resampling("predictability"));
        let trace = material.routes()?.clone();
        let clusters = input_clusters(material.subject, &material.batches, &trace, seed)?;
        let found = predictability(&trace, Some(&clusters), seed, resampling)?;
        let figure = Figure {
            id: "predictability".into(),
            title: finding(&found),
            caption: "Share of a token's experts that are guessed in documents not seen, with 95 % intervals over documents.".into(),
            table: "predictability".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "overlap".into(), series: Some("known".into()) },
        };
        Ok(Finding { tables: vec![table(&found)?], figures: vec![figure] })
    }
}

/// What the token tells, in words.
fn finding(found: &[LayerPredictability]) -> String {
    let mean = |predictor| {
        let of: Vec<f64> =
            found.iter().filter(|row| row.predictor == predictor).map(|row| row.overlap.estimate).collect();
        100.0 * of.iter().sum::<f64>() / of.len().max(1) as f64
    };
    let told = format!(
        "The token alone tells {:.0} % of a route, the bigram {:.0} %; knowing the loads tells {:.0} %",
        mean(Predictor::Token),
        mean(Predictor::Bigram),
        mean(Predictor::Load)
    );
    match found.iter().any(|row| row.predictor == Predictor::Cluster) {
        true => format!("{told}, the cluster of what the router reads {:.0} %", mean(Predictor::Cluster)),
        false => told,
    }
}
