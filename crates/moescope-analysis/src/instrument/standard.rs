//! Instruments that studies use as well, as the case offers them.

mod domain_probe;
mod gives;

use moescope_base::{Figure, FigureKind};

pub(super) use domain_probe::DomainProbe;

use super::{
    About, Finding, Group, Instrument, Material, Overhears, Promise, Property, Reading, Reads, Rule,
};
use crate::AnalysisError;
use crate::lens_passage::Passage;
use crate::logit_lens::{LensLayer, logit_lens};
use crate::route_report::{
    load_finding, locality_finding, paths_finding, sharpness_finding, specialisation_finding,
    together_finding,
};
use crate::specialisation::{
    Labels, both_sides, divergence_figure, divergence_table, expert_divergence_table,
};

/// The instrument `routing`: load, sharpness, co-activation and locality.
pub(super) struct RouteLoad;

const UNEVEN: Reading = Reading {
    says: "the load is uneven",
    table: "routing_load",
    rows: &[],
    value: "effective_experts",
    rule: Rule::Below(0.8),
};
const HANDED_ON: Reading = Reading {
    says: "a token hands its experts on",
    table: "routing_locality",
    rows: &[],
    value: "overlap",
    rule: Rule::Significant,
};

const ROUTE_LOAD_PROMISES: &[Promise] = &[
    Promise::finds(Property::UnevenLoad, UNEVEN),
    Promise::is_silent(Property::RandomRoutes, UNEVEN),
    Promise::finds(Property::DomainRoutes, HANDED_ON),
    Promise::is_silent(Property::TokenRoutes, HANDED_ON),
    Promise::is_silent(Property::RandomRoutes, HANDED_ON),
];

impl Instrument for RouteLoad {
    fn about(&self) -> About {
        About {
            name: "routing",
            group: Group::Routing,
            question: "How evenly are experts used, how sharply are they chosen, which go together, and what does a token hand on?",
            null: "even load; other slots filled in proportion to load; routes shuffled with loads kept",
            does_not_show: "specialisation: a router that draws at random is even as well; nor that experts go together beyond the tokens that choose both",
            source: "dispatch fractions of Fedus et al. 2022; co-activation over all pairs; locality of Jiang et al. 2024",
            passes: "one for each batch",
            routed: true,
            gives: gives::ROUTING,
            promises: ROUTE_LOAD_PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::Whole
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let permutations = material.permutations("routing");
        let trace = material.routes()?;
        let mut finding = load_finding(trace)?;
        let parts = [Some(sharpness_finding(trace)?), Some(together_finding(trace, permutations)?)];
        for part in parts.into_iter().chain([locality_finding(trace, permutations)?]).flatten() {
            finding.tables.extend(part.tables);
            finding.figures.extend(part.figures);
        }
        Ok(finding)
    }
}

/// The instrument `specialisation`: what the choice of an expert tells.
pub(super) struct Specialisation;

const DOMAIN: Reading = Reading {
    says: "experts tell the domain",
    table: "specialisation",
    rows: &[("label", "domain"), ("given", "")],
    value: "information",
    rule: Rule::Significant,
};
const BEYOND_TOKEN: Reading = Reading {
    says: "experts tell the domain beyond the token",
    table: "specialisation",
    rows: &[("label", "domain"), ("given", "token")],
    value: "information",
    rule: Rule::Significant,
};
const TOKEN: Reading = Reading {
    says: "experts tell the token",
    table: "specialisation",
    rows: &[("label", "token")],
    value: "information",
    rule: Rule::Significant,
};
const PREDICTED: Reading = Reading {
    says: "experts tell the predicted token",
    table: "specialisation",
    rows: &[("label", "predicted_token")],
    value: "information",
    rule: Rule::Significant,
};
const POSITION: Reading = Reading {
    says: "experts tell the position",
    table: "specialisation",
    rows: &[("label", "position")],
    value: "information",
    rule: Rule::Significant,
};

const CLUSTERS: Reading = Reading {
    says: "experts get other clusters of tokens than their layer",
    table: "specialisation_divergence",
    rows: &[("side", "input")],
    value: "divergence",
    rule: Rule::Significant,
};

const ANSWERS: Reading = Reading {
    says: "experts promote other clusters of tokens than their layer",
    table: "specialisation_divergence",
    rows: &[("side", "output")],
    value: "divergence",
    rule: Rule::Significant,
};

const SPECIALISATION_PROMISES: &[Promise] = &[
    Promise::finds(Property::DomainRoutes, DOMAIN),
    Promise::finds(Property::DomainRoutes, BEYOND_TOKEN),
    Promise::is_silent(Property::DomainRoutes, POSITION),
    Promise::finds(Property::TokenRoutes, TOKEN),
    Promise::is_silent(Property::TokenRoutes, DOMAIN),
    Promise::is_silent(Property::TokenRoutes, BEYOND_TOKEN),
    Promise::is_silent(Property::TokenRoutes, POSITION),
    Promise::finds(Property::PositionRoutes, POSITION),
    Promise::is_silent(Property::PositionRoutes, DOMAIN),
    Promise::is_silent(Property::PositionRoutes, TOKEN),
    Promise::is_silent(Property::RandomRoutes, DOMAIN),
    Promise::is_silent(Property::RandomRoutes, TOKEN),
    Promise::is_silent(Property::RandomRoutes, POSITION),
    Promise::finds(Property::FragileRoutes, PREDICTED),
    Promise::is_silent(Property::PositionRoutes, PREDICTED),
    Promise::finds(Property::TokenRoutes, CLUSTERS),
    Promise::is_silent(Property::PositionRoutes, CLUSTERS),
    Promise::is_silent(Property::RandomRoutes, CLUSTERS),
    Promise::finds(Property::FragileRoutes, ANSWERS),
    Promise::finds(Property::RandomRoutes, ANSWERS),
    Promise::is_silent(Property::PositionRoutes, ANSWERS),
];

impl Instrument for Specialisation {
    fn about(&self) -> About {
        About {
            name: "specialisation",
            group: Group::Routing,
            question: "What does the choice of an expert tell about domain, token, next token, predicted token, class and position, and how far do its tokens, and those that it promotes, lie from its layer's?",
            null: "routes moved along documents, domains exchanged between documents, loads kept; as many slots drawn from the layer, and documents exchanged",
            does_not_show: "what experts compute, nor that they decide the predicted token, which is a function of the routes among all else; topic and vocabulary are told apart by the information given the token alone",
            source: "mutual information with permutation nulls; domain shares of Muennighoff et al. 2024 (OLMoE); divergence over clusters, arXiv 2604.02178",
            passes: "two for each batch; one, and one more for each layer, for at most 64 sequences",
            routed: true,
            gives: gives::SPECIALISATION,
            promises: SPECIALISATION_PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::Whole
    }

    fn overhears(&self) -> &'static [Overhears] {
        &[Overhears::Predictions]
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        material.expect(Overhears::Predictions);
        let permutations = material.permutations("specialisation");
        let trace = material.routes()?.clone();
        let predicted = Labels::predicted_token(&material.predictions()?.ids);
        let mut finding = specialisation_finding(&trace, Some(predicted), permutations)?.0;
        let found = both_sides(material, permutations.child("divergence"))?;
        if found.is_empty() {
            return Ok(finding);
        }
        finding.tables.extend([divergence_table(&found)?, expert_divergence_table(&found)?]);
        finding.figures.extend(divergence_figure(&found));
        Ok(finding)
    }
}

/// The instrument `paths`: the routes through all layers together.
pub(super) struct Paths;

const FOLLOWS: Reading = Reading {
    says: "the next layer follows",
    table: "paths_cross_layer",
    rows: &[],
    value: "information",
    rule: Rule::Significant,
};
const FOLLOWS_BEYOND_TOKEN: Reading = Reading {
    says: "the next layer follows beyond the token",
    table: "paths_cross_layer",
    rows: &[],
    value: "given_token",
    rule: Rule::Significant,
};

const PATHS_PROMISES: &[Promise] = &[
    Promise::finds(Property::DependentLayers, FOLLOWS),
    Promise::finds(Property::DependentLayers, FOLLOWS_BEYOND_TOKEN),
    Promise::finds(Property::TokenRoutes, FOLLOWS),
    Promise::is_silent(Property::TokenRoutes, FOLLOWS_BEYOND_TOKEN),
    Promise::is_silent(Property::RandomRoutes, FOLLOWS),
    Promise::is_silent(Property::RandomRoutes, FOLLOWS_BEYOND_TOKEN),
];

impl Instrument for Paths {
    fn about(&self) -> About {
        About {
            name: "paths",
            group: Group::Paths,
            question: "How many paths are used, how many carry most tokens, and what do they tell beyond single experts?",
            null: "paths moved along documents, domains exchanged between documents; layers that choose independently",
            does_not_show: "that paths are needed: restriction and committee routing intervene, this only counts",
            source: "effective number with unseen mass after Chao and Shen 2003",
            passes: "one for each batch",
            routed: true,
            gives: gives::PATHS,
            promises: PATHS_PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::Whole
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let permutations = material.permutations("paths");
        paths_finding(material.routes()?, permutations)
    }
}

/// The instrument `logit-lens`.
pub(super) struct Lens;

const NEAR: Reading = Reading {
    says: "the prediction is near after the first block",
    table: "logit_lens",
    rows: &[("layer", "0")],
    value: "divergence",
    rule: Rule::Below(0.5),
};

const LENS_PROMISES: &[Promise] =
    &[Promise::finds(Property::EarlyAnswer, NEAR), Promise::is_silent(Property::LateAnswer, NEAR)];

impl Instrument for Lens {
    fn about(&self) -> About {
        About {
            name: "logit-lens",
            group: Group::Lenses,
            question: "How near is the final prediction after each block?",
            null: "the residual stream rotated at random",
            does_not_show: "what the model would compute if it stopped there: later blocks may rewrite the basis",
            source: "nostalgebraist 2020; Belrose et al. 2023 for its bias in early layers",
            passes: "one for each batch of an excerpt, and three products with the unembedding for each block, and one of one sequence",
            routed: false,
            gives: gives::LOGIT_LENS,
            promises: LENS_PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (samples, seed) = (material.samples()?, material.seed.child("lens"));
        let lens = logit_lens(material.subject, &samples, seed)?;
        let first = |of: fn(&LensLayer) -> f64| 100.0 * lens.layers.first().map_or(f64::NAN, of);
        let figure = Figure {
            id: "logit_lens".into(),
            title: format!(
                "After the first block the lens agrees with the end on {:.0} % of the tokens, rotated at random on {:.0} %",
                first(|layer| layer.agreement.mean),
                first(|layer| layer.rotated_agreement.mean)
            ),
            caption: "Share of tokens with the same most probable token, with 95 % intervals over documents."
                .into(),
            table: "logit_lens".into(),
            kind: FigureKind::Lines { x: "layer".into(), y: "agreement".into(), series: None, log2_x: false },
        };
        let table = lens.table("logit_lens", "How near the prediction is after each block")?;
        let mut finding = Finding { tables: vec![table], figures: vec![figure] };
        if let Some(passage) = Passage::drawn(material)? {
            finding.tables.push(passage.table(material)?);
            finding.figures.push(passage.figure());
        }
        Ok(finding)
    }
}
