//! The one forward pass, with its sites in order.

use std::ops::Range;
use std::sync::atomic::Ordering;

use moescope_base::{Edit, HookPoint, Site, Tokens};
use moescope_engine::{Mode, ParameterId, Rotary, RoutePlan, Tape, Tensor, Var};

use crate::ModelError;
use crate::blocks;
use crate::edits::EditBook;
use crate::model::Model;
use crate::parameters::{Linear, NormIndex};
use crate::pass::{Forward, Heard, LayerRoutes, Pass};
use crate::streams::{Stage, Start};
use crate::variation::Variation;

/// Logits from what the unembedding says: scaled, then capped.
pub(crate) fn read_out(
    tape: &mut Tape<'_>,
    unembedded: Var,
    variation: &Variation,
) -> Result<Var, ModelError> {
    let logits = scaled(tape, unembedded, variation.logit_scale)?;
    Ok(match variation.logit_cap {
        Some(cap) => tape.soft_cap(logits, cap as f32)?,
        None => logits,
    })
}

/// A multiple, or the value itself where the factor is one.
pub(crate) fn scaled(tape: &mut Tape<'_>, x: Var, factor: f64) -> Result<Var, ModelError> {
    Ok(if factor == 1.0 { x } else { tape.scale(x, factor as f32)? })
}

/// Whether a pass may be asked for the gradients of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// Gradients of the trained parameters are kept.
    Trained,
    /// The weights are constants; gradients of values can still be watched.
    Constant,
}

/// How much of the model a pass goes through, and what for.
pub(crate) struct Course<'s> {
    /// What becomes of the weights.
    pub(crate) weights: Weights,
    /// Where it begins.
    pub(crate) start: &'s mut Start,
    /// Where it ends.
    pub(crate) end: End,
}

/// The last part of the model that a pass goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The stream that enters the first block.
    Embedding,
    /// The router of a block; nothing behind it is asked for.
    Router(usize),
    /// A block.
    Block(usize),
    /// The unembedding.
    Logits,
}

impl End {
    /// Where all of these points are known and all edits were met, so that one that cannot take effect is refused.
    pub(crate) fn after(points: &[HookPoint], edits: &[Edit]) -> End {
        let of = |point: &HookPoint| match (point.layer(), point.site()) {
            (Some(layer), site) if is_of_router(site) => End::Router(layer),
            (Some(layer), _) => End::Block(layer),
            (None, Site::Embed | Site::PosEmbed) => End::Embedding,
            (None, _) => End::Logits,
        };
        let edited = edits.iter().map(|edit| match edit {
            Edit::Value { at, .. } => of(at),
            Edit::Route { layer, .. } => End::Block(*layer as usize),
        });
        let ends = points.iter().map(of).chain(edited);
        ends.max_by_key(|end| end.depth()).unwrap_or(End::Embedding)
    }

    /// The last stage that the pass comes to.
    pub(crate) fn reaches(self, layers: usize) -> Option<Stage> {
        match self {
            End::Embedding => None,
            End::Router(layer) | End::Block(layer) => Some(Stage::between(layer)),
            End::Logits => Some(Stage::block(layers)),
        }
    }

    /// Which of two ends is later.
    fn depth(self) -> (usize, bool) {
        match self {
            End::Embedding => (0, false),
            End::Router(layer) => (1 + layer, false),
            End::Block(layer) => (1 + layer, true),
            End::Logits => (usize::MAX, true),
        }
    }

    /// Whether the pass enters a block.
    fn enters(self, layer: usize) -> bool {
        self.depth().0 > layer
    }
}

/// Whether a value is known before any expert runs.
fn is_of_router(site: Site) -> bool {
    use Site::{RouterIn, RouterIndices, RouterLogits, RouterScores, RouterSelect, RouterWeights};
    matches!(site, RouterIn | RouterIndices | RouterLogits | RouterScores | RouterSelect | RouterWeights)
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
    /// Tables for all positions of the batch, where queries and keys turn.
    pub(crate) rotary: Option<Rotary>,
    course: Course<'r>,
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
    /// - [`ModelError::Hook`] or [`ModelError::Edit`] for an edit that cannot take effect;
    /// - [`ModelError::Stopped`] when the pass was asked to stop.
    pub fn forward<'w>(
        &'w self,
        tape: &mut Tape<'w>,
        tokens: &Tokens,
        pass: &mut Pass<'_>,
    ) -> Result<Forward, ModelError> {
        let course = Course { weights: Weights::Trained, start: &mut Start::default(), end: End::Logits };
        let forward = self.forward_along(tape, tokens, pass, course)?;
        Ok(forward.expect("a pass to the logits has logits"))
    }

    /// The same, with a say in whether the weights' gradients will be asked for; when not, the way back skips their
    /// products. Nothing comes out of a pass that ends before the logits but what its listener heard, and a listener hears nothing of what
    /// lies before the stage at which a pass begins.
    pub(crate) fn forward_along<'w>(
        &'w self,
        tape: &mut Tape<'w>,
        tokens: &Tokens,
        pass: &mut Pass<'_>,
        course: Course<'_>,
    ) -> Result<Option<Forward>, ModelError> {
        if self.is_streamed() && tape.mode().has_gradients() {
            return Err(ModelError::Streamed { what: "a pass with gradients" });
        }
        self.check_tokens(tokens)?;
        let edits = EditBook::new(self.description(), pass.edits, tokens.len())?;
        let rotary = self.rotary(tokens.positions());
        Run { model: self, tape, tokens, pass, edits, rotary, course }.all()
    }

    /// Logits that the final norm and the unembedding read from residual-stream vectors, `[row, model]` → `[row, vocab]`.
    pub(crate) fn unembed(&self, residual: &[f32]) -> Result<Vec<f32>, ModelError> {
        let (description, layout) = (self.description(), self.layout());
        let mut tape = Tape::new(Mode::Inference);
        let rows = residual.len() / description.d_model;
        let x = tape.constant(Tensor::new([rows, description.d_model], residual.to_vec())?);
        let scale = self.lend(&mut tape, layout.final_norm.weight)?;
        let epsilon = description.norm_epsilon as f32;
        let normalised = match layout.final_norm.bias {
            Some(place) => {
                let bias = self.lend(&mut tape, place)?;
                tape.layer_norm(x, scale, bias, epsilon)?
            }
            None => tape.rms_norm(x, scale, epsilon)?,
        };
        let mut logits = self.product(&mut tape, normalised, layout.unembedding.weight)?; // [row, vocab]
        if let Some(place) = layout.unembedding.bias {
            let bias = self.lend(&mut tape, place)?;
            logits = tape.add_bias(logits, bias)?;
        }
        let logits = read_out(&mut tape, logits, &description.variation)?;
        Ok(tape.value(logits).data().to_vec())
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
    /// From ids, or the stream with which the pass begins, to logits, or until the end is reached.
    fn all(mut self) -> Result<Option<Forward>, ModelError> {
        let layout = self.model.layout();
        let layers = layout.blocks.len();
        let (from, mut residual) = match self.course.start.from.take() {
            Some((stage, stream)) => (stage, self.tape.constant(stream)),
            None => (Stage::block(0), self.embed()?),
        };
        let mut routes = Vec::new();
        for layer in from.layer()..layers {
            if !self.course.end.enters(layer) {
                return Ok(None);
            }
            self.stop_if_asked()?;
            let (before, mark) = (residual, self.tape.mark());
            residual = match from == Stage::between(layer) {
                true => self.second_half(layer, [before; 2], &mut routes)?,
                false => self.block(layer, before, &mut routes)?,
            };
            if self.model.is_streamed() {
                // Nothing of a block but its result outlives it, weights included.
                self.tape.discard_since(mark, residual);
                self.tape.discard(before);
                routes.clear();
            }
        }
        // What comes out of a block that was left behind its router is no stream.
        if self.course.end != End::Logits {
            return Ok(None);
        }
        self.stop_if_asked()?;
        self.meet(Stage::block(layers), residual);
        let last = self.model.description().norm_epsilon as f32;
        self.tell_scale(HookPoint::global(Site::FinalScale), residual, layout.final_norm, last);
        let normalised = self.norm(residual, layout.final_norm, last)?;
        let normalised = self.at(HookPoint::global(Site::FinalNormalized), normalised)?;
        let unembedded = self.linear(normalised, layout.unembedding)?; // [token, vocab]
        let logits = read_out(self.tape, unembedded, &self.model.description().variation)?;
        let logits = self.at(HookPoint::global(Site::Logits), logits)?;
        Ok(Some(Forward { logits, routes }))
    }

    /// Ends the pass where somebody wants it to end.
    fn stop_if_asked(&self) -> Result<(), ModelError> {
        match self.pass.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            true => Err(ModelError::Stopped),
            false => Ok(()),
        }
    }

    /// Leaves the stream at a stage for later passes, before edits and listener meet it.
    fn meet(&mut self, stage: Stage, stream: Var) {
        self.course.start.meet(stage, self.tape.value(stream));
    }

    /// The stream that enters the first block: a vector for each token, and one for its position where positions are learned.
    fn embed(&mut self) -> Result<Var, ModelError> {
        let (layout, variation) = (self.model.layout(), &self.model.description().variation);
        let embedded = self.look_up(layout.embedding, self.tokens.ids())?; // [token, model]
        let embedded = scaled(self.tape, embedded, variation.embedding_scale)?;
        let embedded = self.at(HookPoint::global(Site::Embed), embedded)?;
        let Some(place) = layout.positions else { return Ok(embedded) };
        let positions = self.tokens.positions() as u32;
        let places: Vec<u32> = (0..self.tokens.batch()).flat_map(|_| 0..positions).collect();
        let position = self.look_up(place, &places)?;
        let position = self.at(HookPoint::global(Site::PosEmbed), position)?;
        Ok(self.tape.add(embedded, position)?)
    }

    /// Whether the pass ends behind the router of this block.
    pub(crate) fn ends_at_router(&self, layer: usize) -> bool {
        self.course.end == End::Router(layer)
    }

    /// One block, `[token, model]` → `[token, model]`. Both halves read a normalised stream and add to the plain one.
    fn block(&mut self, layer: usize, x: Var, routes: &mut Vec<LayerRoutes>) -> Result<Var, ModelError> {
        self.meet(Stage::block(layer), x);
        let index = self.model.layout().blocks[layer];
        let before = self.at(HookPoint::block(Site::ResidPre, layer), x)?;
        let input = self.read(before, index.attention_norm, HookPoint::block(Site::AttnScale, layer))?;
        let input = self.at(HookPoint::block(Site::AttnIn, layer), input)?;
        let attention = blocks::attention(self, layer, input)?;
        let attention = self.written(attention, index.attention_out_norm)?;
        let attention = self.at(HookPoint::block(Site::AttnOut, layer), attention)?;
        let middle = self.tape.add(before, attention)?;
        self.forget(&[input, attention]);
        if !self.model.description().variation.parallel {
            self.forget(&[x, before]);
        }
        self.meet(Stage::between(layer), middle);
        self.second_half(layer, [before, middle], routes)
    }

    /// The feed-forward half of a block, of the stream before the block, which a parallel one reads, and the stream between the halves.
    fn second_half(
        &mut self,
        layer: usize,
        [before, middle]: [Var; 2],
        routes: &mut Vec<LayerRoutes>,
    ) -> Result<Var, ModelError> {
        let index = self.model.layout().blocks[layer];
        let parallel = self.model.description().variation.parallel;
        let middle = self.at(HookPoint::block(Site::ResidMid, layer), middle)?;
        let read = if parallel { before } else { middle };
        let normalised = self.read(read, index.feed_forward_norm, HookPoint::block(Site::MlpScale, layer))?;
        let normalised = self.at(HookPoint::block(Site::MlpIn, layer), normalised)?;
        let output = blocks::feed_forward(self, layer, normalised, routes)?;
        let output = self.written(output, index.feed_forward_out_norm)?;
        let output = self.at(HookPoint::block(Site::MlpOut, layer), output)?;
        let after = self.tape.add(middle, output)?;
        self.forget(&[before, middle, normalised, output]);
        self.at(HookPoint::block(Site::ResidPost, layer), after)
    }

    /// What one half of a block reads of the stream. Without a norm it is the stream, but as a value of its own, so that an edit or
    /// a gradient there is that of this half alone.
    fn read(&mut self, stream: Var, norm: Option<NormIndex>, scale: HookPoint) -> Result<Var, ModelError> {
        match norm {
            Some(norm) => {
                self.tell_scale(scale, stream, norm, self.epsilon());
                self.norm(stream, norm, self.epsilon())
            }
            None => Ok(self.tape.scale(stream, 1.0)?),
        }
    }

    /// What one half of a block adds to the stream: normalised and scaled where the model does so.
    fn written(&mut self, output: Var, norm: Option<NormIndex>) -> Result<Var, ModelError> {
        let output = norm.map_or(Ok(output), |norm| self.norm(output, norm, self.epsilon()))?;
        scaled(self.tape, output, self.model.description().variation.residual_scale)
    }

    /// A weight on the tape. Where weights are read as they are needed, it is freed at the end of its block.
    pub(crate) fn weight(&mut self, place: usize) -> Result<Var, ModelError> {
        if self.model.is_streamed() || self.course.weights == Weights::Constant {
            return self.model.lend(self.tape, place);
        }
        let parameter = &self.model.parameters()[place];
        Ok(match parameter.trained {
            true => self.tape.parameter(ParameterId(place), &parameter.tensor),
            false => self.tape.frozen(&parameter.tensor),
        })
    }

    /// Frees a weight that was read for one product; those in memory stay.
    pub(crate) fn done_with(&mut self, weight: Var) {
        if self.model.is_streamed() {
            self.tape.discard(weight);
        }
    }

    /// Rows of a table: `[id, model]`.
    fn look_up(&mut self, place: usize, ids: &[u32]) -> Result<Var, ModelError> {
        let Some(stock) = self.model.stock() else {
            let table = self.weight(place)?;
            return Ok(self.tape.embedding(table, ids)?);
        };
        let (rows, places) = stock.rows_named(place, &self.model.layout().specifications[place], ids)?;
        let rows = self.tape.constant(rows);
        let found = self.tape.embedding(rows, &places)?;
        self.tape.discard(rows);
        Ok(found)
    }

    /// The addend of every norm of a block, in the engine's precision.
    pub(crate) fn epsilon(&self) -> f32 {
        let description = self.model.description();
        description.variation.block_norm_epsilon.unwrap_or(description.norm_epsilon) as f32
    }

    /// A product, with its bias if it has one: `[row, input]` → `[row, output]`.
    pub(crate) fn linear(&mut self, x: Var, linear: Linear) -> Result<Var, ModelError> {
        let product = match self.model.is_streamed() {
            true => self.model.product(self.tape, x, linear.weight)?,
            false => {
                let weight = self.weight(linear.weight)?;
                self.tape.linear(x, weight)?
            }
        };
        self.biased(product, linear)
    }

    /// Adds the bias of a product, if it has one.
    pub(crate) fn biased(&mut self, product: Var, linear: Linear) -> Result<Var, ModelError> {
        let Some(bias) = linear.bias else { return Ok(product) };
        let bias = self.weight(bias)?;
        let sum = self.tape.add_bias(product, bias)?;
        self.forget(&[product]);
        Ok(sum)
    }

    /// A norm of the stream: LayerNorm if it has a bias, else RMSNorm.
    fn norm(&mut self, x: Var, norm: NormIndex, epsilon: f32) -> Result<Var, ModelError> {
        let Some(bias) = norm.bias else { return self.rms_norm(x, norm.weight, epsilon) };
        let (weight, bias) = (self.weight(norm.weight)?, self.weight(bias)?);
        Ok(self.tape.layer_norm(x, weight, bias, epsilon)?)
    }

    /// RMSNorm over the last axis with the weights at `place`.
    pub(crate) fn rms_norm(&mut self, x: Var, place: usize, epsilon: f32) -> Result<Var, ModelError> {
        let weight = self.weight(place)?;
        Ok(self.tape.rms_norm(x, weight, epsilon)?)
    }

    /// Passes a site: edits first, then the listener.
    pub(crate) fn at(&mut self, point: HookPoint, var: Var) -> Result<Var, ModelError> {
        let var = self.edits.change(self.tape, point, var, self.tokens)?;
        self.tell(point, Heard::Whole(var));
        Ok(var)
    }

    /// Passes a site of these experts of a layer; `var[slot_row, column]` holds their rows in the order of the plan.
    pub(crate) fn at_experts(
        &mut self,
        site: Site,
        layer: usize,
        var: Var,
        plan: &RoutePlan,
        experts: Range<usize>,
    ) -> Result<Var, ModelError> {
        let mut var = var;
        for expert in experts.clone() {
            var = self.edits.change_expert(self.tape, HookPoint::expert(site, layer, expert), var, plan)?;
        }
        if self.pass.listener.is_some() {
            for expert in experts {
                let rows = plan.offsets()[expert]..plan.offsets()[expert + 1];
                let tokens = &plan.row_tokens()[rows.clone()];
                self.tell(HookPoint::expert(site, layer, expert), Heard::Expert { var, rows, tokens });
            }
        }
        Ok(var)
    }

    /// Whether an edit or the listener meets this site of any expert of the layer.
    pub(crate) fn meets_experts(&self, site: Site, layer: usize, experts: usize) -> bool {
        (0..experts).any(|expert| self.meets(HookPoint::expert(site, layer, expert)))
    }

    /// Whether an edit changes this site of any expert of the layer.
    pub(crate) fn edits_experts(&self, site: Site, layer: usize, experts: usize) -> bool {
        (0..experts).any(|expert| self.edits.touches(HookPoint::expert(site, layer, expert)))
    }

    /// Whether an edit or the listener meets this site.
    pub(crate) fn meets(&self, point: HookPoint) -> bool {
        let listener = self.pass.listener.as_deref();
        self.edits.touches(point) || listener.is_some_and(|listener| listener.wants(&point))
    }

    /// Lets the listener hear a value, if it wants to.
    pub(crate) fn tell(&mut self, point: HookPoint, value: Heard<'_>) {
        if let Some(listener) = self.pass.listener.as_deref_mut()
            && listener.wants(&point)
        {
            listener.hear(point, self.tape, value);
        }
    }

    /// Lets the tape free values that the rest of the forward pass does not read.
    pub(crate) fn forget(&mut self, vars: &[Var]) {
        match self.model.is_streamed() {
            // Products that were made in parts are no results of one operation.
            true => vars.iter().for_each(|var| self.tape.discard(*var)),
            false => vars.iter().for_each(|var| self.tape.release(*var)),
        }
    }
}
