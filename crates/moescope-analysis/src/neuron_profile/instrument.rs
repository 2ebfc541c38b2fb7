//! The instrument `neuron-profile`.

use moescope_base::{Column, FeedForwardShape, Figure, FigureKind, Site, SubjectShape, Table};

use super::bank::Place;
use super::dashboard::{Dashboard, Setting, dashboards};
use super::known::{Known, known_table};
use super::tables::{neuron_name, plain, profile, texts};
use super::texts::Text;
use super::{EXPERTS, NEURONS, layers};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::holm;

/// Neurons whose texts are shown.
const SHOWN: usize = 8;

/// The instrument `neuron-profile`.
pub struct NeuronProfile;

const fn reading(
    says: &'static str,
    value: &'static str,
    rows: &'static [(&'static str, &'static str)],
) -> Reading {
    Reading { says, table: "neuron_profile", rows, value, rule: Rule::Significant }
}

const KNOWN: Reading = reading("a neuron is known by a token", "telling", &[]);
const FACTS: Reading =
    reading("a neuron of the fact expert is known by a token", "telling", &[("layer", "1"), ("expert", "3")]);
const DOMAIN: Reading = reading("a neuron keeps to a domain", "selectivity", &[]);

const PROMISES: &[Promise] = &[
    Promise::finds(Property::FactExpert, FACTS),
    Promise::is_silent(Property::FlatStream, KNOWN),
    Promise::is_silent(Property::CurvedStream, KNOWN),
    Promise::finds(Property::DomainRoutes, DOMAIN),
    Promise::is_silent(Property::TokenRoutes, DOMAIN),
    Promise::is_silent(Property::RandomRoutes, DOMAIN),
];

impl Instrument for NeuronProfile {
    fn about(&self) -> About {
        About {
            name: "neuron-profile",
            group: Group::Representation,
            question: "On which texts, tokens and domains are single neurons strong, how often, and what do they write?",
            null: "values moved along each document; whole documents exchanged between domains; the numbers of every matrix in another order",
            does_not_show: "that the neuron stands for what its strongest texts share, nor that the model needs it, nor training, unless more are known than with the weights in another order",
            source: "strongest texts and token tables of Bills et al. 2023, with a test; promoted tokens after Geva et al. 2022",
            passes: "for each of at most 4 layers, one for each batch of an excerpt, and one of at most 64 sequences; all of it twice",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let shape = material.subject.shape().clone();
        let layers = layers(&shape);
        let rows: usize = layers.iter().map(|layer| rows(&shape, *layer)).sum();
        let setting = Setting {
            text: Text::new(&material.batches),
            draws: material.permutations_for("", rows).count,
            seed: material.seed.child("neuron profiles"),
            resampling: material.resampling("neuron profiles"),
        };
        let all = |material: &mut Material<'_>| -> Result<Vec<Dashboard>, AnalysisError> {
            let mut found = Vec::new();
            for layer in &layers {
                found.extend(dashboards(material, *layer, &setting)?);
            }
            Ok(found)
        };
        let found = all(material)?;
        let scrambled = material.scrambled("neuron profiles", all)?;
        let known = Known::of(&found);
        let scrambled = scrambled.as_deref().map(Known::of);
        let names = material.domain_names().to_vec();
        let shown = most_telling(&found);
        let tables = vec![
            profile(&found, &names, material)?,
            texts(&found, &setting.text, material)?,
            passages(&found, &shown, &setting.text, material)?,
            known_table(known, scrambled)?,
        ];
        let figures = vec![scatter(&found, (known, scrambled), material), passages_figure(&found, &shown)];
        Ok(Finding { tables, figures })
    }
}

/// Rows of the table that a layer has, at most.
fn rows(shape: &SubjectShape, layer: usize) -> usize {
    match shape.feed_forward[layer] {
        FeedForwardShape::Dense { width } => width.min(NEURONS),
        FeedForwardShape::Routed { experts, expert_width, .. } => {
            let shared = usize::from(shape.options.has(Site::SharedPost));
            experts.min(EXPERTS) * (expert_width.min(NEURONS) + 1) + shared * NEURONS
        }
    }
}

/// How far the most telling token of a neuron is beyond chance.
fn telling(dashboard: &Dashboard) -> f64 {
    dashboard.known.first.first().map_or(0.0, |first| first.deviance)
}

/// The neurons that are known best, at most eight, the best first.
fn most_telling(found: &[Dashboard]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..found.len())
        .filter(|place| found[*place].neuron.is_some() && !found[*place].texts.is_empty())
        .collect();
    order.sort_by(|a, b| telling(&found[*b]).total_cmp(&telling(&found[*a])).then(a.cmp(b)));
    order.truncate(SHOWN);
    order
}

/// A neuron in words.
fn in_words(dashboard: &Dashboard) -> String {
    let (layer, neuron) = (dashboard.bank.layer, neuron_name(dashboard.neuron));
    match dashboard.bank.place {
        Place::Dense => format!("neuron {neuron} of layer {layer}"),
        Place::Expert(expert) => format!("neuron {neuron} of expert {expert} of layer {layer}"),
        Place::Shared => format!("neuron {neuron} of the shared expert of layer {layer}"),
    }
}

/// The strongest texts of some neurons, token by token.
fn passages(
    found: &[Dashboard],
    shown: &[usize],
    text: &Text,
    material: &Material<'_>,
) -> Result<Table, AnalysisError> {
    let (mut names, mut words, mut marks, mut values) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for dashboard in shown.iter().map(|place| &found[*place]) {
        for (rank, strong) in dashboard.texts.iter().enumerate() {
            let document = text.documents[strong.token];
            let name =
                format!("{}, {}: {:+.3}, document {document}", in_words(dashboard), rank + 1, strong.value);
            for token in text.around(strong.token) {
                let strongest = token == strong.token;
                names.push(name.clone());
                words.push(plain(text.ids[token], material));
                marks.push(if strongest { "strongest" } else { "" }.to_owned());
                values.push(if strongest { f64::from(strong.value) } else { f64::NAN });
            }
        }
    }
    let columns = vec![
        Column::key("passage", "neuron, rank, activation and document", names),
        Column::key("token", "text", words),
        Column::key("mark", "where the neuron is strongest", marks),
        Column::estimate("value", "activation", "activation at the strongest token", values),
    ];
    let method = "The texts of `neuron_texts`, of the eight neurons whose tokens tell most.";
    Ok(Table::new("neuron_passages", "Texts on which the best-known neurons are strongest", method, columns)?)
}

/// How often neurons are active, and how well they are known by a token.
fn scatter(found: &[Dashboard], (all, scrambled): (Known, Option<Known>), material: &Material<'_>) -> Figure {
    let neurons: Vec<&Dashboard> = found.iter().filter(|dashboard| dashboard.neuron.is_some()).collect();
    let p: Vec<f64> = neurons.iter().map(|dashboard| dashboard.known.p_value).collect();
    let called = holm(&p);
    let named = neurons.iter().zip(&called).filter(|(_, p)| **p <= 0.05).map(|(neuron, _)| neuron);
    let best = named.max_by(|a, b| telling(a).total_cmp(&telling(b)));
    let example = best.and_then(|best| Some((best, best.known.first.first()?))).map_or_else(
        String::new,
        |(best, first)| {
            let word = material.word(first.id);
            format!(
                "; best {}, at {word} {:.1} times as strong as on average in the same documents",
                in_words(best),
                first.times
            )
        },
    );
    let beside = scrambled.map_or_else(String::new, |other| {
        format!(", {} of {} with the weights in another order", other.known, other.neurons)
    });
    let nulls = neurons.iter().map(|dashboard| dashboard.known.null);
    let null = nulls.sum::<f64>() / neurons.len().max(1) as f64;
    Figure {
        id: "neuron_profile".into(),
        title: format!(
            "{} of {} neurons that write most are known by a token{beside}{example}",
            all.known, all.neurons
        ),
        caption: format!(
            "How often each is active, and how far its most telling token is beyond chance, in standard deviations ({null:.1} on average where values are moved along \
             documents); by Holm at 5 %. \
             Point at a neuron for its name. Experts as a whole stand among them, with their load."
        ),
        table: "neuron_profile".into(),
        kind: FigureKind::Scatter {
            x: "density".into(),
            y: "telling".into(),
            series: Some("layer".into()),
            diagonal: false,
        },
    }
}

/// The texts of the best-known neurons.
fn passages_figure(found: &[Dashboard], shown: &[usize]) -> Figure {
    let neurons: Vec<&Dashboard> = found.iter().filter(|dashboard| dashboard.neuron.is_some()).collect();
    let known = holm(&neurons.iter().map(|dashboard| dashboard.known.p_value).collect::<Vec<f64>>());
    let times = |dashboard: &Dashboard| dashboard.known.first.first().map_or(0.0, |first| first.times);
    let least = shown.iter().map(|place| times(&found[*place])).fold(f64::INFINITY, f64::min);
    let title = match (known.iter().any(|p| *p <= 0.05), least.is_finite()) {
        (true, true) => format!(
            "The {} best-known neurons are at least {least:.1} times as strong at their token as on average in the same documents",
            shown.len()
        ),
        (false, true) => "No neuron is known by a token: texts of those that come nearest".to_owned(),
        (_, false) => "No neuron is active anywhere".to_owned(),
    };
    Figure {
        id: "neuron_texts".into(),
        title,
        caption: "The texts on which each is strongest, from different documents; the strongest token is marked, its activation stands before the \
                  text. Strongest texts illustrate: what is common to them need not be what the neuron stands for."
            .into(),
        table: "neuron_passages".into(),
        kind: FigureKind::Passages {
            passage: "passage".into(),
            text: "token".into(),
            mark: "mark".into(),
            value: "value".into(),
        },
    }
}
