//! Routes or contents: whether a routed layer matters by where it sends a token or by what it reads.

mod gives;

use std::collections::BTreeMap;

use moescope_base::{
    Column, Edit, Figure, FigureKind, HookPoint, Observation, Request, RouteEdit, Site, Subject, Table,
    TokenSelection, ValueEdit,
};

use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::next_token::{divergences, logits_point, loss_at, predicted};
use crate::statistics::{Bootstrap, Resampling, bootstrap};
use crate::tabulate::bootstrap_columns;
use crate::{AnalysisError, Sample, check};

const METHOD: &str = "route patch";
/// Sequences that are patched, at most; whole batches.
const SEQUENCES: usize = 128;

/// What a routed layer is given from another sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Given {
    /// The choice of experts with their weights; what they read is the token's own.
    Routes,
    /// What experts read; choice and weights are the token's own.
    Contents,
    /// Both.
    Both,
}

impl Given {
    /// All of them.
    pub const ALL: [Given; 3] = [Given::Routes, Given::Contents, Given::Both];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Given::Routes => "routes",
            Given::Contents => "contents",
            Given::Both => "both",
        }
    }
}

/// What one layer changes when it is given another sequence's routes, contents, or both.
///
/// - **Unit and range:** `kl` is the divergence of the next-token prediction from the unpatched one, nats per token, 0 or more; `loss` the
///   change of the next-token loss. Intervals resample documents.
/// - **Null:** 0 of routes where the experts compute alike, 0 of contents where they read nothing that differs.
/// - **Does not show:** how much of the prediction is in the layer: one sequence's vectors in another are off the ground that the model
///   knows.
/// - **Source:** activation patching (Vig et al. 2020; Zhang and Nanda 2023), here split into the choice of experts and what they read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoutePatch {
    /// Block.
    pub layer: usize,
    /// What is given.
    pub given: Given,
    /// Divergence from the unpatched prediction.
    pub kl: Bootstrap,
    /// Change of the loss.
    pub loss: Bootstrap,
    /// Share of tokens whose set of experts is another one under these routes.
    pub other_routes: f64,
}

/// Sums over the tokens of one document.
#[derive(Clone, Debug, Default)]
struct Sums {
    tokens: f64,
    /// Divergence, change of the loss, tokens with other routes.
    patched: BTreeMap<(usize, Given), [f64; 3]>,
}

/// Gives every routed layer, one at a time, what the next sequence of the batch has at the same position.
///
/// # Errors
/// If the subject has no routed layer or cannot answer, no batch has two sequences, or there are fewer than two documents.
pub fn route_patch(
    subject: &mut dyn Subject,
    samples: &[Sample],
    resampling: Resampling,
) -> Result<Vec<RoutePatch>, AnalysisError> {
    let layers = subject.shape().routed_layers();
    check::at_least(METHOD, "routed layers", layers.len(), 1)?;
    let mut documents: BTreeMap<u32, Sums> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.tokens().batch() > 1) {
        patch(subject, sample, &layers, &mut documents)?;
    }
    let documents: Vec<Sums> = documents.into_values().collect();
    check::at_least(METHOD, "documents in batches of several sequences", documents.len(), 2)?;
    let mean = |drawn: &[usize], key: (usize, Given), which: usize| {
        let total = |of: &dyn Fn(&Sums) -> f64| drawn.iter().map(|d| of(&documents[*d])).sum::<f64>();
        total(&|sums| sums.patched.get(&key).map_or(0.0, |sums| sums[which])) / total(&|sums| sums.tokens)
    };
    let all: Vec<usize> = (0..documents.len()).collect();
    let of = |(layer, given): (usize, Given)| {
        Ok(RoutePatch {
            layer,
            given,
            kl: bootstrap(documents.len(), |drawn| mean(drawn, (layer, given), 0), resampling)?,
            loss: bootstrap(documents.len(), |drawn| mean(drawn, (layer, given), 1), resampling)?,
            other_routes: mean(&all, (layer, given), 2),
        })
    };
    layers.iter().flat_map(|layer| Given::ALL.map(|given| (*layer, given))).map(of).collect()
}

/// Patches one batch, layer after layer.
fn patch(
    subject: &mut dyn Subject,
    sample: &Sample,
    layers: &[usize],
    documents: &mut BTreeMap<u32, Sums>,
) -> Result<(), AnalysisError> {
    let of = |layer: usize, site: Site| HookPoint::block(site, layer);
    let mut record = vec![logits_point()];
    record.extend(layers.iter().flat_map(|layer| {
        [Site::MlpIn, Site::RouterIndices, Site::RouterWeights].map(|site| of(*layer, site))
    }));
    let free = subject.run(&Request { record: &record, ..Request::of(sample.tokens()) })?;
    let rows = predicted(sample);
    rows.iter().for_each(|(_, document)| documents.entry(*document).or_default().tokens += 1.0);
    let positions = sample.tokens().positions();
    for layer in layers {
        let own = Routes::of(&free, *layer)?;
        let other = own.of_next_sequence(positions);
        let contents = free.values.get(&of(*layer, Site::MlpIn)).and_then(|value| value.real());
        let contents = contents.ok_or(AnalysisError::NotRecorded { point: of(*layer, Site::MlpIn) })?;
        let contents = of_next_sequence(contents, subject.shape().d_model * positions);
        for given in Given::ALL {
            let source = if given == Given::Contents { &own } else { &other };
            let contents = (given != Given::Routes).then(|| contents.clone());
            let edits = edits(subject, sample, *layer, source, contents)?;
            let request =
                Request { record: &[logits_point()], edits: &edits, ..Request::of(sample.tokens()) };
            let patched = subject.run(&request)?;
            let divergences = divergences(&free, &patched, &rows)?;
            for ((row, document), kl) in rows.iter().zip(divergences) {
                let differs = given != Given::Contents && own.set(*row) != other.set(*row);
                let sums = documents.get_mut(document).expect("entered above");
                let [sum, loss, others] = sums.patched.entry((*layer, given)).or_default();
                *sum += kl;
                *loss += loss_at(sample, &patched, *row) - loss_at(sample, &free, *row);
                *others += f64::from(u8::from(differs));
            }
        }
    }
    Ok(())
}

/// The experts of every token with their weights, `[token, slot]`.
struct Routes {
    choices: Vec<u32>,
    weights: Vec<f32>,
    per_token: usize,
}

impl Routes {
    fn of(seen: &Observation, layer: usize) -> Result<Routes, AnalysisError> {
        let point = HookPoint::block(Site::RouterWeights, layer);
        let weights = seen.values.get(&point).and_then(|value| value.real());
        let weights = weights.ok_or(AnalysisError::NotRecorded { point })?.to_vec();
        let (choices, per_token) = chosen(seen, layer)?;
        Ok(Routes { choices, weights, per_token })
    }

    fn of_next_sequence(&self, positions: usize) -> Routes {
        let each = positions * self.per_token;
        let (choices, weights) =
            (of_next_sequence(&self.choices, each), of_next_sequence(&self.weights, each));
        Routes { choices, weights, per_token: self.per_token }
    }

    /// The experts of a token, ascending.
    fn set(&self, token: usize) -> Vec<u32> {
        let mut set = self.choices[token * self.per_token..(token + 1) * self.per_token].to_vec();
        set.sort_unstable();
        set
    }

    /// The weights where the same experts stand in another order.
    fn weights_of(&self, order: &[u32]) -> Vec<f32> {
        let of = |(slot, expert): (usize, &u32)| {
            let start = slot / self.per_token * self.per_token;
            let own = &self.choices[start..start + self.per_token];
            let place = own.iter().position(|other| other == expert);
            self.weights[start + place.expect("replayed choices are those that were given")]
        };
        order.iter().enumerate().map(of).collect()
    }
}

/// Chosen experts `[token, slot]`, and how many a token chooses.
pub(crate) fn chosen(seen: &Observation, layer: usize) -> Result<(Vec<u32>, usize), AnalysisError> {
    let point = HookPoint::block(Site::RouterIndices, layer);
    let value = seen.values.get(&point).ok_or(AnalysisError::NotRecorded { point })?;
    let chosen = value.integer().ok_or(AnalysisError::NotRecorded { point })?;
    Ok((chosen.iter().map(|expert| *expert as u32).collect(), value.columns()))
}

/// Edits that give a layer these routes, weights included, and these contents.
///
/// Replayed experts stand in the order of the scores that the layer has for them, so a pass of its own tells where each weight goes.
fn edits(
    subject: &mut dyn Subject,
    sample: &Sample,
    layer: usize,
    source: &Routes,
    contents: Option<Vec<f32>>,
) -> Result<Vec<Edit>, AnalysisError> {
    let value = |site: Site, rows: Vec<f32>| Edit::Value {
        at: HookPoint::block(site, layer),
        tokens: TokenSelection::All,
        change: ValueEdit::Patch { rows },
    };
    let choices = source.choices.clone();
    let mut edits = vec![Edit::Route { layer: layer as u32, change: RouteEdit::Replay { choices } }];
    edits.extend(contents.map(|rows| value(Site::MlpIn, rows)));
    let record = [HookPoint::block(Site::RouterIndices, layer)];
    let seen = subject.run(&Request { record: &record, edits: &edits, ..Request::of(sample.tokens()) })?;
    edits.push(value(Site::RouterWeights, source.weights_of(&chosen(&seen, layer)?.0)));
    Ok(edits)
}

/// Numbers of `[sequence, ..]`, each sequence with those of the next; the last has those of the first.
pub(crate) fn of_next_sequence<T: Clone>(numbers: &[T], each: usize) -> Vec<T> {
    [&numbers[each..], &numbers[..each]].concat()
}

/// The instrument `route-patch`.
pub struct RoutePatching;

const BY_ROUTES: Reading = Reading {
    says: "routes alone change the prediction",
    table: "route_patch",
    rows: &[("layer", "1"), ("given", "routes")],
    value: "kl",
    rule: Rule::MoreThan(1e-3),
};
const BY_CONTENTS: Reading = Reading {
    says: "contents alone change the prediction",
    table: "route_patch",
    rows: &[("layer", "1"), ("given", "contents")],
    value: "kl",
    rule: Rule::MoreThan(1e-3),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::FragileRoutes, BY_ROUTES),
    Promise::is_silent(Property::FragileRoutes, BY_CONTENTS),
    Promise::finds(Property::LateAnswer, BY_CONTENTS),
    Promise::is_silent(Property::LateAnswer, BY_ROUTES),
];

impl Instrument for RoutePatching {
    fn about(&self) -> About {
        About {
            name: "route-patch",
            group: Group::Causal,
            question: "Does a routed layer matter by where it sends a token, or by what its experts read there?",
            null: "no change: experts that compute alike, or read nothing that differs",
            does_not_show: "how much of the prediction is in the layer: vectors of another sequence are off the ground that the model knows",
            source: "activation patching, Vig et al. 2020, with the choice of experts and what they read exchanged one by one",
            passes: "one, and six for each routed layer, of at most 128 sequences",
            routed: true,
            gives: gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let resampling = material.resampling("route patch");
        let samples = material.some_samples("route patch", SEQUENCES)?;
        let found = route_patch(material.subject, &samples, resampling)?;
        let figure = Figure {
            id: "route_patch".into(),
            title: finding(&found),
            caption: "Divergence from the unpatched prediction when one layer is given the routes, the contents, or both of another sequence, \
                      with 95 % intervals over documents."
                .into(),
            table: "route_patch".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "kl".into(), series: Some("given".into()) },
        };
        Ok(Finding { tables: vec![table(&found)?], figures: vec![figure] })
    }
}

fn table(found: &[RoutePatch]) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&RoutePatch) -> Bootstrap| found.iter().map(pick).collect::<Vec<Bootstrap>>();
    let mut columns = vec![
        Column::integer_key("layer", "", "block", found.iter().map(|row| row.layer as i64).collect()),
        Column::key(
            "given",
            "what the layer has from another sequence",
            found.iter().map(|row| row.given.name().to_owned()).collect(),
        ),
    ];
    let unit = "nats per token";
    columns.extend(bootstrap_columns(
        "kl",
        unit,
        "divergence from the unpatched prediction",
        &of(|row| row.kl),
    ));
    columns.push(Column::null("kl", unit, "a layer in which it does not matter", vec![0.0; found.len()]));
    columns.extend(bootstrap_columns("loss", unit, "change of the next-token loss", &of(|row| row.loss)));
    columns.push(Column::null("loss", unit, "a layer in which it does not matter", vec![0.0; found.len()]));
    let share = found.iter().map(|row| row.other_routes).collect();
    columns.push(Column::estimate(
        "other_routes",
        "share of tokens",
        "whose set of experts is another one",
        share,
    ));
    let method = "Each sequence is given what the next of its batch has at the same position, in one layer at a time; a route \
                  is the choice of experts with their weights. Does not show how much of the prediction is in the layer.";
    Ok(Table::new("route_patch", "What routes and contents of another sequence change", method, columns)?)
}

fn finding(found: &[RoutePatch]) -> String {
    let mean = |given: Given| {
        let of: Vec<f64> = found.iter().filter(|row| row.given == given).map(|row| row.kl.estimate).collect();
        of.iter().sum::<f64>() / of.len().max(1) as f64
    };
    format!(
        "Another sequence's routes move the prediction by {:.3} nats, its contents by {:.3}, both by {:.3}, a layer on average",
        mean(Given::Routes),
        mean(Given::Contents),
        mean(Given::Both)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::BootstrapMethod;
    use moescope_base::{Seed, Tokens};
    use moescope_model::{Description, FeedForward, Model, ModelSubject, Routed, Router, Variation};

    fn description() -> Description {
        let router = Router::learned(true);
        let routed = Routed { experts: 4, expert_width: 6, per_token: 2, router, shared: None };
        Description {
            vocab: 20,
            d_model: 12,
            heads: 2,
            key_value_heads: 2,
            head_dim: 6,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-6,
            max_positions: 16,
            tied_embeddings: false,
            qk_norm: false,
            feed_forward: vec![FeedForward::Routed(routed); 2],
            variation: Variation::default(),
        }
    }

    fn samples(seed: u64) -> Vec<Sample> {
        let mut rng = Seed(seed).rng();
        let ids = (0..64).map(|_| rand::RngExt::random_range(&mut rng, 0..20)).collect();
        vec![Sample::one_document_each(Tokens::new(ids, 8, 8).unwrap(), 0)]
    }

    fn run(model: Model, samples: &[Sample]) -> Vec<RoutePatch> {
        let resampling =
            Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        route_patch(&mut ModelSubject::new(model), samples, resampling).unwrap()
    }

    fn model(change: impl Fn(&str, &mut [f32])) -> Model {
        let mut model = Model::initialise(description(), Seed(5)).unwrap();
        let parameters = model.parameters_mut();
        parameters.iter_mut().for_each(|p| change(&p.name.clone(), p.tensor.data_mut()));
        model
    }

    fn of(found: &[RoutePatch], layer: usize, given: Given) -> RoutePatch {
        *found.iter().find(|row| (row.layer, row.given) == (layer, given)).unwrap()
    }

    #[test]
    fn experts_may_be_renamed() {
        let found = |rename: bool| {
            let mut model = Model::initialise(description(), Seed(5)).unwrap();
            for parameter in model.parameters_mut().iter_mut().filter(|_| rename) {
                if parameter.name.contains("mlp.experts") || parameter.name.contains("mlp.gate") {
                    let data = parameter.tensor.data_mut();
                    let size = data.len() / 4;
                    data.rotate_left(size);
                }
            }
            let resampling = Resampling {
                replicates: 50,
                level: 0.95,
                method: BootstrapMethod::Percentile,
                seed: Seed(1),
            };
            route_patch(&mut ModelSubject::new(model), &samples(3), resampling).unwrap()
        };
        let (plain, turned) = (found(false), found(true));
        for (own, twin) in plain.iter().zip(&turned) {
            assert_eq!((own.layer, own.given), (twin.layer, twin.given));
            let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
            assert!(near(own.kl.estimate, twin.kl.estimate) && near(own.loss.estimate, twin.loss.estimate));
            assert!(near(own.other_routes, twin.other_routes), "{own:?} {twin:?}");
        }
        assert!(plain.iter().any(|patch| patch.kl.estimate > 1e-6), "something to tell");
    }

    #[test]
    fn the_next_sequence_by_hand() {
        assert_eq!(of_next_sequence(&[1, 2, 3, 4, 5, 6], 2), [3, 4, 5, 6, 1, 2]);
    }

    #[test]
    fn where_experts_are_alike_routes_do_not_matter_and_contents_do() {
        // Every expert is the first.
        let alike = model(|name, data| {
            if name.contains("mlp.experts") {
                let size = data.len() / 4;
                (1..4).for_each(|expert| data.copy_within(0..size, expert * size));
            }
        });
        let found = run(alike, &samples(1));
        for layer in [0, 1] {
            assert!(of(&found, layer, Given::Routes).kl.high < 1e-6);
            assert!(of(&found, layer, Given::Routes).other_routes > 0.2);
            assert!(of(&found, layer, Given::Contents).kl.low > 1e-4, "{found:?}");
        }
        assert_eq!(table(&found).unwrap().rows(), 6);
    }

    #[test]
    fn where_experts_are_alike_routes_never_raise_an_alarm_whatever_the_weights_and_the_text() {
        let alarms = |seed: u64| {
            let mut model = Model::initialise(description(), Seed(seed)).unwrap();
            for parameter in model.parameters_mut() {
                if parameter.name.contains("mlp.experts") {
                    let data = parameter.tensor.data_mut();
                    let size = data.len() / 4;
                    (1..4).for_each(|expert| data.copy_within(0..size, expert * size));
                }
            }
            let found = run(model, &samples(seed));
            // A divergence has no sign to be wrong about by chance: rounding alone may be left, far below what a promise reads.
            [0, 1].map(|layer| of(&found, layer, Given::Routes)).iter().any(|row| {
                row.kl.low > 1e-6 || row.loss.low > 1e-5 || row.loss.high < -1e-5 || !row.kl.high.is_finite()
            })
        };
        assert_eq!((0..200).filter(|seed| alarms(*seed)).count(), 0);
    }

    #[test]
    fn one_sequence_again_and_again_changes_nothing_and_both_together_are_found() {
        let ids: Vec<u32> = (0..8).map(|i| i * 3 % 20).collect();
        let again = Tokens::new(ids.repeat(4), 4, 8).unwrap();
        let same = run(model(|_, _| {}), &[Sample::one_document_each(again, 0)]);
        assert!(same.iter().all(|row| row.kl.high < 1e-9 && row.other_routes == 0.0), "{same:?}");
        let found = run(model(|_, _| {}), &samples(2));
        assert!(Given::ALL.iter().all(|given| of(&found, 1, *given).kl.low > 1e-6), "{found:?}");
    }

    #[test]
    fn lone_sequences_are_refused() {
        let lone = Sample::one_document_each(Tokens::new(vec![1, 2, 3], 1, 3).unwrap(), 0);
        let resampling =
            Resampling { replicates: 10, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        let mut subject = ModelSubject::new(model(|_, _| {}));
        assert!(route_patch(&mut subject, &[lone], resampling).is_err());
    }
}
