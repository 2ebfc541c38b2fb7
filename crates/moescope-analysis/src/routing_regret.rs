//! Routing regret: whether other experts would have predicted better than those that the router chose.

mod gives;

use std::collections::BTreeMap;

use moescope_base::{
    Column, Edit, FeedForwardShape, Figure, FigureKind, HookPoint, Request, RouteEdit, Seed, Site, Subject,
    Table,
};
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::next_token::{loss_at, predicted};
use crate::statistics::{Bootstrap, Resampling, bootstrap};
use crate::tabulate::bootstrap_columns;
use crate::{AnalysisError, Sample, check};

const METHOD: &str = "routing regret";
/// Sets that are tried instead of the chosen one.
const ALTERNATIVES: usize = 7;
/// Tokens of each sequence that are sent elsewhere, each in passes of its own.
const ROUNDS: usize = 2;
/// Layers that are asked, at most, evenly spaced.
const LAYERS: usize = 8;
/// Sequences, at most; whole batches.
const SEQUENCES: usize = 64;

/// How the chosen experts of one layer compare with others of equal cost.
///
/// - **Unit and range:** nats of next-token loss at the token that is sent elsewhere. `regret` is the loss as routed minus the smallest over
///   the tried sets, the chosen one included: 0 or more. `advantage` is the mean loss over the other sets minus the loss as routed: above 0
///   where the router chose better than chance. `rank` is the share of other sets with a smaller loss, from 0 (chosen best) to 1; ties count half.
/// - **Null:** of `regret`, the same for each other set in the place of the chosen one: even if the choice did not matter, the best
///   of eight noisy losses is below that of any one. Of `advantage` 0, of `rank` one half.
/// - **Does not show:** what a router that chose them always would reach, nor effects on later tokens; sets are drawn, so that better ones
///   may exist.
/// - **Source:** counterfactual routing, arXiv 2605.07260, here with matched nulls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerRegret {
    /// Block.
    pub layer: usize,
    /// Tokens that were sent elsewhere.
    pub tokens: usize,
    /// Loss as routed minus the smallest.
    pub regret: Bootstrap,
    /// The same of another set in the place of the chosen one.
    pub null: f64,
    /// Mean loss of the others minus loss as routed.
    pub advantage: Bootstrap,
    /// Share of the others with a smaller loss.
    pub rank: Bootstrap,
}

/// One token with its losses: as routed first, then under each other set.
#[derive(Clone, Debug)]
struct Trial {
    document: u32,
    losses: Vec<f64>,
}

/// Sends single tokens to other experts.
///
/// # Errors
/// If the subject has no routed layer with a choice or cannot answer, or there are fewer than four documents.
pub fn routing_regret(
    subject: &mut dyn Subject,
    samples: &[Sample],
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<LayerRegret>, AnalysisError> {
    let layers = layers(subject);
    check::at_least(METHOD, "routed layers with a choice", layers.len(), 1)?;
    let mut trials: BTreeMap<usize, Vec<Trial>> = BTreeMap::new();
    for (index, sample) in samples.iter().enumerate() {
        let record: Vec<HookPoint> =
            layers.iter().map(|layer| HookPoint::block(Site::RouterIndices, layer.0)).collect();
        let free = subject.run(&Request { record: &record, ..Request::of(sample.tokens()) })?;
        for ((layer, experts), point) in layers.iter().zip(&record) {
            let chosen = free.values.get(point).and_then(|value| value.integer());
            let chosen = chosen.ok_or(AnalysisError::NotRecorded { point: *point })?;
            let chosen: Vec<u32> = chosen.iter().map(|expert| *expert as u32).collect();
            for round in 0..ROUNDS {
                let seed = seed.index(index as u64).index(*layer as u64).index(round as u64);
                let rows = rows(sample, seed);
                let own = rows.iter().map(|(row, document)| Trial {
                    document: *document,
                    losses: vec![loss_at(sample, &free, *row)],
                });
                let mut own: Vec<Trial> = own.collect();
                let per_token = chosen.len() / sample.tokens().len();
                for choices in sent(&chosen, per_token, *experts, &rows, seed) {
                    let edits = [Edit::Route { layer: *layer as u32, change: RouteEdit::Replay { choices } }];
                    let seen = subject.run(&Request { edits: &edits, ..Request::of(sample.tokens()) })?;
                    own.iter_mut()
                        .zip(&rows)
                        .for_each(|(trial, (row, _))| trial.losses.push(loss_at(sample, &seen, *row)));
                }
                trials.entry(*layer).or_default().extend(own);
            }
        }
    }
    trials.into_iter().map(|(layer, trials)| summarise(layer, &trials, resampling)).collect()
}

/// Routed layers in which there is something to choose, with their experts; evenly spaced where there are many.
fn layers(subject: &dyn Subject) -> Vec<(usize, usize)> {
    let of = |(layer, shape): (usize, &FeedForwardShape)| match shape {
        FeedForwardShape::Routed { experts, per_token, .. } if per_token < experts => Some((layer, *experts)),
        _ => None,
    };
    let all: Vec<(usize, usize)> = subject.shape().feed_forward.iter().enumerate().filter_map(of).collect();
    let count = all.len().min(LAYERS);
    (0..count).map(|at| all[at * all.len() / count]).collect()
}

/// One token of each sequence that has one with a next token in its document.
fn rows(sample: &Sample, seed: Seed) -> Vec<(usize, u32)> {
    let positions = sample.tokens().positions();
    let mut rng = seed.child("tokens").rng();
    let mut by_sequence: BTreeMap<usize, Vec<(usize, u32)>> = BTreeMap::new();
    predicted(sample).into_iter().for_each(|at| by_sequence.entry(at.0 / positions).or_default().push(at));
    by_sequence.into_values().map(|rows| rows[rng.random_range(0..rows.len())]).collect()
}

/// The routes of the batch with the tokens of `rows` sent elsewhere, once for each alternative.
fn sent(
    chosen: &[u32],
    per_token: usize,
    experts: usize,
    rows: &[(usize, u32)],
    seed: Seed,
) -> Vec<Vec<u32>> {
    let mut rng = seed.child("other experts").rng();
    let mut lists = vec![chosen.to_vec(); ALTERNATIVES];
    for (row, _) in rows {
        let slots = row * per_token..(row + 1) * per_token;
        let mut own = chosen[slots.clone()].to_vec();
        own.sort_unstable();
        for list in &mut lists {
            let mut names: Vec<u32> = (0..experts as u32).collect();
            // A set other than the chosen one; there is one, since not all experts are chosen.
            loop {
                names.shuffle(&mut rng);
                let mut other = names[..per_token].to_vec();
                other.sort_unstable();
                if other != own {
                    list[slots.clone()].copy_from_slice(&other);
                    break;
                }
            }
        }
    }
    lists
}

/// Loss of one set minus the smallest of all.
fn regret(losses: &[f64], of: usize) -> f64 {
    losses[of] - losses.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Mean loss of the others minus that as routed.
fn advantage(losses: &[f64]) -> f64 {
    losses[1..].iter().sum::<f64>() / (losses.len() - 1) as f64 - losses[0]
}

/// Share of the others with a smaller loss; ties, up to rounding, count half.
fn rank(losses: &[f64]) -> f64 {
    let slack = 1e-6 * losses[0].abs().max(1.0);
    let below = |loss: &f64| match losses[0] - loss {
        more if more > slack => 1.0,
        more if more < -slack => 0.0,
        _ => 0.5,
    };
    losses[1..].iter().map(below).sum::<f64>() / (losses.len() - 1) as f64
}

fn summarise(layer: usize, trials: &[Trial], resampling: Resampling) -> Result<LayerRegret, AnalysisError> {
    let mut documents: BTreeMap<u32, Vec<&Trial>> = BTreeMap::new();
    trials.iter().for_each(|trial| documents.entry(trial.document).or_default().push(trial));
    let documents: Vec<Vec<&Trial>> = documents.into_values().collect();
    check::documents(METHOD, documents.len())?;
    let over = |of: &(dyn Fn(&[f64]) -> f64 + Sync)| {
        let mean = |drawn: &[usize]| {
            let trials = || drawn.iter().flat_map(|document| &documents[*document]);
            trials().map(|trial| of(&trial.losses)).sum::<f64>() / trials().count() as f64
        };
        bootstrap(documents.len(), mean, resampling)
    };
    let null = |losses: &[f64]| {
        (1..losses.len()).map(|of| regret(losses, of)).sum::<f64>() / (losses.len() - 1) as f64
    };
    Ok(LayerRegret {
        layer,
        tokens: trials.len(),
        regret: over(&|losses| regret(losses, 0))?,
        null: over(&null)?.estimate,
        advantage: over(&advantage)?,
        rank: over(&rank)?,
    })
}

/// The instrument `routing-regret`.
pub struct RoutingRegret;

const CHOSE_WELL: Reading = Reading {
    says: "the router chose better than chance in block 1",
    table: "routing_regret",
    rows: &[("layer", "1")],
    value: "advantage",
    rule: Rule::MoreThan(0.0),
};
const CHOSE_ILL: Reading = Reading {
    says: "the router chose worse than chance in block 1",
    table: "routing_regret",
    rows: &[("layer", "1")],
    value: "advantage",
    rule: Rule::LessThan(0.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::FactExpert, CHOSE_WELL),
    Promise::is_silent(Property::FactExpert, CHOSE_ILL),
    Promise::is_silent(Property::RandomRoutes, CHOSE_WELL),
    Promise::is_silent(Property::RandomRoutes, CHOSE_ILL),
];

impl Instrument for RoutingRegret {
    fn about(&self) -> About {
        About {
            name: "routing-regret",
            group: Group::Causal,
            question: "Would other experts have predicted the next token better than those that the router chose?",
            null: "each other set in the place of the chosen one; an advantage of 0",
            does_not_show: "what a router that chose otherwise throughout would reach, nor effects on later tokens",
            source: "counterfactual routing, arXiv 2605.07260, with matched nulls",
            passes: "one, and 14 for each of at most 8 layers, of at most 64 sequences",
            routed: true,
            gives: gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) = (material.seed.child(METHOD), material.resampling(METHOD));
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let found = routing_regret(material.subject, &samples, seed, resampling)?;
        let figure = Figure {
            id: "routing_regret".into(),
            title: finding(&found),
            caption: "Loss as routed minus the smallest of eight sets of experts, the chosen one among them, with 95 % intervals over \
                      documents; beside it the same of a random set in its place."
                .into(),
            table: "routing_regret".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "regret".into(), series: None },
        };
        Ok(Finding { tables: vec![table(&found)?], figures: vec![figure] })
    }
}

fn table(found: &[LayerRegret]) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&LayerRegret) -> Bootstrap| found.iter().map(pick).collect::<Vec<Bootstrap>>();
    let real = |pick: fn(&LayerRegret) -> f64| found.iter().map(pick).collect::<Vec<f64>>();
    let layers = found.iter().map(|layer| layer.layer as i64).collect();
    let mut columns = vec![Column::integer_key("layer", "", "block", layers)];
    let nats = "nats";
    columns.extend(bootstrap_columns("regret", nats, "loss as routed minus the smallest", &of(|l| l.regret)));
    columns.push(Column::null(
        "regret",
        nats,
        "another set in the place of the chosen one",
        real(|l| l.null),
    ));
    let meaning = "mean loss of the other sets minus loss as routed";
    columns.extend(bootstrap_columns("advantage", nats, meaning, &of(|l| l.advantage)));
    columns.push(Column::null("advantage", nats, "a choice like any other", real(|_| 0.0)));
    let meaning = "share of other sets with a smaller loss";
    columns.extend(bootstrap_columns("rank", "share of sets", meaning, &of(|l| l.rank)));
    columns.push(Column::null("rank", "share of sets", "a choice like any other", real(|_| 0.5)));
    let tokens = found.iter().map(|layer| layer.tokens as i64).collect();
    columns.push(Column::count("tokens", "tokens", "that were sent elsewhere", tokens));
    let method = "Single tokens are sent to seven other sets of as many experts, drawn evenly; weights come from the router's scores. Does not \
                  show what a router that chose otherwise throughout would reach.";
    Ok(Table::new("routing_regret", "Whether other experts would have predicted better", method, columns)?)
}

fn finding(found: &[LayerRegret]) -> String {
    let better = found.iter().filter(|layer| layer.advantage.low > 0.0).count();
    let mean =
        |pick: fn(&LayerRegret) -> f64| found.iter().map(pick).sum::<f64>() / found.len().max(1) as f64;
    format!(
        "The router chooses better than chance in {better} of {}; the best of eight sets would still save {:.3} nats, after a \
         random choice {:.3}",
        crate::wording::counted(found.len(), "layer", "layers"),
        mean(|layer| layer.regret.estimate),
        mean(|layer| layer.null)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::BootstrapMethod;
    use moescope_base::{Observation, SubjectError, SubjectShape, Tokens, Value, ValueData};

    /// One layer of five experts, two for each token. Tokens go to 0 and 1, and each expert takes `worth` of the loss after them.
    struct Planted {
        shape: SubjectShape,
        worth: [f32; 5],
        /// Losses of every token and set drawn at random besides, from this seed.
        noise: Option<u64>,
    }

    /// A number from −1 to 1 that looks random, by token, set and seed.
    fn noise(seed: u64, token: usize, set: &[u32]) -> f32 {
        let place = set.iter().fold(token as u64, |place, expert| 8 * place + u64::from(*expert));
        2.0 * Seed(seed).index(place).rng().random::<f32>() - 1.0
    }

    impl Planted {
        fn new(worth: [f32; 5]) -> Planted {
            let feed_forward = vec![FeedForwardShape::Routed { experts: 5, per_token: 2, expert_width: 1 }];
            let shape = SubjectShape {
                d_model: 1,
                vocab: 9,
                heads: 1,
                head_dim: 1,
                feed_forward,
                options: Default::default(),
            };
            Planted { shape, worth, noise: None }
        }
    }

    impl Subject for Planted {
        fn shape(&self) -> &SubjectShape {
            &self.shape
        }

        fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
            let tokens = request.tokens;
            let routes = match request.edits {
                [Edit::Route { change: RouteEdit::Replay { choices }, .. }] => choices.clone(),
                _ => [0, 1].repeat(tokens.len()),
            };
            let followed = |token: &usize| !(token + 1).is_multiple_of(tokens.positions());
            let loss = |token: usize| {
                let set = &routes[2 * token..2 * token + 2];
                let drawn = self.noise.map_or(0.0, |seed| noise(seed, token, set));
                4.0 + drawn - set.iter().map(|e| self.worth[*e as usize]).sum::<f32>()
            };
            let loss = (0..tokens.len()).filter(followed).map(loss).collect();
            let point = HookPoint::block(Site::RouterIndices, 0);
            let chosen = ValueData::Integer(routes.iter().map(|e| i64::from(*e)).collect());
            let value = Value::new(point, vec![tokens.batch(), tokens.positions(), 2], chosen, None).unwrap();
            Ok(Observation { values: BTreeMap::from([(point, value)]), loss, ..Observation::default() })
        }

        fn unembed(&mut self, _: &[f32]) -> Result<Vec<f32>, SubjectError> {
            Err(SubjectError::Input { reason: "the planted subject has no residual stream".into() })
        }
    }

    fn run(worth: [f32; 5], seed: u64) -> LayerRegret {
        let samples = [Sample::one_document_each(Tokens::new(vec![1; 160], 20, 8).unwrap(), 0)];
        let resampling = Resampling {
            replicates: 200,
            level: 0.95,
            method: BootstrapMethod::Percentile,
            seed: Seed(seed),
        };
        routing_regret(&mut Planted::new(worth), &samples, Seed(seed), resampling).unwrap()[0]
    }

    #[test]
    fn one_token_by_hand() {
        let losses = [2.0, 3.0, 1.0, 2.0];
        assert_eq!((regret(&losses, 0), regret(&losses, 1), regret(&losses, 2)), (1.0, 2.0, 0.0));
        assert_eq!((advantage(&losses), rank(&losses)), (0.0, 0.5));
    }

    #[test]
    fn the_best_experts_leave_nothing_to_regret_and_the_worst_much() {
        let best = run([1.0, 1.0, 0.0, 0.0, 0.0], 1);
        assert_eq!((best.regret.high, best.rank.high, best.tokens), (0.0, 0.0, 40));
        assert!(best.advantage.low > 1.0 && best.null > 1.0, "{best:?}");
        let worst = run([0.0, 0.0, 1.0, 1.0, 1.0], 1);
        assert!(worst.advantage.high < -0.5 && worst.regret.low > worst.null, "{worst:?}");
        assert_eq!(table(&[worst]).unwrap().rows(), 1);
    }

    #[test]
    fn experts_of_equal_worth_are_no_better_and_no_worse() {
        let equal = run([0.5; 5], 1);
        assert_eq!((equal.regret.estimate, equal.advantage.estimate, equal.rank.estimate), (0.0, 0.0, 0.5));
    }

    #[test]
    fn a_choice_like_any_other_is_called_better_or_worse_at_the_stated_rate() {
        // Every set of every token has a loss of its own that nobody knows: 40 sequences, each a document.
        let samples = [Sample::one_document_each(Tokens::new(vec![1; 320], 40, 8).unwrap(), 0)];
        let excludes = |seed: &u64| {
            let method = BootstrapMethod::Percentile;
            let resampling = Resampling { replicates: 400, level: 0.95, method, seed: Seed(*seed) };
            let mut subject = Planted { noise: Some(*seed), ..Planted::new([0.0; 5]) };
            let found = routing_regret(&mut subject, &samples, Seed(*seed), resampling).unwrap()[0];
            [
                found.advantage.low > 0.0,
                found.advantage.high < 0.0,
                found.rank.low > 0.5 || found.rank.high < 0.5,
                found.regret.low > found.null || found.regret.high < found.null,
            ]
        };
        let alarms: Vec<[bool; 4]> = (0..200).map(|seed| excludes(&seed)).collect();
        let rate = |of: usize| alarms.iter().filter(|alarm| alarm[of]).count() as f64 / 200.0;
        // One side at 2.5 % and two at 5 %, beyond which a valid test comes once in a thousand times.
        assert!(rate(0) <= 0.065 && rate(1) <= 0.065, "{} {}", rate(0), rate(1));
        assert!(rate(2) <= 0.105 && rate(3) <= 0.105, "{} {}", rate(2), rate(3));
    }

    #[test]
    fn the_names_of_experts_do_not_matter() {
        let (first, second) = (run([1.0, 0.0, 0.3, 0.0, 0.5], 2), run([0.0, 1.0, 0.3, 0.5, 0.0], 3));
        assert!((first.advantage.estimate - second.advantage.estimate).abs() < 0.2);
    }

    #[test]
    fn a_router_without_a_choice_is_refused() {
        let mut planted = Planted::new([0.0; 5]);
        planted.shape.feed_forward[0] =
            FeedForwardShape::Routed { experts: 2, per_token: 2, expert_width: 1 };
        let resampling =
            Resampling { replicates: 10, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        assert!(routing_regret(&mut planted, &[], Seed(1), resampling).is_err());
    }
}
