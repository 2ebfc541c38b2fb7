//! A model as an analysis sees it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use moescope_base::{
    Axis, Edit, HookPoint, LogitTerm, Objective, Observation, Parameters, PassEnd, Request, Subject,
    SubjectError, SubjectShape, Tokens, Value, ValueData,
};
use moescope_engine::{Gradients, IGNORE, Mode, Tape, Tensor, Var};

use crate::ModelError;
use crate::forward::{Course, End, Weights};
use crate::model::Model;
use crate::pass::{Heard, Listener, Pass};
use crate::points;
use crate::replaced_weights::Part;
use crate::streams::{Stage, Start, Streams};
use crate::swap;

/// A model that answers the questions of [`Subject`].
///
/// Values are those after the edits at their point, and gradients are taken there. A router that does not score (hash, random)
/// has not-a-number as its logits, scores and selection scores. Gradients flow through the chosen experts and their weights, never
/// through the choice: that of what the top-k choice sees is zero.
///
/// Where the same tokens are run again and again, what lies before the first edit and the first point that is asked for is not
/// computed anew; no bit depends on it. For that up to 256 MiB of residual streams are kept, or what a
/// [plan](crate::MemoryPlan) leaves for them.
///
/// ```
/// use moescope_base::{Edit, HookPoint, LogitTerm, Objective, Request, RouteEdit, Seed, Site, Subject, TokenSelection, Tokens, ValueEdit};
/// # use moescope_model::{Description, FeedForward, Granularity, Model, ModelSubject, Router, Variation};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let experts = Granularity::warsaw(32, 4, 2)?;
/// # let description = Description {
/// #     vocab: 64, d_model: 16, heads: 2, key_value_heads: 2, head_dim: 8,
/// #     rope_theta: 10_000.0, norm_epsilon: 1e-6, max_positions: 32, tied_embeddings: false, qk_norm: true,
/// #     feed_forward: vec![FeedForward::Routed(experts.routed(Router::learned(true)))], variation: Variation::default(),
/// # };
/// let mut subject = ModelSubject::new(Model::initialise(description, Seed(1))?);
/// let (clean, corrupt) = (Tokens::new(vec![3, 1, 4], 1, 3)?, Tokens::new(vec![3, 2, 4], 1, 3)?);
/// let point = HookPoint::block(Site::ResidPost, 0);
/// let seen = subject.run(&Request { record: &[point], ..Request::of(&clean) })?;
///
/// // The clean run's residual stream at the last token in the corrupt run, without expert 2.
/// let patch = ValueEdit::patch_of(&seen.values[&point])?;
/// let edits = [
///     Edit::Route { layer: 0, change: RouteEdit::Ban { experts: vec![2] } },
///     Edit::Value { at: point, tokens: TokenSelection::Rows(vec![2]), change: patch },
/// ];
/// let terms = [
///     LogitTerm { token: 5, position: 2, factor: 1.0 },
///     LogitTerm { token: 9, position: 2, factor: -1.0 },
/// ];
/// let request = Request { edits: &edits, gradients: &[point], objective: Objective::Logits(&terms), ..Request::of(&corrupt) };
/// assert_eq!(subject.run(&request)?.gradients[&point].shape(), [1, 3, 16]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ModelSubject {
    model: Arc<Model>,
    shape: SubjectShape,
    salt: u64,
    stop: Option<Arc<AtomicBool>>,
    /// The model's own weights where others stand in their place.
    pub(crate) replaced: BTreeMap<Part, Vec<f32>>,
    /// What passes over the same tokens have in common.
    streams: Streams,
}

impl ModelSubject {
    /// A subject from a model, owned or shared.
    pub fn new(model: impl Into<Arc<Model>>) -> ModelSubject {
        let model = model.into();
        let shape = model.description().subject_shape();
        let streams = Streams::within(model.room_for_streams());
        ModelSubject { model, shape, salt: 0, stop: None, replaced: BTreeMap::new(), streams }
    }

    /// The same subject with another salt for random routers; it starts at 0.
    pub fn with_salt(mut self, salt: u64) -> ModelSubject {
        // Streams are those of the routes that were.
        self.streams.clear();
        ModelSubject { salt, ..self }
    }

    /// The same subject, which answers with an error once the flag is set: at the next block of the pass that is on its way.
    ///
    /// Gradients are not interrupted: the way back of a pass goes to its end. A flag that stays down changes no bit.
    pub fn stopped_by(self, flag: Arc<AtomicBool>) -> ModelSubject {
        ModelSubject { stop: Some(flag), ..self }
    }

    /// The same subject, which keeps at most so many bytes of what passes have in common: see [`MemoryPlan::streams`](crate::MemoryPlan).
    pub fn keeping_streams(self, bytes: u64) -> ModelSubject {
        ModelSubject { streams: Streams::within(bytes), ..self }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to be changed; a model that is shared is copied first.
    pub(crate) fn model_mut(&mut self) -> &mut Model {
        self.streams.clear();
        Arc::make_mut(&mut self.model)
    }

    /// Runs one pass and gathers what was asked; a swap of routes takes another pass before it.
    ///
    /// Gradients are of the sum, not the mean, of the losses of all tokens, so one token's gradient does not shrink
    /// with the batch.
    fn observe(&mut self, request: &Request<'_>) -> Result<Observation, ModelError> {
        self.check(request)?;
        let model = Arc::clone(&self.model);
        let mut chosen = |edits: &[Edit], points: [HookPoint; 2]| {
            let first = Request { edits, ..Request::recording(request.tokens, &points) };
            let mut seen = self.pass(&first)?.values;
            Ok(points.map(|point| seen.remove(&point).expect("the pass records what it is asked for")))
        };
        let edits = swap::resolved(model.description(), request.tokens, request.edits, &mut chosen)?;
        self.pass(&Request { edits: &edits, ..*request })
    }

    /// One pass over a request that has been checked, from where it differs from the unedited one.
    fn pass(&mut self, request: &Request<'_>) -> Result<Observation, ModelError> {
        let end = match (request.end, request.gradients.is_empty()) {
            (PassEnd::Recorded, true) => End::after(request.record, request.edits),
            _ => End::Logits,
        };
        let description = self.model.description();
        let (layers, parts) = (self.shape.layers(), !description.variation.parallel);
        let asked = Stage::before(request.record.iter().chain(request.gradients), request.edits, layers);
        let edited = Stage::before([].iter(), request.edits, layers);
        // Streams before the first edit are those of the unedited model.
        let last = edited.zip(end.reaches(layers)).map(|(edited, reached)| edited.min(reached));
        let mut start = self.streams.start(request.tokens, [asked, last], parts, description.d_model);
        let seen = self.pass_from(&mut start, request, end);
        self.streams.keep(request.tokens, start);
        seen
    }

    /// The rest of a pass, and all of it where nothing is known yet.
    fn pass_from(
        &self,
        start: &mut Start,
        request: &Request<'_>,
        end: End,
    ) -> Result<Observation, ModelError> {
        let mode = if request.gradients.is_empty() { Mode::Inference } else { Mode::Gradient };
        let mut tape = Tape::new(mode);
        let mut recorder = Recorder::new(request);
        let stop = self.stop.as_deref();
        let mut pass = Pass { salt: self.salt, edits: request.edits, listener: Some(&mut recorder), stop };
        let course = Course { weights: Weights::Constant, start, end };
        let forward = self.model.forward_along(&mut tape, request.tokens, &mut pass, course)?;
        let mut observation = Observation { values: recorder.values, ..Observation::default() };
        let Some(forward) = forward.filter(|_| request.end == PassEnd::Losses || mode == Mode::Gradient)
        else {
            return Ok(observation);
        };
        let mut loss = None;
        if request.tokens.positions() > 1 {
            let var = tape.cross_entropy(forward.logits, &request.tokens.next_ids(IGNORE))?;
            observation.loss = kept_losses(tape.token_losses(var), request.tokens.positions());
            loss = Some(var);
        }
        if mode == Mode::Gradient {
            let number = match (request.objective, loss) {
                (Objective::Logits(terms), _) => {
                    let with = read_out(terms, request.tokens, tape.value(forward.logits).columns())?;
                    tape.sum_product(forward.logits, with)?
                }
                (Objective::Loss, Some(loss)) => tape.scale(loss, observation.loss.len() as f32)?,
                (Objective::Loss, None) => {
                    unreachable!("a request without a loss to differentiate was refused")
                }
            };
            let found = tape.backward(number)?;
            observation.gradients = recorder.sources.iter().map(|(p, s)| (*p, s.read(&found))).collect();
        }
        Ok(observation)
    }

    /// Refuses points that the model lacks, and gradients that do not exist.
    fn check(&self, request: &Request<'_>) -> Result<(), ModelError> {
        let description = self.model.description();
        let mut all = request.record.iter().chain(request.gradients);
        all.try_for_each(|point| points::check(description, *point))?;
        if let Some(point) = request.gradients.iter().find(|p| !p.site().has_gradient()) {
            return Err(ModelError::edit(
                point,
                "expert indices have no gradient; ask at the router weights",
            ));
        }
        if let Objective::Logits(terms) = request.objective {
            return self.check_terms(terms, request.tokens);
        }
        if !request.gradients.is_empty() && request.tokens.positions() < 2 {
            let wanted = "at least 2, so that there is a loss to differentiate";
            return Err(ModelError::tokens("the sequence length", request.tokens.positions(), wanted));
        }
        Ok(())
    }

    /// Refuses logits that do not exist.
    fn check_terms(&self, terms: &[LogitTerm], tokens: &Tokens) -> Result<(), ModelError> {
        let vocab = self.shape.vocab;
        if let Some(term) = terms.iter().find(|term| term.token as usize >= vocab) {
            return Err(ModelError::tokens(
                "the token of a logit",
                term.token,
                format!("an id below {vocab}"),
            ));
        }
        let positions = tokens.positions();
        match terms.iter().find(|term| term.position >= positions) {
            Some(term) => {
                let wanted = format!("one below {positions}");
                Err(ModelError::tokens("the position of a logit", term.position, wanted))
            }
            None => Ok(()),
        }
    }
}

/// The factors with which a weighted sum reads the logits, of every sequence alike: `[token, vocab]`.
fn read_out(terms: &[LogitTerm], tokens: &Tokens, vocab: usize) -> Result<Tensor, ModelError> {
    let mut with = Tensor::zeros([tokens.len(), vocab]);
    for sequence in 0..tokens.batch() {
        for term in terms {
            let row = sequence * tokens.positions() + term.position;
            with.data_mut()[row * vocab + term.token as usize] += term.factor;
        }
    }
    Ok(with)
}

impl From<Model> for ModelSubject {
    fn from(model: Model) -> ModelSubject {
        ModelSubject::new(model)
    }
}

impl Subject for ModelSubject {
    fn shape(&self) -> &SubjectShape {
        &self.shape
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        Ok(self.observe(request)?)
    }

    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
        let (model, width) = (&self.model, self.shape.d_model);
        if !residual.len().is_multiple_of(width) {
            let reason = format!("{} numbers are no whole vectors of {width}", residual.len());
            return Err(SubjectError::Input { reason });
        }
        Ok(model.unembed(residual)?)
    }

    fn parameters(&mut self) -> Option<&mut dyn Parameters> {
        Some(self)
    }
}

/// The losses of all tokens but each sequence's last.
fn kept_losses(losses: &[f32], positions: usize) -> Vec<f32> {
    losses.chunks_exact(positions).flat_map(|sequence| &sequence[..positions - 1]).copied().collect()
}

/// Keeps what a request asks for.
///
/// Points are sorted, because every site of a pass asks whether it is wanted.
struct Recorder<'a> {
    tokens: &'a Tokens,
    record: Vec<HookPoint>,
    gradients: Vec<HookPoint>,
    values: BTreeMap<HookPoint, Value>,
    sources: BTreeMap<HookPoint, Source>,
}

/// Where on the tape the gradient of a point will be found.
struct Source {
    var: Option<Var>,
    rows: Option<Range<usize>>,
    /// A value of the same shape, to be filled.
    form: (HookPoint, Vec<usize>, Option<Vec<u32>>),
}

impl<'a> Recorder<'a> {
    /// Listens for what the request records or differentiates.
    fn new(request: &Request<'a>) -> Recorder<'a> {
        let sorted = |points: &[HookPoint]| {
            let mut points = points.to_vec();
            points.sort_unstable();
            points
        };
        Recorder {
            tokens: request.tokens,
            record: sorted(request.record),
            gradients: sorted(request.gradients),
            values: BTreeMap::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Lengths of the axes of a value of so many rows and columns.
    fn shape(&self, point: HookPoint, rows: usize, columns: usize) -> Vec<usize> {
        let (batch, positions) = (self.tokens.batch(), self.tokens.positions());
        match point.site().axes() {
            [Axis::Row, _] => vec![rows, columns],
            [Axis::Batch, Axis::Pos, Axis::Head, _] => {
                vec![batch, positions, rows / (batch * positions), columns]
            }
            [Axis::Batch, Axis::Head, ..] => vec![batch, rows / (batch * positions), positions, columns],
            _ => vec![batch, positions, columns],
        }
    }

    /// Copies a value before the pass frees it.
    fn keep(&mut self, point: HookPoint, tape: &Tape<'_>, value: &Heard<'_>) {
        let tokens = self.tokens.len();
        let (data, rows) = match value {
            Heard::Whole(var) => (ValueData::Real(tape.value(*var).data().to_vec()), None),
            Heard::Expert { var, rows, tokens } => {
                let width = tape.value(*var).columns();
                let data = tape.value(*var).data()[rows.start * width..rows.end * width].to_vec();
                (ValueData::Real(data), Some(tokens.to_vec()))
            }
            Heard::Numbers(numbers) => (ValueData::Real(numbers.to_vec()), None),
            Heard::Routes(plan) => {
                (ValueData::Integer(plan.choices().iter().map(|e| i64::from(*e)).collect()), None)
            }
            Heard::Unscored { experts } => (ValueData::Real(vec![f32::NAN; tokens * experts]), None),
        };
        let (height, width) = extent(tape, value, tokens);
        let shape = self.shape(point, height, width);
        let value = Value::new(point, shape, data, rows).expect("the shape follows the site's axes");
        self.values.insert(point, value);
    }

    /// Notes where the gradient of a value will stand; what is not on the tape has none, which reads as zero.
    fn follow(&mut self, point: HookPoint, tape: &mut Tape<'_>, value: &Heard<'_>) {
        let (height, width) = extent(tape, value, self.tokens.len());
        let (var, rows, tokens) = match value {
            Heard::Whole(var) => (Some(*var), None, None),
            Heard::Expert { var, rows, tokens } => (Some(*var), Some(rows.clone()), Some(tokens.to_vec())),
            _ => (None, None, None),
        };
        if let Some(var) = var {
            tape.watch(var);
        }
        let form = (point, self.shape(point, height, width), tokens);
        self.sources.insert(point, Source { var, rows, form });
    }
}

/// Rows and columns of a heard value.
fn extent(tape: &Tape<'_>, value: &Heard<'_>, tokens: usize) -> (usize, usize) {
    match value {
        Heard::Whole(var) => (tape.value(*var).rows(), tape.value(*var).columns()),
        Heard::Expert { var, rows, .. } => (rows.len(), tape.value(*var).columns()),
        Heard::Numbers(numbers) => (tokens, numbers.len() / tokens),
        Heard::Routes(plan) => (tokens, plan.per_token()),
        Heard::Unscored { experts } => (tokens, *experts),
    }
}

impl Listener for Recorder<'_> {
    fn wants(&self, point: &HookPoint) -> bool {
        self.record.binary_search(point).is_ok() || self.gradients.binary_search(point).is_ok()
    }

    fn hear(&mut self, point: HookPoint, tape: &mut Tape<'_>, value: Heard<'_>) {
        if self.record.binary_search(&point).is_ok() {
            self.keep(point, tape, &value);
        }
        if self.gradients.binary_search(&point).is_ok() {
            self.follow(point, tape, &value);
        }
    }
}

impl Source {
    /// The gradient, zero where the loss does not depend on the value.
    fn read(&self, gradients: &Gradients) -> Value {
        let (point, shape, tokens) = self.form.clone();
        let length = shape.iter().product();
        let data = match self.var.and_then(|var| gradients.of(var)) {
            None => vec![0.0; length],
            Some(all) => match &self.rows {
                None => all.data().to_vec(),
                Some(rows) => all.data()[rows.start * all.columns()..rows.end * all.columns()].to_vec(),
            },
        };
        Value::new(point, shape, ValueData::Real(data), tokens).expect("a gradient has its value's shape")
    }
}
