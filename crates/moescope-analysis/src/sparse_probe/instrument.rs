//! The instrument `sparse-probe`.

use moescope_base::{Column, Figure, FigureKind, HookPoint, Request, Site, Table};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::Judged;
use super::feature::{Feature, Kind};
use super::judge::{always_yes, f1, gain};
use super::neurons::{NeuronId, Neurons};
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::probe::folds_by_document;
use crate::statistics::{Bootstrap, cluster_bootstrap, mean};
use crate::tabulate::bootstrap_columns;
use crate::wording::counted;
use crate::{AnalysisError, check};

const METHOD: &str = "sparse probe";
/// Tokens that neurons are looked at on.
const TOKENS: usize = 2000;
const FOLDS: usize = 3;
/// Neurons of a probe.
const COUNTS: [usize; 5] = [1, 2, 4, 8, 16];
/// Features of each kind, at most: those that hold most often.
const FEATURES: usize = 6;
/// Shuffled features behind the null of probes of several neurons, whose fits take their time.
const SHUFFLES: usize = 3;
/// Shuffles of one neuron for each feature, at least: with fewer no p-value could survive Holm's correction over all features.
const SHUFFLES_EACH: usize = 30;

/// What F1 is held against.
const NULL: &str = "always saying yes, and what is gained over that on shuffled features";

/// The instrument `sparse-probe`.
pub struct SparseProbe;

const TELLS_DOMAIN: Reading = Reading {
    says: "a neuron tells a domain",
    table: "sparse_probe_features",
    rows: &[("kind", "domain")],
    value: "f1",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::DomainRoutes, TELLS_DOMAIN),
    Promise::is_silent(Property::TokenRoutes, TELLS_DOMAIN),
    Promise::is_silent(Property::RandomRoutes, TELLS_DOMAIN),
];

impl Instrument for SparseProbe {
    fn about(&self) -> About {
        About {
            name: "sparse-probe",
            group: Group::Representation,
            question: "How few neurons, within experts and across, tell a feature of the token?",
            null: "the same feature dealt out to other documents (domains) or to other token ids (classes)",
            does_not_show: "that the model uses the neuron, or that the neuron stands for nothing else",
            source: "k-sparse probing, Gurnee et al. 2023; over the neurons of experts, arXiv 2604.02178",
            passes: "one for each batch of an excerpt and layer",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let sample = Sampled::draw(material);
        let features = sample.features(material)?;
        let layers = material.subject.shape().layers();
        let mut found = Vec::new();
        for layer in 0..layers {
            let neurons = sample.neurons(material, layer)?;
            found.push(of_layer(&neurons, &sample, &features, material)?);
        }
        let tables = vec![
            by_count(&found, &features, &sample, material)?,
            by_feature(&found, &features, &sample, material)?,
        ];
        let figures = vec![curve(&tables[0]), forest(&tables[1])];
        Ok(Finding { tables, figures })
    }
}

/// The tokens that are looked at.
struct Sampled {
    /// Rows of each batch, ascending.
    rows: Vec<Vec<usize>>,
    documents: Vec<u32>,
    domains: Vec<u32>,
    ids: Vec<u32>,
    classes: Vec<u32>,
}

impl Sampled {
    fn draw(material: &Material<'_>) -> Sampled {
        let mut chosen: Vec<(usize, usize)> = Vec::new();
        for (batch, (tokens, _)) in material.batches.iter().enumerate() {
            chosen.extend((0..tokens.len()).map(|row| (batch, row)));
        }
        chosen.shuffle(&mut material.seed.child("tokens of the sparse probe").rng());
        chosen.truncate(TOKENS);
        chosen.sort_unstable();
        let mut rows = vec![Vec::new(); material.batches.len()];
        chosen.iter().for_each(|(batch, row)| rows[*batch].push(*row));
        let tables = || chosen.iter().map(|(batch, row)| (&material.batches[*batch].1, *row));
        Sampled {
            documents: tables().map(|(table, row)| table.documents[row]).collect(),
            domains: tables().map(|(table, row)| u32::from(table.domains[row])).collect(),
            ids: tables().map(|(table, row)| table.ids[row]).collect(),
            classes: tables().map(|(table, row)| u32::from(table.classes[row])).collect(),
            rows,
        }
    }

    /// The features that can be asked for.
    fn features(&self, material: &Material<'_>) -> Result<Vec<Feature>, AnalysisError> {
        let table = &material.batches[0].1;
        let spread = (self.documents.as_slice(), FOLDS);
        let some = |kind, names: &[String], codes: &[u32], units: &[u32]| {
            let mut found = Feature::of_codes(kind, names, codes, units, spread);
            found.sort_by_key(|feature| {
                std::cmp::Reverse(feature.holds.iter().filter(|holds| **holds).count())
            });
            found.truncate(FEATURES);
            found
        };
        let domains = some(Kind::Domain, &table.domain_names, &self.domains, &self.documents);
        let classes = some(Kind::Class, &table.class_names, &self.classes, &self.ids);
        let found = [domains, classes].concat();
        check::at_least(METHOD, "features that hold for 30 tokens in 3 documents", found.len(), 1)?;
        let mut documents = self.documents.clone();
        documents.sort_unstable();
        documents.dedup();
        check::at_least(METHOD, "documents", documents.len(), 2 * FOLDS)?;
        Ok(found)
    }

    /// The neurons of a layer.
    fn neurons(&self, material: &mut Material<'_>, layer: usize) -> Result<Neurons, AnalysisError> {
        let points: Vec<HookPoint> = material.subject.shape().hook_points();
        let inside = |point: &HookPoint| {
            let neuron = matches!(point.site(), Site::MlpPost | Site::ExpertPost | Site::SharedPost);
            neuron && point.layer() == Some(layer)
        };
        let points: Vec<HookPoint> = points.into_iter().filter(inside).collect();
        let mut neurons = Neurons::none_of(&points);
        for ((tokens, _), rows) in
            material.batches.iter().zip(&self.rows).filter(|(_, rows)| !rows.is_empty())
        {
            let seen = material.subject.run(&Request::recording(tokens, &points))?;
            neurons.append(rows, |point| seen.values.get(&point))?;
        }
        Ok(neurons)
    }
}

/// What one layer's neurons say of one feature.
struct Told {
    /// For each number of neurons what is said of every token.
    said: Vec<Vec<bool>>,
    /// Mean gain on a few shuffled features, `[count]`.
    shuffled: Vec<f64>,
    /// Gain of one neuron, on the feature and on its shuffles.
    gain: f64,
    shuffled_gains: Vec<f64>,
    /// The neuron, by all tokens, whether it is larger where the feature holds, and where it is.
    best: (NeuronId, bool),
    place: String,
}

/// All features in one layer.
fn of_layer(
    neurons: &Neurons,
    sample: &Sampled,
    features: &[Feature],
    material: &Material<'_>,
) -> Result<Vec<Told>, AnalysisError> {
    let folds =
        folds_by_document(&sample.documents, &sample.domains, FOLDS, material.seed.child("sparse folds"));
    let judged = Judged::new(neurons, &folds);
    check::at_least(METHOD, "neurons", neurons.ids().count(), 1)?;
    let seed = material.seed.child("sparse shuffles");
    let shuffles = material.permutations.max(SHUFFLES_EACH * features.len());
    let told = |(number, feature): (usize, &Feature)| {
        let sums = judged.sums(&feature.holds);
        let said: Vec<Vec<bool>> =
            COUNTS.iter().map(|count| judged.said(&feature.holds, &sums, *count)).collect();
        let shuffle = |draw: usize| {
            let holds = feature.shuffled(seed.index(number as u64).index(draw as u64));
            let sums = judged.sums(&holds);
            let counts = if draw < SHUFFLES { &COUNTS[..] } else { &COUNTS[..1] };
            counts.iter().map(|count| gain(&judged.said(&holds, &sums, *count), &holds)).collect()
        };
        let draws: Vec<Vec<f64>> = (0..shuffles).into_par_iter().map(shuffle).collect();
        let every: Vec<usize> = (0..FOLDS).collect();
        let (best, difference) = judged.ranked(&feature.holds, &sums, &every, 1)[0];
        let of_count =
            |place: usize| mean(&draws[..SHUFFLES].iter().map(|gains| gains[place]).collect::<Vec<f64>>());
        Told {
            gain: gain(&said[0], &feature.holds),
            said,
            shuffled: (0..COUNTS.len()).map(of_count).collect(),
            shuffled_gains: draws.iter().map(|gains| gains[0]).collect(),
            best: (best, difference > 0.0),
            place: neurons.place(best),
        }
    };
    Ok(features.iter().enumerate().collect::<Vec<_>>().into_par_iter().map(told).collect())
}

/// The mean F1 over features, by layer and number of neurons.
fn by_count(
    layers: &[Vec<Told>],
    features: &[Feature],
    sample: &Sampled,
    material: &Material<'_>,
) -> Result<Table, AnalysisError> {
    let rows: Vec<(usize, usize)> =
        (0..layers.len()).flat_map(|layer| (0..COUNTS.len()).map(move |count| (layer, count))).collect();
    let interval = |(layer, count): &(usize, usize)| {
        let over = |tokens: &[usize]| {
            let one = |(told, feature): (&Told, &Feature)| {
                f1(&told.said[*count], &feature.holds, tokens.iter().copied())
            };
            mean(&layers[*layer].iter().zip(features).map(one).collect::<Vec<f64>>())
        };
        cluster_bootstrap(&sample.documents, over, material.resampling("sparse probe"))
    };
    let intervals: Vec<Bootstrap> = rows.iter().map(interval).collect::<Result<_, _>>()?;
    let yes = mean(&features.iter().map(|feature| always_yes(&feature.holds)).collect::<Vec<f64>>());
    let null = |(layer, count): &(usize, usize)| {
        yes + mean(&layers[*layer].iter().map(|told| told.shuffled[*count]).collect::<Vec<f64>>())
    };
    let mut columns = vec![
        Column::integer_key(
            "layer",
            "",
            "block, counted from 0",
            rows.iter().map(|row| row.0 as i64).collect(),
        ),
        Column::integer_key(
            "neurons",
            "neurons",
            "neurons that the probe reads",
            rows.iter().map(|row| COUNTS[row.1] as i64).collect(),
        ),
    ];
    let meaning = "F1 on documents not seen, mean over features";
    columns.extend(bootstrap_columns("f1", "", meaning, &intervals));
    columns.push(Column::null("f1", "", NULL, rows.iter().map(null).collect()));
    columns.push(Column::count(
        "features",
        "features",
        "features asked for",
        vec![features.len() as i64; rows.len()],
    ));
    let method = "Neurons ranked by the difference of their means on the training documents; a threshold on one, a logistic regression on \
                  several; three folds that share no document. A neuron of an expert that a token has not chosen is 0 there. Does not \
                  show that the model uses these neurons.";
    Ok(Table::new("sparse_probe", "How well few neurons tell a feature", method, columns)?)
}

/// The layer where a single neuron does best, for each feature.
fn by_feature(
    layers: &[Vec<Told>],
    features: &[Feature],
    sample: &Sampled,
    material: &Material<'_>,
) -> Result<Table, AnalysisError> {
    let best = |feature: usize| {
        let gain = |layer: &usize| layers[*layer][feature].gain;
        (0..layers.len())
            .max_by(|a, b| gain(a).total_cmp(&gain(b)).then(b.cmp(a)))
            .expect("a model has a layer")
    };
    let rows: Vec<(usize, usize)> = (0..features.len()).map(|feature| (feature, best(feature))).collect();
    let told = |(feature, layer): &(usize, usize)| &layers[*layer][*feature];
    let interval = |row: &(usize, usize)| {
        let over = |tokens: &[usize]| f1(&told(row).said[0], &features[row.0].holds, tokens.iter().copied());
        cluster_bootstrap(&sample.documents, over, material.resampling("sparse probe"))
    };
    let intervals: Vec<Bootstrap> = rows.iter().map(interval).collect::<Result<_, _>>()?;
    let (p, null) = rows.iter().map(|row| against_shuffles(layers, &features[row.0], row)).unzip();
    let text = |of: &dyn Fn(&(usize, usize)) -> String| rows.iter().map(of).collect::<Vec<String>>();
    let number =
        |of: &dyn Fn(&(usize, usize)) -> usize| rows.iter().map(|row| of(row) as i64).collect::<Vec<i64>>();
    let mut columns = vec![
        Column::key("feature", "what is told of the token", text(&|row| features[row.0].name.clone())),
        Column::key("kind", "of what the feature is", text(&|row| features[row.0].kind.name().into())),
        Column::count("layer", "", "block whose best neuron does best", number(&|row| row.1)),
        Column::text(
            "expert",
            "expert of the neuron; empty in a dense layer",
            text(&|row| told(row).place.clone()),
        ),
        Column::count(
            "neuron",
            "",
            "the neuron there, by all documents",
            number(&|row| told(row).best.0.neuron),
        ),
        Column::text(
            "sign",
            "whether it is larger or smaller where the feature holds",
            text(&|row| if told(row).best.1 { "larger" } else { "smaller" }.into()),
        ),
    ];
    let meaning = "F1 of one neuron on documents not seen, in that layer";
    columns.extend(bootstrap_columns("f1", "", meaning, &intervals));
    columns.push(Column::null("f1", "", NULL, null));
    let meaning = "shuffles whose best layer gains as much over always saying yes";
    columns.push(Column::p_value("f1", meaning, p));
    let method = "The layer is the one that does best, so F1 is a little too high there; null and p-value choose the layer in the same way. \
                  Domains are shuffled among documents, classes among token ids. Does not show that the neuron stands for nothing else.";
    Ok(Table::new(
        "sparse_probe_features",
        "The single neuron that best tells each feature",
        method,
        columns,
    )?)
}

/// The p-value of the best layer's gain, and always saying yes with what the best layer gains on shuffles.
fn against_shuffles(layers: &[Vec<Told>], feature: &Feature, (number, layer): &(usize, usize)) -> (f64, f64) {
    let draws = layers[0][*number].shuffled_gains.len();
    let best = |draw: usize| {
        let gains = layers.iter().map(|told| told[*number].shuffled_gains[draw]);
        gains.fold(f64::NEG_INFINITY, f64::max)
    };
    let bests: Vec<f64> = (0..draws).map(best).collect();
    let as_much = bests.iter().filter(|gain| **gain >= layers[*layer][*number].gain).count();
    ((1 + as_much) as f64 / (1 + draws) as f64, always_yes(&feature.holds) + mean(&bests))
}

/// F1 against the number of neurons.
fn curve(table: &Table) -> Figure {
    let number =
        |column: &str, row: usize| table.column(column).and_then(|c| c.data.number(row)).unwrap_or(f64::NAN);
    let at = |count: f64, column: &str| {
        let rows = (0..table.rows()).filter(|row| number("neurons", *row) == count);
        rows.map(|row| number(column, row)).fold(f64::NEG_INFINITY, f64::max)
    };
    Figure {
        id: "sparse_probe".into(),
        title: format!(
            "In the best layer one neuron tells a feature with a mean F1 of {:.2}, sixteen with {:.2}; chance {:.2} and {:.2}",
            at(1.0, "f1"),
            at(16.0, "f1"),
            at(1.0, "f1_null"),
            at(16.0, "f1_null"),
        ),
        caption: "F1 on documents not seen, mean over features, with 95 % intervals over documents; a line for each layer.".into(),
        table: table.name().into(),
        kind: FigureKind::Lines { x: "neurons".into(), y: "f1".into(), series: Some("layer".into()), log2_x: true },
    }
}

/// The best single neuron of each feature.
fn forest(table: &Table) -> Figure {
    let p = table.column("f1_p").map_or_else(Vec::new, |column| {
        (0..table.rows()).filter_map(|row| column.data.number(row)).collect()
    });
    let told = crate::statistics::holm(&p).into_iter().filter(|p| *p <= 0.05).count();
    Figure {
        id: "sparse_probe_features".into(),
        title: format!(
            "A single neuron tells {told} of {} better than chance",
            counted(table.rows(), "feature", "features")
        ),
        caption:
            "F1 of the best neuron on documents not seen, with 95 % intervals over documents; by Holm at 5 %."
                .into(),
        table: table.name().into(),
        kind: FigureKind::Forest { label: "feature".into(), estimate: "f1".into(), reference: None },
    }
}
