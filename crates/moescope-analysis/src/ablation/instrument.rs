//! The instrument `ablation`.

use super::METHOD;
use super::SEQUENCES;
use super::components::components;
use super::effects::{Effect, effects};
use super::sets;
use super::tables::{agreement, agreement_figure, figure, largest, table};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};

/// The instrument `ablation`.
pub struct Ablation;

const fn needs(says: &'static str, rows: &'static [(&'static str, &'static str)]) -> Reading {
    Reading { says, table: "ablation", rows, value: "loss", rule: Rule::MoreThan(0.0) }
}

const FACTS: Reading = needs(
    "the loss rises without the answers of expert 3 of block 1, by zeros",
    &[("kind", "expert"), ("layer", "1"), ("number", "3"), ("how", "zero")],
);
const FACTS_RENORMALISED: Reading = needs(
    "the loss rises without expert 3 of block 1, the others scaled up",
    &[("kind", "expert"), ("layer", "1"), ("number", "3"), ("how", "renormalised")],
);
const IDLE: Reading = needs(
    "the loss rises without expert 5 of block 1",
    &[("kind", "expert"), ("layer", "1"), ("number", "5"), ("how", "zero")],
);
const HEADS: Reading = needs("the loss rises without a head", &[("kind", "head")]);

const PROMISES: &[Promise] = &[
    Promise::finds(Property::FactExpert, FACTS),
    Promise::finds(Property::FactExpert, FACTS_RENORMALISED),
    Promise::is_silent(Property::FactExpert, IDLE),
    Promise::is_silent(Property::SilentHeads, HEADS),
];

impl Instrument for Ablation {
    fn about(&self) -> About {
        About {
            name: "ablation",
            group: Group::Causal,
            question: "What does the model lose without single heads, neurons, experts and layers and without sets of experts, and does it matter how they are taken out?",
            null: "a component that does nothing",
            does_not_show: "what a component does, nor what another would do in its place after training",
            source: "zero, mean and resample ablation as told apart by Chan et al. 2022 (causal scrubbing) and Zhang and Nanda 2023 (arXiv 2309.16042)",
            passes: "three or four for each of at most 32 heads, 24 experts, 16 layers, 12 neurons and 8 sets of experts, of at most 32 sequences",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let components = components(material)?;
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let (resampling, seed) = (material.resampling(METHOD), material.seed.child(METHOD));
        let found = effects(material, &samples, &components, resampling, seed)?;
        let all: Vec<&Effect> = found.all.iter().collect();
        let mut tables = vec![
            table("ablation", "What the model loses without a component", &all)?,
            table("ablation_largest", "The components without which it loses most", &largest(&found))?,
        ];
        let mut figures = vec![figure(&found)];
        if let Some(table) = agreement(&found, resampling)? {
            figures.push(agreement_figure(&table));
            tables.push(table);
        }
        let sets = sets::effects(material, &samples, resampling, seed)?;
        if !sets.is_empty() {
            figures.push(sets::figure(&sets));
            tables.push(sets::table(&sets)?);
        }
        Ok(Finding { tables, figures })
    }
}
