//! The one forward pass, with its sites in order.

use moescope_base::{HookPoint, Site, Tokens};
use moescope_engine::{Mode, ParameterId, Rotary, RoutePlan, Tape, Var};

use crate::ModelError;
use crate::blocks;
use crate::edits::EditBook;
use crate::model::Model;
use crate::pass::{Forward, Heard, LayerRoutes, Pass};

/// Whether a pass may be asked for the gradients of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// Gradients of the trained parameters are kept.
    Trained,
    /// The weights are constants; gradients of values can still be watched.
    Constant,
}

/// The state of one pass.
///
/// Blocks and routers take it whole; what they compute goes through [`at`](Run::at), where edits and listener meet it.
pub(crate) struct Run<'r, 'w, 'a> {
    pub(crate) model: &'w Model,
    pub(crate) tape: &'r mut Tape<'w>,
    pub(crate) tokens: &'r Tokens,
    pub(crate) pass: &'r mut Pass<'a>,
    /// The pass's edits, checked and sorted by place.
    pub(crate) edits: EditBook<'a>,
    /// Tables for all positions of the batch.
    pub(crate) rotary: Rotary,
    weights: Weights,
}

impl Model {
    /// Runs the model on a batch and puts everything on the tape.
    ///
    /// Trained parameters are leaves under their place in [`parameters`](Model::parameters); frozen ones are constants.
    ///
    /// The logits are those of every position, `[token, vocab]`, where `token = sequence * positions + position`.
    /// There is no cache of keys and values: each pass computes the whole batch.
    ///
    /// # Errors
    /// - [`ModelError::Tokens`] for an id outside the vocabulary or too long a sequence;
    /// - [`ModelError::Hook`] or [`ModelError::Edit`] for an edit that cannot take effect.
    pub fn forward<'w>(
        &'w self,
        tape: &mut Tape<'w>,
        tokens: &Tokens,
        pass: &mut Pass<'_>,
    ) -> Result<Forward, ModelError> {
        self.forward_with(tape, tokens, pass, Weights::Trained)
    }

    /// The same, with a say in whether the weights' gradients will be asked for; when not, the way back skips their
    /// products.
    pub(crate) fn forward_with<'w>(
        &'w self,
        tape: &mut Tape<'w>,
        tokens: &Tokens,
        pass: &mut Pass<'_>,
        weights: Weights,
    ) -> Result<Forward, ModelError> {
        self.check_tokens(tokens)?;
        let edits = EditBook::new(self.description(), pass.edits, tokens.len())?;
        let rotary = self.rotary(tokens.positions());
        Run { model: self, tape, tokens, pass, edits, rotary, weights }.all()
    }

    /// Refuses ids outside the vocabulary and sequences longer than the model takes.
    fn check_tokens(&self, tokens: &Tokens) -> Result<(), ModelError> {
        let (vocab, longest) = (self.description().vocab, self.description().max_positions);
        if tokens.positions() > longest {
            let wanted = format!("at most {longest} (the model's `max_positions`)");
            return Err(ModelError::tokens("the sequence length", tokens.positions(), wanted));
        }
        match tokens.ids().iter().find(|id| **id as usize >= vocab) {
            Some(id) => Err(ModelError::tokens("a token id", id, format!("ids below {vocab}"))),
            None => Ok(()),
        }
    }
}

impl Run<'_, '_, '_> {
    /// From ids to logits.
    fn all(mut self) -> Result<Forward, ModelError> {
        let layout = self.model.layout();
        let table = self.weight(layout.embedding);
        let embedded = self.tape.embedding(table, self.tokens.ids())?; // [token, model]
        let mut residual = self.at(HookPoint::global(Site::Embed), embedded)?;
        let mut routes = Vec::new();
        for layer in 0..layout.blocks.len() {
            residual = self.block(layer, residual, &mut routes)?;
        }
        let normalised = self.norm(residual, layout.final_norm)?;
        let normalised = self.at(HookPoint::global(Site::FinalNormalized), normalised)?;
        let unembedding = self.weight(layout.unembedding);
        let logits = self.tape.linear(normalised, unembedding)?; // [token, vocab]
        let logits = self.at(HookPoint::global(Site::Logits), logits)?;
        Ok(Forward { logits, routes })
    }

    /// One block, `[token, model]` → `[token, model]`. Both halves read a normalised stream and add to the plain one.
    fn block(&mut self, layer: usize, x: Var, routes: &mut Vec<LayerRoutes>) -> Result<Var, ModelError> {
        let index = self.model.layout().blocks[layer];
        let before = self.at(HookPoint::block(Site::ResidPre, layer), x)?;
        let normalised = self.norm(before, index.attention_norm)?;
        let attention = blocks::attention(self, layer, normalised)?;
        let attention = self.at(HookPoint::block(Site::AttnOut, layer), attention)?;
        let middle = self.tape.add(before, attention)?;
        let middle = self.at(HookPoint::block(Site::ResidMid, layer), middle)?;
        self.forget(&[x, before, normalised, attention]);
        let normalised = self.norm(middle, index.feed_forward_norm)?;
        let input = self.at(HookPoint::block(Site::MlpIn, layer), normalised)?;
        let output = blocks::feed_forward(self, layer, input, routes)?;
        let output = self.at(HookPoint::block(Site::MlpOut, layer), output)?;
        let after = self.tape.add(middle, output)?;
        self.forget(&[middle, input, output]);
        self.at(HookPoint::block(Site::ResidPost, layer), after)
    }

    /// A weight on the tape.
    pub(crate) fn weight(&mut self, place: usize) -> Var {
        let parameter = &self.model.parameters()[place];
        match parameter.trained && self.weights == Weights::Trained {
            true => self.tape.parameter(ParameterId(place), &parameter.tensor),
            false => self.tape.frozen(&parameter.tensor),
        }
    }

    /// The addend of every norm, in the engine's precision.
    pub(crate) fn epsilon(&self) -> f32 {
        self.model.description().norm_epsilon as f32
    }

    /// RMSNorm over the last axis with the weights at `place`.
    pub(crate) fn norm(&mut self, x: Var, place: usize) -> Result<Var, ModelError> {
        let weight = self.weight(place);
        let epsilon = self.epsilon();
        Ok(self.tape.rms_norm(x, weight, epsilon)?)
    }

    /// Passes a site: edits first, then the listener.
    pub(crate) fn at(&mut self, point: HookPoint, var: Var) -> Result<Var, ModelError> {
        let var = self.edits.change(self.tape, point, var, self.tokens)?;
        self.tell(point, Heard::Whole(var));
        Ok(var)
    }

    /// Passes a site of every expert of a layer; `var[slot_row, column]`.
    pub(crate) fn at_experts(
        &mut self,
        site: Site,
        layer: usize,
        var: Var,
        plan: &RoutePlan,
    ) -> Result<Var, ModelError> {
        let mut var = var;
        for expert in 0..plan.experts() {
            var = self.edits.change_expert(self.tape, HookPoint::expert(site, layer, expert), var, plan)?;
        }
        if self.pass.listener.is_some() {
            for expert in 0..plan.experts() {
                let rows = plan.offsets()[expert]..plan.offsets()[expert + 1];
                let tokens = &plan.row_tokens()[rows.clone()];
                self.tell(HookPoint::expert(site, layer, expert), Heard::Expert { var, rows, tokens });
            }
        }
        Ok(var)
    }

    /// Whether an edit or the listener meets this site of any expert of the layer.
    pub(crate) fn meets_experts(&self, site: Site, layer: usize, experts: usize) -> bool {
        let mut points = (0..experts).map(|expert| HookPoint::expert(site, layer, expert));
        points.any(|point| {
            let listener = self.pass.listener.as_deref();
            self.edits.touches(point) || listener.is_some_and(|listener| listener.wants(&point))
        })
    }

    /// Lets the listener hear a value, if it wants to.
    pub(crate) fn tell(&mut self, point: HookPoint, value: Heard<'_>) {
        if let Some(listener) = self.pass.listener.as_deref_mut()
            && listener.wants(&point)
        {
            listener.hear(point, self.tape, value);
        }
    }

    /// Frees values that the rest of an inference pass does not read.
    pub(crate) fn forget(&mut self, vars: &[Var]) {
        if self.tape.mode() == Mode::Inference {
            vars.iter().for_each(|var| self.tape.release(*var));
        }
    }
}
