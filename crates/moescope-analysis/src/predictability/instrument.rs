//! The instrument `predictability`.

use moescope_base::{Figure, FigureKind};

use super::contexts::{self, ContextAgreement, context_agreement};
use super::{LayerPredictability, Predictor, predictability, table};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Overhears, Promise, Property, Reading, Reads, Rule,
};
use crate::wording::counted;

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

const BY_OCCURRENCE: Reading = Reading {
    says: "a token takes the same route in another document",
    table: "context_agreement",
    rows: &[],
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
    Promise::finds(Property::TokenRoutes, BY_OCCURRENCE),
    Promise::is_silent(Property::PositionRoutes, BY_OCCURRENCE),
    Promise::is_silent(Property::RandomRoutes, BY_OCCURRENCE),
];

impl Instrument for Predictability {
    fn about(&self) -> About {
        About {
            name: "predictability",
            group: Group::Routing,
            question: "How much of a route follows from the token, the bigram or the position alone, how much from the cluster of what the router reads, and does a token take the same route in another context?",
            null: "the layer's most used experts, whatever the token; between contexts, any other token of the second document",
            does_not_show: "that the router looks at the token and not at what goes with it; clusters are of the router's own input",
            source: "the baseline behind context-independent specialisation, Xue et al. 2024 (OpenMoE); geometry of the stream, arXiv 2604.09780",
            passes: "one for each batch, and another of its sequences with any of 2,000 drawn tokens",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::Whole
    }

    fn overhears(&self) -> &'static [Overhears] {
        &[Overhears::InputClusters]
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) = (material.halves(), material.resampling("predictability"));
        material.expect(Overhears::InputClusters);
        let trace = material.routes()?.clone();
        let clusters = material.input_clusters()?.clone();
        let found = predictability(&trace, Some(&clusters), seed, resampling)?;
        let figure = Figure {
            id: "predictability".into(),
            title: finding(&found),
            caption: "Share of a token's experts that are guessed in documents not seen, with 95 % intervals over documents.".into(),
            table: "predictability".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "overlap".into(), series: Some("known".into()) },
        };
        let mut finding = Finding { tables: vec![table(&found)?], figures: vec![figure] };
        let agreement = context_agreement(&trace, seed, resampling)?;
        if !agreement.is_empty() {
            finding.tables.push(contexts::table(&agreement)?);
            finding.figures.push(contexts_figure(&agreement));
        }
        Ok(finding)
    }
}

/// Agreement of the same token between documents, beside that of any two.
fn contexts_figure(found: &[ContextAgreement]) -> Figure {
    let told = found.iter().filter(|row| row.gain.low > 0.0).count();
    let mean = |of: fn(&ContextAgreement) -> f64| {
        crate::statistics::mean(&found.iter().map(of).collect::<Vec<f64>>())
    };
    Figure {
        id: "context_agreement".into(),
        title: format!(
            "In {told} of {} a token's routes in two documents agree beyond those of other tokens there: {:.2} on average, {:.2} with any token of the second document",
            counted(found.len(), "layer", "layers"),
            mean(|row| row.same.estimate),
            mean(|row| row.any)
        ),
        caption: "Jaccard index of the experts of one token in two documents, with 95 % intervals over documents; the null is that with any other token of the second document. \
                  At 1 the context decides nothing."
            .into(),
        table: "context_agreement".into(),
        kind: FigureKind::Lines { x: "layer".into(), y: "same".into(), series: None, log2_x: false },
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
