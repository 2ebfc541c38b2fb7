use moescope_base::{Figure, FigureKind};

use super::{METHOD, Reach, Recovery, TraceOptions, causal_trace, tables, titles};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};

/// The instrument `causal-trace`.
pub struct CausalTracing;

/// Sequences that are traced, at most; whole batches.
const SEQUENCES: usize = 32;
pub(super) const LAYERS: usize = 6;
const CANDIDATES: usize = 6;

const FIRST_LAYER: Reading = Reading {
    says: "the feed-forward layer of block 0 brings back half of what noise takes",
    table: "causal_trace",
    rows: &[("layer", "0"), ("restored", "feed-forward layer"), ("routes", "held")],
    value: "recovery",
    rule: Rule::MoreThan(0.5),
};
const SECOND_LAYER: Reading = Reading {
    says: "the feed-forward layer of block 1 brings back half of what noise takes",
    rows: &[("layer", "1"), ("restored", "feed-forward layer"), ("routes", "held")],
    ..FIRST_LAYER
};
const ONE_EXPERT: Reading = Reading {
    says: "one expert of block 1 brings back half of what noise takes",
    rows: &[("layer", "1"), ("restored", "one expert"), ("routes", "free")],
    ..FIRST_LAYER
};
const ONE_EXPERT_BEFORE: Reading = Reading {
    says: "one expert of block 0 brings back half of what noise takes",
    rows: &[("layer", "0"), ("restored", "one expert"), ("routes", "free")],
    ..FIRST_LAYER
};
const HEAD: Reading = Reading {
    says: "head 0 of block 1 brings half of a later prediction back",
    table: "causal_trace_heads",
    rows: &[("layer", "1"), ("head", "0")],
    value: "recovery",
    rule: Rule::MoreThan(0.5),
};
const HEAD_BEFORE: Reading = Reading {
    says: "a head of block 0 brings part of a later prediction back at the reader",
    rows: &[("layer", "0")],
    rule: Rule::MoreThan(0.05),
    ..HEAD
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::CopyingHead, HEAD),
    Promise::is_silent(Property::CopyingHead, HEAD_BEFORE),
    Promise::finds(Property::EarlyAnswer, FIRST_LAYER),
    Promise::is_silent(Property::EarlyAnswer, SECOND_LAYER),
    Promise::finds(Property::LateAnswer, SECOND_LAYER),
    Promise::is_silent(Property::LateAnswer, FIRST_LAYER),
    Promise::finds(Property::FactExpert, ONE_EXPERT),
    Promise::is_silent(Property::FactExpert, ONE_EXPERT_BEFORE),
];

impl Instrument for CausalTracing {
    fn about(&self) -> About {
        About {
            name: "causal-trace",
            group: Group::Causal,
            question: "Which layers, single experts and heads bring a prediction back after the tokens that it depends on were disturbed?",
            null: "the vector that another sequence has at the same place of its own subject",
            does_not_show: "that what is restored is needed, nor where a fact is stored: restored vectors carry all that came before them",
            source: "causal tracing, Meng et al. 2022 (arXiv 2202.05262), with single experts and with routes held or free (arXiv 2606.03780)",
            passes: "eleven, and at most 48 for each of at most 6 blocks and 2 for each of at most 32 of its heads, of at most 32 sequences",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let options = TraceOptions {
            layers: LAYERS,
            candidates: CANDIDATES,
            resampling: material.resampling(METHOD),
            seed: material.seed.child(METHOD),
        };
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let found = causal_trace(material.subject, &samples, options)?;
        let (heads, whole): (Vec<Recovery>, Vec<Recovery>) =
            found.into_iter().partition(|row| row.restored.head().is_some());
        let (own, later): (Vec<Recovery>, Vec<Recovery>) =
            whole.into_iter().partition(|row| row.reach == Reach::Own);
        let (mut tables, mut figures) = (Vec::new(), Vec::new());
        if !own.is_empty() {
            tables.push(tables::own(&own)?);
            figures.push(own_figure(&own));
        }
        if !later.is_empty() {
            tables.push(tables::later(&later)?);
            figures.push(later_figure(&later));
        }
        if !heads.is_empty() {
            tables.push(tables::heads(&heads)?);
            figures.push(heads_figure(&heads));
        }
        Ok(Finding { tables, figures })
    }
}

fn own_figure(own: &[Recovery]) -> Figure {
    Figure {
        id: "causal_trace".into(),
        title: titles::own(own),
        caption: "Share of the lost probability of the next token that comes back when one vector at the last token of the subject has its undisturbed \
                  value again, with 95 % intervals over documents."
            .into(),
        table: "causal_trace".into(),
        kind: FigureKind::Lines {
            x: "layer".into(),
            y: "recovery".into(),
            series: Some("what".into()),
            log2_x: false,
        },
    }
}

fn later_figure(later: &[Recovery]) -> Figure {
    Figure {
        id: "causal_trace_later".into(),
        title: titles::later(later),
        caption: "Share of the lost probability of a later prediction that comes back when one vector at the subject, or at the token after which the \
                  prediction is read, has its undisturbed value again, diverging at 0, where nothing does; intervals and nulls are in the table."
            .into(),
        table: "causal_trace_later".into(),
        kind: FigureKind::Heatmap {
            x: "layer".into(),
            y: "what".into(),
            value: "recovery".into(),
            center: Some(0.0),
        },
    }
}

fn heads_figure(heads: &[Recovery]) -> Figure {
    Figure {
        id: "causal_trace_heads".into(),
        title: titles::heads(heads),
        caption: "Share of the lost probability of a later prediction that comes back when one head has its undisturbed value again at the token after \
                  which the prediction is read, diverging at 0, where nothing does; intervals and nulls are in the table."
            .into(),
        table: "causal_trace_heads".into(),
        kind: FigureKind::Heatmap {
            x: "head".into(),
            y: "layer".into(),
            value: "recovery".into(),
            center: Some(0.0),
        },
    }
}
