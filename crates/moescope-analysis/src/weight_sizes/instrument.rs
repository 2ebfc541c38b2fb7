//! The instrument `expert-weights`.

use moescope_base::{Figure, FigureKind, Subject};

use super::table::name;
use super::{
    LAYERS, LayerSizes, METHOD, MatrixSummary, RANDOM, Relation, SEQUENCES, Usage, by_expert_table,
    by_layer_table, expert_sizes, relation_table, relations,
};
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::sequences::drawn;
use crate::statistics::holm;
use crate::wording::counted;
use crate::{AnalysisError, check};

/// The instrument `expert-weights`.
pub struct ExpertWeightSizes;

const UNEQUAL: Reading = Reading {
    says: "experts differ in norm",
    table: "expert_weights",
    rows: &[],
    value: "spread",
    rule: Rule::Significant,
};
const NARROW: Reading = Reading {
    says: "an expert uses few directions",
    table: "expert_weights",
    rows: &[],
    value: "lowest_rank",
    rule: Rule::Below(1.0),
};
const ANSWERS: Reading = Reading {
    says: "large experts answer more",
    table: "expert_weights_use",
    rows: &[("first", "norm"), ("second", "answer")],
    value: "correlation",
    rule: Rule::Significant,
};
const CHOSEN: Reading = Reading {
    says: "large experts are chosen more or less",
    table: "expert_weights_use",
    rows: &[("first", "norm"), ("second", "load")],
    value: "correlation",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::GradedExperts, UNEQUAL),
    Promise::is_silent(Property::NarrowExpert, UNEQUAL),
    Promise::is_silent(Property::RandomRoutes, UNEQUAL),
    Promise::finds(Property::NarrowExpert, NARROW),
    Promise::is_silent(Property::GradedExperts, NARROW),
    Promise::is_silent(Property::RandomRoutes, NARROW),
    Promise::finds(Property::GradedExperts, ANSWERS),
    Promise::is_silent(Property::RandomRoutes, CHOSEN),
    Promise::is_silent(Property::GradedExperts, CHOSEN),
];

impl Instrument for ExpertWeightSizes {
    fn about(&self) -> About {
        About {
            name: "expert-weights",
            group: Group::Weights,
            question: "How large are the matrices of experts, how many directions do they use, and are large experts chosen more or answer more?",
            null: "Gaussian matrices of the same shape and norm, or of one scale; norms dealt out to other experts",
            does_not_show: "what the directions are for, nor which comes first, size or use; a norm before the layer may undo a scale",
            source: "effective rank, Roy and Vetterli 2007; size of outputs and scores, Lo et al. 2024 (arXiv 2406.18219)",
            passes: "one for each batch of at most 64 sequences, for each of at most 8 layers; singular values of at most 256 neurons of every expert of these",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let shape = material.subject.shape().clone();
        let layers = layers(material.subject);
        check::at_least(METHOD, "routed layers", layers.len(), 1)?;
        let permutations = material.permutations("expert weights");
        // Two-sided tests of all layers and matrices must be able to call one after correction.
        let enough = permutations.count.max(60 * layers.len());
        let draws = crate::routing::Permutations { count: enough, ..permutations };
        let random = material.permutations.clamp(3, RANDOM);
        let sizes = expert_sizes(material.parameters(METHOD)?, &shape, &layers, random, draws)?;
        let samples = drawn(material, "expert weights", SEQUENCES)?;
        let usage = layers
            .iter()
            .map(|layer| Usage::of(material.subject, &samples, *layer))
            .collect::<Result<Vec<Usage>, AnalysisError>>()?;
        let relations = relations(&sizes, &usage, draws.child("use"), material.resampling("expert weights"))?;
        let mut tables = vec![by_layer_table(&sizes)?, by_expert_table(&sizes, &usage)?];
        if !relations.is_empty() {
            tables.push(relation_table(&relations)?);
        }
        Ok(Finding { tables, figures: vec![figure(&sizes, &relations)] })
    }
}

/// Routed layers, evenly spaced where there are many.
fn layers(subject: &dyn Subject) -> Vec<usize> {
    let all = subject.shape().routed_layers();
    let count = all.len().min(LAYERS);
    (0..count).map(|at| all[at * all.len() / count]).collect()
}

/// Effective ranks by layer and matrix, with everything else in the title.
fn figure(sizes: &[LayerSizes], relations: &[Relation]) -> Figure {
    Figure {
        id: "expert_weights".into(),
        title: finding(sizes, relations),
        caption:
            "Mean effective rank of the matrices of experts, beside Gaussian matrices of the same shape."
                .into(),
        table: "expert_weights".into(),
        kind: FigureKind::Bars {
            x: "layer".into(),
            y: "effective_rank".into(),
            series: Some("matrix".into()),
        },
    }
}

/// The sizes in one sentence.
///
/// Shares are means over layers and matrices. How many are called is counted after correction: ranks by their threshold over all matrices of
/// the model, norms and correlations by Holm's procedure.
fn finding(sizes: &[LayerSizes], relations: &[Relation]) -> String {
    let all: Vec<(&LayerSizes, &MatrixSummary)> =
        sizes.iter().flat_map(|layer| layer.matrices.iter().map(move |matrix| (layer, matrix))).collect();
    let share = all.iter().map(|(layer, m)| m.effective_rank / layer.gaussian.effective_rank);
    let share = 100.0 * share.sum::<f64>() / all.len() as f64;
    let below: usize = all.iter().map(|(_, matrix)| matrix.below).sum();
    let matrices: usize = all.iter().map(|(layer, _)| layer.experts.len()).sum();
    let p: Vec<f64> = all.iter().map(|(_, matrix)| matrix.spread.p_value).collect();
    let called = holm(&p);
    let unequal = called.iter().filter(|p| **p <= 0.05).count();
    let differ = all.iter().zip(&called).filter(|(_, p)| **p <= 0.05).map(|(of, _)| of);
    let largest = differ.max_by(|a, b| a.1.largest.1.total_cmp(&b.1.largest.1));
    let largest = largest.map_or_else(String::new, |(layer, matrix)| {
        format!(
            ", most {} of expert {} of layer {}, {:.2} times the median",
            name(matrix.projection),
            matrix.largest.0,
            layer.layer,
            matrix.largest.1
        )
    });
    let called = |first: &str, second: &str| {
        let own: Vec<&Relation> =
            relations.iter().filter(|r| (r.first, r.second) == (first, second)).collect();
        let called = own.iter().filter(|relation| relation.corrected <= 0.05).count();
        format!("{called} of {}", counted(own.len(), "layer", "layers"))
    };
    format!(
        "The matrices of experts use {share:.0} % of the directions of Gaussian ones, {below} of {} fewer than chance; norms differ in {unequal} \
         of {} kinds of matrices{largest}; norm goes with load in {}, with the length of answers in {}",
        counted(matrices, "matrix", "matrices"),
        all.len(),
        called("norm", "load"),
        called("norm", "answer")
    )
}
