//! Small plans and a learnable pattern, for the tests of this crate.

use std::sync::atomic::AtomicBool;

use moescope_base::{Seed, Tokens};
use moescope_model::{Description, FeedForward, Routed, Router, RouterKind, Variation};

use crate::{Balance, Batch, Batches, Outcome, Schedule, TrainPlan, Trained, train};

/// One of each kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Dense,
    TopKDense,
    Moe,
    Hash,
    Frozen,
    Random,
    Committee,
}

impl Family {
    pub(crate) const ALL: [Family; 7] = [
        Family::Dense,
        Family::TopKDense,
        Family::Moe,
        Family::Hash,
        Family::Frozen,
        Family::Random,
        Family::Committee,
    ];

    fn feed_forward(self) -> FeedForward {
        match self {
            Family::Dense => FeedForward::Dense { width: 32 },
            Family::TopKDense => FeedForward::TopKDense { width: 64, active: 32 },
            Family::Moe => routed(RouterKind::Learned),
            Family::Hash => routed(RouterKind::Hash { seed: 3 }),
            Family::Frozen => routed(RouterKind::Frozen),
            Family::Random => routed(RouterKind::Random { seed: 3 }),
            Family::Committee => routed(RouterKind::Committee { members: 2 }),
        }
    }
}

fn routed(kind: RouterKind) -> FeedForward {
    let router = Router { kind, ..Router::learned(false) };
    FeedForward::Routed(Routed { experts: 4, expert_width: 16, per_token: 2, router, shared: None })
}

/// Two blocks of width 16, batches of 4 sequences of 16.
pub(crate) fn plan(family: Family, steps: u64) -> TrainPlan {
    TrainPlan {
        description: Description {
            vocab: 24,
            d_model: 16,
            heads: 2,
            key_value_heads: 2,
            head_dim: 8,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-6,
            max_positions: 16,
            tied_embeddings: false,
            qk_norm: true,
            feed_forward: vec![family.feed_forward(); 2],
            variation: Variation::default(),
        },
        seed: 7,
        steps,
        batch: 4,
        positions: 16,
        learning_rate: 1e-2,
        schedule: Schedule::Trapezoid { warmup: 0, decay: 0 },
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        clip: 1.0,
        balance: Balance { loss: 0.01, z_loss: 0.001, loss_free: None },
        checkpoints: Vec::new(),
        save_every: None,
        recompute: false,
    }
}

/// Sequences that repeat three tokens over and over: one of eight groups of three.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) seed: u64,
    pub(crate) vocab: usize,
    pub(crate) batch: usize,
    pub(crate) positions: usize,
}

impl Pattern {
    pub(crate) fn of(plan: &TrainPlan) -> Pattern {
        Pattern { seed: 1, vocab: plan.description.vocab, batch: plan.batch, positions: plan.positions }
    }
}

impl Batches for Pattern {
    fn batch(&self, step: u64) -> Batch {
        // The groups share no token, so a small model learns them in a few dozen steps.
        let start = |row: usize| Seed(self.seed).index(step).index(row as u64).child("start").0 % 8;
        let id = |row: usize, position: usize| (3 * start(row) + (position % 3) as u64) % self.vocab as u64;
        let ids = (0..self.batch).flat_map(|row| (0..self.positions).map(move |at| id(row, at) as u32));
        Batch::next_token(Tokens::new(ids.collect(), self.batch, self.positions).unwrap())
    }
}

/// Trains in memory to the end.
pub(crate) fn trained(plan: &TrainPlan, batches: &dyn Batches) -> Trained {
    match train(plan, batches, None, &mut |_| (), &AtomicBool::new(false)).unwrap() {
        Outcome::Done(trained) => trained,
        Outcome::Interrupted { step } => panic!("nobody stopped the run, yet it ended at step {step}"),
    }
}
