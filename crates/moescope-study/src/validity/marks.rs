//! Models whose first layer routes at random and leaves a mark of its expert, which later layers read.

use moescope_base::Seed;
use moescope_model::RouterKind;

use super::hand::{ANSWER, BEFORE, CONSTANT, EXPERTS, Hand, MARK, TOKEN, VOCABULARY, WIDTH, normal};
use super::worlds::{random, read_answers};
use crate::StudyError;

/// Experts of the first layer leave marks.
fn leave_marks(hand: &mut Hand, strength: f32) {
    (0..EXPERTS).for_each(|expert| hand.neuron((0, expert, 0), CONSTANT, MARK + expert, strength));
}

/// A layer sends every token to the experts of the same numbers as those that have left their marks.
fn route_by_mark(hand: &mut Hand, layer: usize) {
    for (expert, row) in hand.router(layer).chunks_exact_mut(WIDTH).enumerate() {
        row.fill(0.0);
        row[MARK + expert] = 1.0;
    }
}

/// Experts of a layer read which half of the vocabulary a token is in, and predict by it, odd experts the other way round.
fn fork(hand: &mut Hand, layer: usize, strength: f32) {
    hand.every_token(|token| [(BEFORE + token % 2, 1.0)]);
    for expert in 0..EXPERTS {
        for half in 0..2 {
            hand.neuron((layer, expert, half), BEFORE + half, ANSWER + (half + expert) % 2, strength);
        }
    }
    read_answers(hand, 0.5);
}

/// A mark that is small beside what says the token.
const FAINT: f32 = 0.05;

pub(super) fn dependent(seed: Seed) -> Result<Hand, StudyError> {
    let [first] = random(seed);
    let mut hand = Hand::new([first, RouterKind::Learned], seed)?;
    leave_marks(&mut hand, FAINT);
    route_by_mark(&mut hand, 1);
    Ok(hand)
}

pub(super) fn fragile(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = dependent(seed)?;
    for expert in 0..EXPERTS {
        hand.neuron((1, expert, 0), CONSTANT, ANSWER + expert, 1.0);
    }
    read_answers(&mut hand, 0.5);
    Ok(hand)
}

pub(super) fn rash(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = dependent(seed)?;
    hand.neuron((1, 6, 0), CONSTANT, ANSWER, 1.0);
    read_answers(&mut hand, 1.0);
    Ok(hand)
}

/// The expert of the second layer, which follows from that of the first, decides what a token is told to predict.
pub(super) fn forked(seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = dependent(seed)?;
    fork(&mut hand, 1, 1.0);
    Ok(hand)
}

/// Marks of the first layer, of which one is read in the second. A constant that is large beside them keeps the norm as it is, so that
/// a mark is seen by those alone who read it.
pub(super) fn read_mark(seed: Seed) -> Result<Hand, StudyError> {
    let [first] = random(seed);
    let mut hand = Hand::new([first, RouterKind::Learned], seed)?;
    hand.every_token(|_| [(MARK + EXPERTS, 10.0)]);
    leave_marks(&mut hand, 2.0);
    hand.neuron((1, 5, 0), MARK + 2, ANSWER + 7, 4.0);
    let mut rng = seed.child("router").rng();
    for row in hand.router(1).chunks_exact_mut(WIDTH) {
        row.fill(0.0);
        row[TOKEN..TOKEN + VOCABULARY].iter_mut().for_each(|weight| *weight = normal(&mut rng));
    }
    read_answers(&mut hand, 1.0);
    Ok(hand)
}

/// Three layers: the second, between the mark and its reader, sends all tokens to the same two experts, which write nothing.
pub(super) fn answer_by_path(seed: Seed) -> Result<Hand, StudyError> {
    let [first] = random(seed);
    let mut hand = three([first, RouterKind::Learned, RouterKind::Learned], 2, seed)?;
    let rows = hand.router(1);
    rows.fill(0.0);
    [(2, 3.0), (6, 2.0)].into_iter().for_each(|(expert, weight)| rows[expert * WIDTH + CONSTANT] = weight);
    Ok(hand)
}

/// Three layers: the last routes at random and writes nothing.
pub(super) fn answer_by_expert(seed: Seed) -> Result<Hand, StudyError> {
    let [first, last] = random(seed);
    three([first, RouterKind::Learned, last], 1, seed)
}

/// Three layers of which one reads the mark of the first and predicts by it.
fn three(kinds: [RouterKind; 3], reader: usize, seed: Seed) -> Result<Hand, StudyError> {
    let mut hand = Hand::new(kinds, seed)?;
    leave_marks(&mut hand, FAINT);
    route_by_mark(&mut hand, reader);
    fork(&mut hand, reader, 4.0);
    Ok(hand)
}
