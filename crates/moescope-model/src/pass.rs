//! One run of the forward pass: what it is asked, and who listens.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use moescope_base::{Edit, HookPoint};
use moescope_engine::{RoutePlan, Tape, Var};

/// What one forward pass is asked, besides the tokens.
pub struct Pass<'a> {
    /// Enters the choice of a random router, and nothing else; training passes the step.
    pub salt: u64,
    /// Changes inside the pass, in order.
    pub edits: &'a [Edit],
    /// Who hears the values, if anyone. Listening changes no bit of them.
    pub listener: Option<&'a mut dyn Listener>,
    /// Ends the pass with [`ModelError::Stopped`](crate::ModelError::Stopped) before the next block once it is set.
    pub stop: Option<&'a AtomicBool>,
}

impl Pass<'_> {
    /// No salt, no edit, no listener, and nothing that stops it.
    pub fn plain() -> Pass<'static> {
        Pass { salt: 0, edits: &[], listener: None, stop: None }
    }
}

/// Hears the values of a forward pass, site after site.
pub trait Listener {
    /// Whether to hear this point.
    fn wants(&self, point: &HookPoint) -> bool;

    /// A value, after the edits at its point.
    ///
    /// In [`Mode::Inference`](moescope_engine::Mode) values are freed once the pass has used them: copy what you want to keep.
    fn hear(&mut self, point: HookPoint, tape: &mut Tape<'_>, value: Heard<'_>);
}

/// A value as a listener gets it.
#[derive(Clone, Debug)]
pub enum Heard<'a> {
    /// All entries of a variable; the rows are tokens, or attention queries.
    Whole(Var),
    /// The rows of one expert.
    Expert {
        /// The variable of all experts of the layer, `[slot_row, column]`.
        var: Var,
        /// Slot rows of this expert.
        rows: Range<usize>,
        /// Token of each of these rows.
        tokens: &'a [u32],
    },
    /// Numbers that are not on the tape, because nothing flows through them: `[token, expert]`.
    Numbers(&'a [f32]),
    /// The routes of a layer.
    Routes(&'a RoutePlan),
    /// The router has no such value: it does not score.
    Unscored {
        /// Number of experts.
        experts: usize,
    },
}

/// What a forward pass leaves on the tape.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Next-token logits, `[token, vocab]`.
    pub logits: Var,
    /// Routes of the routed layers, in order.
    pub routes: Vec<LayerRoutes>,
}

/// The routes of one layer.
///
/// What training needs for its balancing losses; analyses listen at the router's sites.
#[derive(Clone, Debug)]
pub struct LayerRoutes {
    /// Block.
    pub layer: usize,
    /// Which token went to which expert.
    pub plan: Arc<RoutePlan>,
    /// Router logits `[token, expert]`, after edits; none where the router does not score.
    pub logits: Option<Var>,
    /// Scores over all experts `[token, expert]`; none where the router does not score.
    pub scores: Option<Var>,
    /// Weights as applied, `[token, slot]`.
    pub weights: Var,
}
