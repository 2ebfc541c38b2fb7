use super::{Carried, Direction, METHOD, Part, PatchOptions, Read, activation_patch, figures, tables};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};

/// The instrument `activation-patch`.
pub struct ActivationPatching;

/// Sequences that are patched, at most.
const SEQUENCES: usize = 32;
pub(super) const LAYERS: usize = 6;
const CANDIDATES: usize = 8;

const FIRST_LAYER: Reading = Reading {
    says: "the feed-forward layer of block 0 brings half of the next prediction back",
    table: "activation_patch",
    rows: &[("layer", "0"), ("part", "feed-forward")],
    value: "denoised",
    rule: Rule::MoreThan(0.5),
};
const SECOND_LAYER: Reading = Reading {
    says: "the feed-forward layer of block 1 brings half of the next prediction back",
    rows: &[("layer", "1"), ("part", "feed-forward")],
    ..FIRST_LAYER
};
const SECOND_LAYER_TAKES: Reading = Reading {
    says: "the feed-forward layer of block 1 takes half of the next prediction away",
    value: "noised",
    ..SECOND_LAYER
};
const ONE_EXPERT: Reading = Reading {
    says: "expert 3 of block 1 brings half of the next prediction back where it is chosen",
    table: "activation_patch_experts",
    rows: &[("layer", "1"), ("expert", "3")],
    ..FIRST_LAYER
};
const EXPERT_BEFORE: Reading = Reading {
    says: "an expert of block 0 brings part of the next prediction back",
    table: "activation_patch_experts",
    rows: &[("layer", "0")],
    rule: Rule::MoreThan(0.05),
    ..FIRST_LAYER
};
const HEAD: Reading = Reading {
    says: "head 0 of block 1 brings half of a later prediction back",
    table: "activation_patch_heads",
    rows: &[("layer", "1"), ("head", "0")],
    ..FIRST_LAYER
};
const HEAD_TAKES: Reading =
    Reading { says: "head 0 of block 1 takes half of a later prediction away", value: "noised", ..HEAD };
const HEAD_BEFORE: Reading = Reading {
    says: "a head of block 0 brings part of a later prediction back where it is read",
    rows: &[("layer", "0")],
    rule: Rule::MoreThan(0.05),
    ..HEAD
};
const AT_THE_EXCHANGED: Reading = Reading {
    says: "half of a later prediction's change stands at the exchanged token after block 0",
    table: "activation_patch_stream",
    rows: &[("layer", "0"), ("place", "exchanged")],
    ..FIRST_LAYER
};
const AT_THE_READER: Reading = Reading {
    says: "part of a later prediction's change stands where it is read after block 0",
    rows: &[("layer", "0"), ("place", "reader")],
    rule: Rule::MoreThan(0.05),
    ..AT_THE_EXCHANGED
};
const IN_THE_STREAM: Reading = Reading {
    says: "part of a later prediction's change stands at the exchanged token after block 0",
    rows: &[("layer", "0"), ("place", "exchanged")],
    ..AT_THE_READER
};
const ROUTES: Reading = Reading {
    says: "routes alone bring half of a later prediction back",
    table: "activation_patch_routes",
    rows: &[("prediction", "later")],
    ..FIRST_LAYER
};
const ROUTES_OF_NEXT: Reading = Reading {
    says: "routes alone bring part of the next prediction back",
    rows: &[("prediction", "next")],
    rule: Rule::MoreThan(0.05),
    ..ROUTES
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::EarlyAnswer, FIRST_LAYER),
    Promise::is_silent(Property::EarlyAnswer, SECOND_LAYER),
    Promise::finds(Property::LateAnswer, SECOND_LAYER),
    Promise::finds(Property::LateAnswer, SECOND_LAYER_TAKES),
    Promise::is_silent(Property::LateAnswer, FIRST_LAYER),
    Promise::is_silent(Property::LateAnswer, ROUTES_OF_NEXT),
    Promise::finds(Property::FactExpert, ONE_EXPERT),
    Promise::is_silent(Property::FactExpert, EXPERT_BEFORE),
    Promise::finds(Property::CopyingHead, AT_THE_EXCHANGED),
    Promise::is_silent(Property::CopyingHead, AT_THE_READER),
    Promise::finds(Property::CopyingHead, HEAD),
    Promise::finds(Property::CopyingHead, HEAD_TAKES),
    Promise::is_silent(Property::CopyingHead, HEAD_BEFORE),
    Promise::finds(Property::RandomRoutes, ROUTES),
    Promise::is_silent(Property::RandomRoutes, IN_THE_STREAM),
];

impl Instrument for ActivationPatching {
    fn about(&self) -> About {
        About {
            name: "activation-patch",
            group: Group::Causal,
            question: "Of two texts that differ in one token: in which block, at which token and by which part stands what makes their predictions differ?",
            null: "the vector that an unrelated sequence has at the same place of its own pair",
            does_not_show: "which way an effect takes from there on, nor what other exchanged tokens would show",
            source: "activation patching in both directions, Heimersheim and Nanda 2024 (arXiv 2404.15255), with exchanged tokens, Zhang and Nanda 2023 (arXiv 2309.16042), here with single experts and routes",
            passes: "19, and at most 56 for each of at most 6 blocks and 4 for each of at most 16 of its heads, of at most 32 sequences",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let options =
            PatchOptions { layers: LAYERS, candidates: CANDIDATES, resampling: material.resampling(METHOD) };
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let found = activation_patch(material.subject, &samples, options)?;
        let of = |read: Read, wanted: fn(Part) -> bool| -> Vec<&Carried> {
            let rows = found.carried.iter();
            rows.filter(|row| row.spot.read == read && wanted(row.spot.part)).collect()
        };
        let whole = |part: Part| matches!(part, Part::Attention | Part::FeedForward | Part::Ranked(_));
        let routes: Vec<&Carried> =
            found.carried.iter().filter(|row| row.spot.part == Part::Routes).collect();
        let mut finding = Finding::default();
        let next = of(Read::Next, whole);
        if !next.is_empty() {
            let own = routes.iter().find(|row| row.spot.read == Read::Next).copied();
            add(&mut finding, tables::next(&next)?, vec![figures::next(&next, own)]);
        }
        let experts = of(Read::Next, |part| matches!(part, Part::Expert(_)));
        if !experts.is_empty() {
            add(&mut finding, tables::experts(&experts)?, vec![figures::experts(&experts)]);
        }
        let stream = of(Read::Later, |part| part == Part::Stream);
        if !stream.is_empty() {
            let both = Direction::BOTH.map(|direction| figures::stream(&stream, direction));
            add(&mut finding, tables::stream(&stream)?, both.into());
        }
        let parts = of(Read::Later, whole);
        if !parts.is_empty() {
            let both = vec![figures::parts(&parts), figures::directions(&parts)];
            add(&mut finding, tables::parts_at(&parts)?, both);
        }
        let heads = of(Read::Later, |part| matches!(part, Part::Head(_)));
        if !heads.is_empty() {
            add(&mut finding, tables::heads(&heads)?, vec![figures::heads(&heads)]);
        }
        if !routes.is_empty() {
            add(&mut finding, tables::routes(&routes)?, Vec::new());
        }
        add(&mut finding, tables::tried(&found.tried)?, Vec::new());
        Ok(finding)
    }
}

fn add(finding: &mut Finding, table: moescope_base::Table, figures: Vec<moescope_base::Figure>) {
    finding.tables.push(table);
    finding.figures.extend(figures);
}
