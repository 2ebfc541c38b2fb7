//! Models and texts in which one property is planted.

use std::f32::consts::TAU;

use moescope_analysis::instrument::Property;
use moescope_base::HookPoint;
use moescope_base::{Request, Seed, Site, Subject, Tokens};
use moescope_model::{Model, ModelSubject, RouterKind};
use rand::RngExt;
use rand::seq::SliceRandom;

use super::hand::{
    ANSWER, BEFORE, CONSTANT, DOMAIN, DOMAINS, EXPERTS, Hand, LAYERS, MARK, PLACE, PLACES, POSITIONS, TOKEN,
    VOCABULARY, WIDTH, normal,
};
use super::text::{self, Batch, Size, USUAL};
use super::{marks, sized};
use crate::StudyError;

/// A model and text for it.
pub(super) struct World {
    pub(super) model: Model,
    pub(super) batches: Vec<Batch>,
    /// A model to compare it with, where one is planted.
    pub(super) other: Option<Model>,
}

/// A world in which the property is planted.
pub(super) fn world(property: Property, seed: Seed) -> Result<World, StudyError> {
    let text_seed = seed.child("text");
    let with = |hand: Hand, batches: Vec<Batch>| Ok(World { model: hand.model(), batches, other: None });
    match property {
        Property::TokenRoutes => with(routed_by(TOKEN, VOCABULARY, seed)?, text::random(USUAL, text_seed)?),
        Property::DomainRoutes => with(domain_routes(seed)?, text::marked(USUAL, text_seed)?),
        Property::PositionRoutes => {
            let mut hand = routed_by(PLACE, PLACES, seed)?;
            turning_positions(&mut hand);
            predict_by_token(&mut hand, seed);
            with(hand, text::random(USUAL, text_seed)?)
        }
        Property::RandomRoutes => with(random_model(seed)?, text::random(USUAL, text_seed)?),
        Property::UnevenLoad => with(uneven(seed)?, text::random(USUAL, text_seed)?),
        Property::DependentLayers => with(marks::dependent(seed)?, text::random(USUAL, text_seed)?),
        Property::FragileRoutes => with(marks::fragile(seed)?, text::random(USUAL, text_seed)?),
        Property::RashExpert => with(marks::rash(seed)?, text::random(USUAL, text_seed)?),
        Property::ReadMark => with(marks::read_mark(seed)?, text::random(USUAL, text_seed)?),
        Property::FactExpert => fact_expert(seed),
        Property::TwinExperts => {
            let mut hand = useful_experts(seed)?;
            // The token alone decides, so that no expert, and no twin, is one that nobody chooses.
            hand.router(0).chunks_exact_mut(WIDTH).for_each(|row| row[CONSTANT] = 0.0);
            hand.twin(0, 2, 5);
            speaking(hand, 1.0, seed)
        }
        Property::PermutedTwin => {
            let hand = useful_experts(seed)?;
            let mut twin = hand.clone();
            let mut order: Vec<usize> = (0..EXPERTS).collect();
            // No expert keeps its name.
            order.rotate_left(1 + seed.child("names").rng().random_range(0..EXPERTS - 1));
            twin.rename(&order);
            beside(hand, twin, seed)
        }
        Property::EarlierSelf => {
            let hand = useful_experts(seed)?;
            let mut earlier = hand.clone();
            let mut rng = seed.child("earlier").rng();
            for layer in 0..LAYERS {
                let router = earlier.router(layer);
                let size = (router.iter().map(|x| x * x).sum::<f32>() / router.len() as f32).sqrt();
                router.iter_mut().for_each(|weight| *weight += 0.1 * size * normal(&mut rng));
            }
            beside(hand, earlier, seed)
        }
        Property::Strangers => {
            let stranger = useful_experts(seed.child("stranger"))?;
            beside(useful_experts(seed)?, stranger, seed)
        }
        Property::IndependentExperts => speaking(useful_experts(seed)?, 1.0, seed),
        Property::GradedExperts => {
            with(sized::graded(useful_experts(seed)?, seed), text::random(USUAL, text_seed)?)
        }
        Property::NarrowExpert => {
            with(sized::narrow(useful_experts(seed)?, seed), text::random(USUAL, text_seed)?)
        }
        Property::CrowdedRouters => with(router_rows(1.0, seed)?, text::random(USUAL, text_seed)?),
        Property::ScatteredRouters => with(router_rows(0.0, seed)?, text::random(USUAL, text_seed)?),
        Property::CurvedStream => with(placed(seed, curve)?, text::random(LONG, text_seed)?),
        Property::FlatStream => with(placed(seed, flat)?, text::random(LONG, text_seed)?),
        Property::SparseFeatures => with(sparse_features(seed)?, text::random(USUAL, text_seed)?),
        Property::BlendedStream => with(blended(seed)?, text::random(MANY, text_seed)?),
        Property::SuperposedTokens => with(superposed(seed)?, text::random(USUAL, text_seed)?),
        Property::OrthogonalTokens => with(Hand::new(LEARNED, seed)?, text::random(USUAL, text_seed)?),
        Property::Overwriting => with(overwriting(seed)?, text::random(USUAL, text_seed)?),
        Property::EarlyAnswer => with(answering(0, seed)?, text::random(USUAL, text_seed)?),
        Property::LateAnswer => with(answering(1, seed)?, text::random(USUAL, text_seed)?),
        Property::ForkedAnswer => with(marks::forked(seed)?, text::random(USUAL, text_seed)?),
        Property::AnswerByPath => with(marks::answer_by_path(seed)?, text::random(USUAL, text_seed)?),
        Property::AnswerByExpert => with(marks::answer_by_expert(seed)?, text::random(USUAL, text_seed)?),
        Property::CopyingHead => with(copying(seed)?, text::random(USUAL, text_seed)?),
        Property::SilentHeads => with(Hand::new(LEARNED, seed)?, text::random(USUAL, text_seed)?),
        Property::TruePredictions => predicting(1.0, seed),
        Property::Overconfidence => predicting(2.5, seed),
        Property::DomainWords => with(Hand::new(LEARNED, seed)?, text::worded(USUAL, text_seed)?),
        Property::NarrowSpeech => with(narrow(seed)?, text::random(USUAL, text_seed)?),
    }
}

const LEARNED: [RouterKind; LAYERS] = [RouterKind::Learned; LAYERS];
/// Sequences that visit every position.
const LONG: Size = Size { documents: 4, positions: POSITIONS };
/// Documents enough, and long enough for means over many tokens.
const MANY: Size = Size { documents: 48, positions: 128 };

/// Layers that route at random.
pub(super) fn random<const N: usize>(seed: Seed) -> [RouterKind; N] {
    std::array::from_fn(|layer| RouterKind::Random { seed: seed.child("routes").index(layer as u64).0 })
}

/// Routers with random rows over these coordinates, and nothing elsewhere.
fn routed_by(first: usize, count: usize, seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(LEARNED, seed)?;
    for layer in 0..LAYERS {
        let mut rng = seed.child("router").index(layer as u64).rng();
        for row in hand.router(layer).chunks_exact_mut(WIDTH) {
            row.fill(0.0);
            row[first..first + count].iter_mut().for_each(|weight| *weight = normal(&mut rng));
        }
    }
    Ok(hand)
}

/// Attention keeps the mean of what the tokens so far say of the domain, and two experts belong to each domain.
fn domain_routes(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(LEARNED, seed)?;
    for token in 0..DOMAINS {
        hand.tokens()[token * WIDTH + DOMAIN + token] = 1.0;
    }
    for layer in 0..LAYERS {
        for domain in 0..DOMAINS {
            *hand.head(layer, "v_proj", domain, DOMAIN + domain) = 1.0;
            *hand.head(layer, "o_proj", DOMAIN + domain, domain) = 1.0;
        }
        for (expert, row) in hand.router(layer).chunks_exact_mut(WIDTH).enumerate() {
            row.fill(0.0);
            row[DOMAIN + expert * DOMAINS / EXPERTS] = 10.0;
        }
    }
    Ok(hand)
}

/// Positions as hands of clocks of different speed.
fn turning_positions(hand: &mut Hand) {
    for (position, vector) in hand.positions().chunks_exact_mut(WIDTH).enumerate() {
        for (clock, speed) in SPEEDS.iter().enumerate() {
            let angle = TAU * speed / CYCLE * position as f32;
            (vector[PLACE + 2 * clock], vector[PLACE + 2 * clock + 1]) = (angle.cos(), angle.sin());
        }
    }
}

/// Turns of each clock in [`CYCLE`] positions; no two positions of a short text look alike.
const SPEEDS: [f32; PLACES / 2] = [1.0, 3.0, 7.0, 13.0, 20.0, 29.0, 37.0, 45.0];
const CYCLE: f32 = 97.0;

fn uneven(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = routed_by(TOKEN, VOCABULARY, seed)?;
    for layer in 0..LAYERS {
        let rows = hand.router(layer);
        [2, 6].into_iter().for_each(|expert| rows[expert * WIDTH + CONSTANT] = 2.0);
    }
    Ok(hand)
}

/// Random routes between experts, heads that write nothing, and random predictions.
fn random_model(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::random(random::<LAYERS>(seed), seed)?;
    let mut rng = seed.child("unembedding").rng();
    hand.unembedding().iter_mut().for_each(|weight| *weight = 0.05 * normal(&mut rng));
    Ok(hand)
}

fn overwriting(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(random::<LAYERS>(seed), seed)?;
    for expert in 0..EXPERTS {
        hand.neuron((1, expert, 0), CONSTANT, MARK + expert, 10.0);
    }
    Ok(hand)
}

/// A quarter of the tokens is sent to expert 3 of the second layer, which knows what follows each of them; another quarter to expert 5.
fn fact_expert(seed: Seed) -> Result<World, StudyError> {
    let facts = VOCABULARY / 4;
    let mut hand = routed_by(TOKEN, VOCABULARY, seed)?;
    for (expert, sent) in [(3, 0..facts), (5, facts..2 * facts)] {
        let row = &mut hand.router(1)[expert * WIDTH..(expert + 1) * WIDTH];
        (0..VOCABULARY).for_each(|token| row[TOKEN + token] = if sent.contains(&token) { 3.0 } else { -3.0 });
    }
    let mut rng = seed.child("facts").rng();
    let mut law = vec![vec![1.0 / VOCABULARY as f64; VOCABULARY]; VOCABULARY];
    for (token, row) in law.iter_mut().enumerate().take(facts) {
        let follows = rng.random_range(0..VOCABULARY);
        row.fill(0.0);
        row[follows] = 1.0;
        hand.neuron((1, 3, token), TOKEN + token, ANSWER + follows, 1.0);
    }
    read_answers(&mut hand, 1.0);
    let batches = text::chained(USUAL, &law, seed.child("text"))?;
    Ok(World { model: hand.model(), batches, other: None })
}

/// Rows with a common part of this length, in units of twice the length of their random parts.
fn router_rows(common: f32, seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(LEARNED, seed)?;
    for layer in 0..LAYERS {
        let mut rng = seed.child("router").index(layer as u64).rng();
        let shared: Vec<f32> = (0..WIDTH).map(|_| common * normal(&mut rng)).collect();
        for row in hand.router(layer).chunks_exact_mut(WIDTH) {
            row.iter_mut()
                .zip(&shared)
                .for_each(|(weight, shared)| *weight = shared + 0.5 * normal(&mut rng));
        }
    }
    Ok(hand)
}

/// A stream that holds the vectors of positions alone, drawn one by one.
fn placed(
    seed: Seed,
    draw: fn(&mut rand_chacha::ChaCha8Rng) -> [f32; DIMENSIONS],
) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(LEARNED, seed)?;
    hand.tokens().fill(0.0);
    let mut rng = seed.child("positions").rng();
    for vector in hand.positions().chunks_exact_mut(WIDTH) {
        vector[PLACE..PLACE + DIMENSIONS].copy_from_slice(&draw(&mut rng));
    }
    Ok(hand)
}

/// Dimensions of the subspace in which curve and flat cloud lie.
const DIMENSIONS: usize = 8;

fn curve(rng: &mut rand_chacha::ChaCha8Rng) -> [f32; DIMENSIONS] {
    let angle = TAU * rng.random::<f32>();
    std::array::from_fn(|at| {
        let turn = angle * (at / 2 + 1) as f32;
        if at % 2 == 0 { turn.cos() } else { turn.sin() }
    })
}

fn flat(rng: &mut rand_chacha::ChaCha8Rng) -> [f32; DIMENSIONS] {
    std::array::from_fn(|_| normal(rng))
}

/// A direction for each token and each position, in as many dimensions as there are tokens.
fn sparse_features(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(LEARNED, seed)?;
    let mut rng = seed.child("features").rng();
    hand.tokens().fill(0.0);
    let fill = |table: &mut [f32], rng: &mut rand_chacha::ChaCha8Rng| {
        for row in table.chunks_exact_mut(WIDTH) {
            row[TOKEN..TOKEN + VOCABULARY].iter_mut().for_each(|x| *x = normal(rng));
        }
    };
    fill(hand.tokens(), &mut rng);
    fill(hand.positions(), &mut rng);
    Ok(hand)
}

/// A head that attends evenly to all tokens so far, and to the first of a document as to some two dozen of them, and writes a mean of random
/// vectors that is large beside all else. Without that weight of the first token, the means of the few tokens at the beginning,
/// which are sums of few vectors, would be larger than all others.
fn blended(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(LEARNED, seed)?;
    hand.positions()[PLACE] = 1.0;
    *hand.head(0, "q_proj", 0, CONSTANT) = 1.0;
    *hand.head(0, "k_proj", 0, PLACE) = 0.31;
    let mut rng = seed.child("blend").rng();
    for part in 0..BLENDED {
        for token in 0..VOCABULARY {
            *hand.head(0, "v_proj", part, TOKEN + token) = normal(&mut rng);
        }
        *hand.head(0, "v_proj", part, PLACE) = 0.0;
        *hand.head(0, "o_proj", ANSWER + part, part) = 100.0;
    }
    Ok(hand)
}

/// Every token as a sum of three of a few directions with signs of their own, so that the 48 tokens share twelve dimensions.
fn superposed(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(LEARNED, seed)?;
    let mut rng = seed.child("superposed").rng();
    for row in hand.tokens().chunks_exact_mut(WIDTH) {
        row[TOKEN..TOKEN + VOCABULARY].fill(0.0);
        let mut directions: Vec<usize> = (0..SHARED).collect();
        directions.shuffle(&mut rng);
        for direction in &directions[..3] {
            row[TOKEN + direction] = if rng.random() { 1.0 } else { -1.0 };
        }
    }
    Ok(hand)
}

/// Dimensions of the blend.
const BLENDED: usize = 12;

/// Directions that all tokens are sums of.
const SHARED: usize = 12;

/// Each token has one that follows it, and all experts of one layer know which.
fn answering(layer: usize, seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = routed_by(TOKEN, VOCABULARY, seed)?;
    let mut follows: Vec<usize> = (0..VOCABULARY).collect();
    follows.shuffle(&mut seed.child("answers").rng());
    for expert in 0..EXPERTS {
        for (neuron, next) in follows.iter().enumerate() {
            hand.neuron((layer, expert, neuron), TOKEN + neuron, ANSWER + next, 1.0);
        }
    }
    read_answers(&mut hand, 1.0);
    Ok(hand)
}

/// The unembedding reads which token comes next.
pub(super) fn read_answers(hand: &mut Hand, strength: f32) {
    for (token, row) in hand.unembedding().chunks_exact_mut(WIDTH).enumerate() {
        row[ANSWER + token] = strength;
    }
}

/// One head moves the previous token, the head above looks for the present token among those and copies what stands there.
fn copying(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(LEARNED, seed)?;
    turning_positions(&mut hand);
    for (clock, speed) in SPEEDS.iter().enumerate() {
        let (cos, sin) = ((TAU * speed / CYCLE).cos(), (TAU * speed / CYCLE).sin());
        let (x, y) = (2 * clock, 2 * clock + 1);
        // The query is the place one step back.
        for (row, column, weight) in [(x, x, cos), (x, y, sin), (y, y, cos), (y, x, -sin)] {
            *hand.head(0, "q_proj", row, PLACE + column) = 6.0 * weight;
        }
        *hand.head(0, "k_proj", x, PLACE + x) = 1.0;
        *hand.head(0, "k_proj", y, PLACE + y) = 1.0;
    }
    for token in 0..VOCABULARY {
        *hand.head(0, "v_proj", token, TOKEN + token) = 1.0;
        *hand.head(0, "o_proj", BEFORE + token, token) = 0.25;
        *hand.head(1, "q_proj", token, TOKEN + token) = 8.0;
        *hand.head(1, "k_proj", token, BEFORE + token) = 1.0;
        *hand.head(1, "v_proj", token, TOKEN + token) = 1.0;
        *hand.head(1, "o_proj", ANSWER + token, token) = 1.0;
    }
    read_answers(&mut hand, 1.0);
    Ok(hand)
}

/// Logits that the token alone decides, and text drawn from them, divided by a temperature.
fn predicting(temperature: f64, seed: Seed) -> Result<World, StudyError> {
    let mut hand = Hand::new(LEARNED, seed)?;
    predict_by_token(&mut hand, seed);
    speaking(hand, temperature, seed)
}

/// Random logits after each token, which nothing else decides.
fn predict_by_token(hand: &mut Hand, seed: Seed) {
    let mut rng = seed.child("logits").rng();
    for row in hand.unembedding().chunks_exact_mut(WIDTH) {
        row[TOKEN..TOKEN + VOCABULARY].iter_mut().for_each(|weight| *weight = 0.2 * normal(&mut rng));
    }
}

/// Routers that read the token, and a few tokens that are predicted whatever stands before.
fn narrow(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = routed_by(TOKEN, VOCABULARY, seed)?;
    for row in hand.unembedding().chunks_exact_mut(WIDTH).take(SPOKEN) {
        // The norm before brings the coordinate to about nine.
        row[CONSTANT] = 0.5;
    }
    Ok(hand)
}

/// Tokens of which a model of narrow speech speaks.
const SPOKEN: usize = 6;

/// Random experts, all of which the predictions depend on, and routers that read the token.
fn useful_experts(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::random(LEARNED, seed)?;
    for layer in 0..LAYERS {
        hand.down(layer).iter_mut().for_each(|weight| *weight *= LOUDNESS);
    }
    let mut rng = seed.child("unembedding").rng();
    hand.unembedding().iter_mut().for_each(|weight| *weight = 0.1 * normal(&mut rng));
    Ok(hand)
}

/// Factor of what experts write, so that most of a prediction is theirs.
const LOUDNESS: f32 = 8.0;

/// A model and its own text, and another model beside it.
fn beside(hand: Hand, other: Hand, seed: Seed) -> Result<World, StudyError> {
    Ok(World { other: Some(other.model()), ..speaking(hand, 1.0, seed)? })
}

/// A model of which the present token alone decides what is predicted, and text drawn from that, its logits divided by a temperature.
fn speaking(hand: Hand, temperature: f64, seed: Seed) -> Result<World, StudyError> {
    let mut subject = ModelSubject::new(hand.model());
    let each = Tokens::new((0..VOCABULARY as u32).collect(), VOCABULARY, 1)
        .map_err(moescope_analysis::AnalysisError::from)?;
    let point = HookPoint::global(Site::Logits);
    let seen = subject.run(&Request { record: &[point], ..Request::of(&each) })?;
    let logits = seen.values.get(&point).and_then(|value| value.real()).unwrap_or_default();
    let law: Vec<Vec<f64>> = logits.chunks_exact(VOCABULARY).map(|row| softmax(row, temperature)).collect();
    let batches = text::chained(USUAL, &law, seed.child("text"))?;
    Ok(World { model: subject.model().clone(), batches, other: None })
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|logit| (f64::from(*logit) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}
