//! The instrument `expert-representation`.

use moescope_base::{Figure, FigureKind};

use super::METHOD;
use super::answers::{Asked, layers, routed};
use super::dimensions::{self, of_experts};
use super::likeness::{self, LayerLikeness, of_layer};
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::similarity::Measure;
use crate::{AnalysisError, check};

/// Tokens that experts answer, at most.
const TOKENS: usize = 160;
/// Layers that are looked at, at most, evenly spaced, the last among them.
const LAYERS: usize = 2;
/// Experts of a layer, at most: those that most tokens choose.
const EXPERTS: usize = 8;
/// Shuffles behind each null, at most.
const SHUFFLES: usize = 39;

/// The instrument `expert-representation`.
pub struct ExpertRepresentation;

/// One pair of a block that answers as one, by this measure.
const fn as_one(says: &'static str, rows: &'static [(&'static str, &'static str)]) -> Reading {
    Reading { says, table: "expert_likeness", rows, value: "likeness", rule: Rule::MoreThan(0.99) }
}
const LINEAR: Reading =
    as_one("two experts of block 0 answer as one (linear CKA)", &[("layer", "0"), ("measure", "linear CKA")]);
const RBF: Reading =
    as_one("two experts of block 0 answer as one (RBF CKA)", &[("layer", "0"), ("measure", "RBF CKA")]);
const PROCRUSTES: Reading =
    as_one("two experts of block 0 answer as one (Procrustes)", &[("layer", "0"), ("measure", "Procrustes")]);
const RSA: Reading =
    as_one("two experts of block 0 answer as one (RSA)", &[("layer", "0"), ("measure", "RSA")]);
const CURVED: Reading = Reading {
    says: "what an expert of block 0 reads fills fewer than three dimensions locally",
    table: "expert_dimensions",
    rows: &[("layer", "0"), ("of", "input")],
    value: "dimension",
    rule: Rule::LessThan(3.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::TwinExperts, LINEAR),
    Promise::finds(Property::TwinExperts, RBF),
    Promise::finds(Property::TwinExperts, PROCRUSTES),
    Promise::finds(Property::TwinExperts, RSA),
    Promise::is_silent(Property::IndependentExperts, LINEAR),
    Promise::is_silent(Property::IndependentExperts, RBF),
    Promise::is_silent(Property::IndependentExperts, PROCRUSTES),
    Promise::is_silent(Property::IndependentExperts, RSA),
    Promise::finds(Property::CurvedStream, CURVED),
    Promise::is_silent(Property::FlatStream, CURVED),
];

impl Instrument for ExpertRepresentation {
    fn about(&self) -> About {
        About {
            name: "expert-representation",
            group: Group::Representation,
            question: "Do two experts answer alike where both are asked, and how many dimensions does an expert read and answer beside its layer?",
            null: "the tokens of the second expert shuffled; Gaussian vectors of the same covariance; white noise with as many rows",
            does_not_show: "that experts are used alike: most tokens were sent to neither; nor that likeness was learned, where what both read makes them alike",
            source: "measures as in `similarity`, of experts on the same tokens, Lo et al. 2024 (arXiv 2406.18219); TwoNN, Facco et al. 2017; effective rank, Roy and Vetterli 2007",
            passes: "two, and one for each of at most 8 experts over those of a token, for each of at most 2 layers, of at most 64 sequences",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let asked = Asked::drawn(material, METHOD, TOKENS)?;
        let shape = material.subject.shape().clone();
        let shuffles = material.permutations(METHOD);
        let shuffles = crate::routing::Permutations { count: shuffles.count.min(SHUFFLES), ..shuffles };
        let seed = material.seed.child(METHOD);
        let (mut pairs, mut means, mut dimensions) = (Vec::new(), Vec::new(), Vec::new());
        for layer in layers(&shape, LAYERS) {
            let (all, per_token) = routed(&shape, layer);
            let experts = most_used(material, layer, all)?;
            let subject = &mut *material.subject;
            let input = asked.input(subject, layer)?;
            let mut answers = Vec::new();
            for group in experts.chunks(per_token.max(1)) {
                answers.extend(group.iter().copied().zip(asked.answers(subject, layer, group)?));
            }
            let (own, mean) = of_layer(layer, &answers, &input, &asked.documents, shuffles.index(layer))?;
            pairs.extend(own);
            means.extend(mean);
            let seed = seed.child("gaussian").index(layer as u64);
            dimensions.extend(of_experts(subject, &asked.samples, layer, &experts, seed)?);
        }
        let found = pairs.len() + dimensions.len();
        check::at_least(METHOD, "experts whose input or answers vary", found, 1)?;
        let mut finding = Finding {
            tables: vec![likeness::table(&pairs)?, likeness::mean_table(&means)?],
            figures: vec![],
        };
        finding.tables.push(dimensions::table(&dimensions)?);
        finding.figures.extend((!means.is_empty()).then(|| likeness_figure(&means)));
        finding.figures.extend((!dimensions.is_empty()).then(|| Figure {
            id: "expert_dimensions".into(),
            title: dimensions::finding(&dimensions),
            caption: "Intrinsic dimension with 95 % intervals, at equal numbers of tokens as the router sends them; beside it Gaussian vectors of the same \
                      covariance."
                .into(),
            table: "expert_dimensions".into(),
            kind: FigureKind::Bars { x: "whose".into(), y: "dimension".into(), series: Some("of".into()) },
        }));
        Ok(finding)
    }
}

/// The experts of a layer that most tokens choose, ascending; the first of equals.
fn most_used(material: &mut Material<'_>, layer: usize, all: usize) -> Result<Vec<usize>, AnalysisError> {
    let mut counts = vec![0_usize; all];
    let trace = material.routes()?;
    let choices = trace.layers().iter().filter(|routing| routing.layer == layer).flat_map(|r| &r.choices);
    choices.for_each(|expert| counts[*expert as usize] += 1);
    let mut order: Vec<usize> = (0..all).collect();
    order.sort_by_key(|expert| (std::cmp::Reverse(counts[*expert]), *expert));
    order.truncate(EXPERTS);
    order.sort_unstable();
    Ok(order)
}

fn likeness_figure(means: &[LayerLikeness]) -> Figure {
    let linear: Vec<&LayerLikeness> = means.iter().filter(|m| m.measure == Measure::LinearCka).collect();
    let told = |of: &LayerLikeness| {
        format!(
            "{:.2} [{:.2}, {:.2}] in block {}, with what they read {:.2}",
            of.mean.estimate, of.mean.low, of.mean.high, of.layer, of.input
        )
    };
    let all: Vec<String> = linear.into_iter().map(told).collect();
    Figure {
        id: "expert_likeness_means".into(),
        title: format!("Two experts of a layer have a linear CKA of {} on average", all.join("; ")),
        caption: "Mean over pairs of experts that answer the same tokens, by six measures, with 95 % intervals over documents; beside it the tokens of \
                  the second shuffled."
            .into(),
        table: "expert_likeness_means".into(),
        kind: FigureKind::Bars { x: "measure".into(), y: "likeness".into(), series: Some("layer".into()) },
    }
}
