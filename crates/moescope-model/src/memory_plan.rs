//! How much memory a pass takes, told before it starts, and which way fits.
//!
//! Estimates are upper ones: of values that live at the same time each is counted whole, and experts are counted as if every token
//! went to the same ones. They follow the order of the forward pass in `forward.rs` and `blocks/`: whoever keeps a value for longer
//! there must count it here.

use std::path::Path;

use moescope_base::{Edit, HookPoint, Site};
use moescope_host::bytes_in_words;
use serde::Serialize;

use crate::ModelError;
use crate::description::{Description, FeedForward, Routed};
use crate::families::Reading;
use crate::folder::{Source, Tensors, read_checkpoint, scratch_bytes, sources};
use crate::parameters::{Layout, Specification};
use crate::streamed::{ExpertCost, OUTPUTS};
use crate::streams::ROOM;

/// Memory of a program that does nothing yet: code, tokenizer, tables, and what decoding of weights is in the middle of.
const BASE: u64 = 128 << 20;

/// Of the memory for weights of a streamed pass, the share that is used: an allocator gives large blocks back to the system a little
/// after they were freed, so that the one before is still there when the next is read.
const USED: f64 = 0.75;

/// What a model will be asked to do, as far as memory depends on it.
///
/// A pass is one batch; several passes one after the other take the memory of one, and what the caller keeps of each.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// Sequences in one pass.
    pub batch: usize,
    /// Tokens of a sequence.
    pub positions: usize,
    /// Values that are recorded of one pass.
    pub record: &'a [HookPoint],
    /// Changes inside the pass. Those of what heads and experts add take memory of their own, the others that of the values that they
    /// change.
    pub edits: &'a [Edit],
    /// Whether gradients are asked for, which need all weights and all values of a pass in memory.
    pub gradients: bool,
    /// Bytes that the caller keeps from pass to pass.
    pub kept: u64,
    /// Threads that compute.
    pub threads: usize,
}

/// Where the weights are during a pass. It decides no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// All weights are in memory as `f32`, read once.
    InMemory,
    /// Weights are read for each product and freed after it, in every pass anew.
    Streamed,
}

/// The memory of a pass, in bytes, and the way that was chosen for it.
///
/// An upper estimate; the measured peak is usually lower. It does not show what other programs take meanwhile, nor the pages of
/// files that the system keeps in its cache, which are not memory of this program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The way.
    pub way: Way,
    /// Memory that may be taken.
    pub bound: u64,
    /// All weights as `f32`.
    pub weights: u64,
    /// All weights as the files hold them: what one streamed pass reads, less experts without tokens.
    pub stored: u64,
    /// Estimated peak with all weights in memory.
    pub in_memory: u64,
    /// Least memory of the streamed way.
    pub streamed: u64,
    /// Of the streamed way: memory for the weights that are in memory at a time, and for what experts make of them.
    pub room: u64,
    /// Memory for streams that passes over the same tokens have in common, of what is left beside all else: 256 MiB at most.
    pub streams: u64,
    /// Spare buffers that each thread of the engine may keep.
    pub spare: u64,
    /// What is recorded of one pass.
    pub recorded: u64,
    /// Floating-point operations of the forward pass for one token at this length: see [`Counts`](crate::Counts).
    pub flops_per_token: u64,
}

impl MemoryPlan {
    /// Estimates from the headers alone, and chooses: in memory where that fits, else streamed.
    ///
    /// No weight is read, so the question costs little and may be asked of many batch sizes before
    /// one is chosen.
    ///
    /// # Errors
    /// As [`inspect`](crate::inspect), and [`ModelError::Bound`] where neither way fits or gradients would need the other.
    pub fn new(path: &Path, work: &Work<'_>, bound: u64) -> Result<MemoryPlan, ModelError> {
        let (reading, tensors) = read_checkpoint(path)?;
        let layout = Layout::new(&reading.description);
        let sources = sources(&tensors, &reading, &layout)?;
        let estimate = |bound| MemoryPlan::estimate(&reading, &layout, &tensors, &sources, work, bound);
        let plan = estimate(bound);
        // The room that is left to the allocator grows with the bound, so what is needed is found by going up.
        let mut enough = estimate(bound.max(plan.streamed));
        while enough.streamed > enough.bound {
            enough = estimate(enough.streamed);
        }
        plan.require(work, enough.streamed)?;
        Ok(plan)
    }

    /// The plan, whether it fits or not.
    fn estimate(
        reading: &Reading,
        layout: &Layout,
        tensors: &Tensors,
        sources: &[Source],
        work: &Work<'_>,
        bound: u64,
    ) -> MemoryPlan {
        let description = &reading.description;
        let counts = Description { max_positions: work.positions, ..description.clone() }.counts();
        let weights = description.counts().parameters_total.saturating_mul(4);
        let spare = (bound / 32 / work.threads.max(1) as u64).min(512 << 20);
        // Every value of a pass stays for the way back; without it, those of one block.
        let blocks = if work.gradients { description.layers() as u64 } else { 1 };
        let recorded = description.recorded_bytes(work.record, work.tokens(), work.positions);
        let held = BASE + work.kept + recorded + 2 * spare * work.threads as u64;
        let in_memory = weights
            + held
            + values(description, work).saturating_mul(blocks)
            + beside(description, work).saturating_mul(blocks)
            + at_once(description, work).saturating_mul(blocks);
        let step = smallest_step(description, layout, tensors, sources, work);
        let others = held + values(description, work) + beside(description, work);
        let way = if in_memory <= bound { Way::InMemory } else { Way::Streamed };
        let room = (bound.saturating_sub(others) as f64 * USED) as u64;
        // Weights that are read at once make a pass shorter, too: most of the room stays theirs.
        let streams = match way {
            Way::InMemory => bound - in_memory,
            Way::Streamed => room.saturating_sub(step) / 4,
        };
        let streams = streams.min(ROOM);
        MemoryPlan {
            way,
            bound,
            weights,
            stored: tensors.bytes(),
            in_memory,
            streamed: others + (step as f64 / USED) as u64,
            room: if way == Way::Streamed { room - streams } else { room },
            streams,
            spare,
            recorded,
            flops_per_token: counts.flops_per_token,
        }
    }

    /// Refuses a bound into which no way fits; `enough` is one into which streaming would.
    fn require(&self, work: &Work<'_>, enough: u64) -> Result<(), ModelError> {
        let (what, needed, remedy) = match self.way {
            Way::InMemory => return Ok(()),
            Way::Streamed if work.gradients => (
                "a pass with gradients",
                self.in_memory,
                "leave out gradients, take fewer tokens, or allow more memory",
            ),
            Way::Streamed if self.streamed <= self.bound => return Ok(()),
            Way::Streamed => (
                "a pass that reads weights as it needs them",
                enough,
                "take fewer or shorter sequences in a pass, record less, or allow more memory",
            ),
        };
        Err(ModelError::Bound {
            what: format!("{what} over {} sequences of {} tokens", work.batch, work.positions),
            needed: bytes_in_words(needed as f64),
            found: bytes_in_words(self.bound as f64),
            remedy: remedy.into(),
        })
    }
}

impl Work<'_> {
    /// Tokens of a pass.
    fn tokens(&self) -> u64 {
        product(self.batch, self.positions)
    }
}

impl Description {
    /// What the experts of a routed layer take; nothing for other layers. Scratch memory is not known here.
    pub(crate) fn expert_cost(&self, layer: usize) -> ExpertCost {
        let Some(routed) = self.feed_forward[layer].routed() else { return ExpertCost::default() };
        let branches = if self.variation.neuron.gated() { 3 } else { 2 };
        let answers = if self.variation.biases.experts { 2 } else { 1 };
        ExpertCost {
            matrix: 4 * product(self.d_model, routed.expert_width),
            row: 4 * (branches * routed.expert_width + answers * self.d_model) as u64,
            scratch: 0,
        }
    }
}

/// Bytes of the values that live at the same time in one block or at the end, experts' insides left out.
fn values(description: &Description, work: &Work<'_>) -> u64 {
    let (tokens, d) = (work.tokens(), description.d_model as u64);
    let heads = product(description.heads, description.head_dim);
    let pattern = product(description.heads, work.positions).saturating_mul(tokens);
    // Queries before and after they turn, keys, values and what is mixed; scores and pattern.
    let attention = tokens * 6 * heads + 2 * pattern;
    let feed_forward = description.feed_forward.iter().map(|layer| match layer {
        FeedForward::Dense { width } | FeedForward::TopKDense { width, .. } => 4 * tokens * *width as u64,
        FeedForward::Routed(routed) => routed_values(description, routed, tokens),
    });
    let copies = 1
        + u64::from(description.variation.logit_scale != 1.0)
        + u64::from(description.variation.logit_cap.is_some())
        + u64::from(description.variation.biases.unembedding);
    let end = copies * tokens * description.vocab as u64;
    let largest = attention.max(feed_forward.max().unwrap_or(0)).max(end);
    // The stream itself: with which a pass begins, before, between and after the halves, normalised, and what each half writes.
    4 * (9 * tokens * d).saturating_add(largest)
}

/// Bytes of what is worked out beside the pass for whoever looks at it.
fn beside(description: &Description, work: &Work<'_>) -> u64 {
    head_results(description, work).saturating_add(expert_addends(description, work))
}

/// How many copies of the values of a site a pass holds that works them out only where they are looked at: none, `heard`, or `changed`.
fn copies(work: &Work<'_>, site: Site, heard: u64, changed: u64) -> u64 {
    let edited = work.edits.iter().any(|edit| matches!(edit, Edit::Value { at, .. } if at.site() == site));
    match work.record.iter().any(|point| point.site() == site) || edited {
        false => 0,
        true if edited || work.gradients => changed,
        true => heard,
    }
}

/// Bytes of what single experts add to the sum over the chosen ones, where it is looked at or changed: the addends of every choice, their
/// weights, and what an edit makes of them.
fn expert_addends(description: &Description, work: &Work<'_>) -> u64 {
    let chosen =
        description.feed_forward.iter().filter_map(|layer| layer.routed().map(|r| r.per_token as u64));
    let rows = chosen.max().unwrap_or(0).saturating_mul(work.tokens());
    // Copies of the addends; with an edit, two sums over them besides, which are no more than one copy.
    4 * copies(work, Site::ExpertOutWeighted, 1, 6) * rows.saturating_mul(description.d_model as u64 + 1)
}

/// Bytes of what the heads of a block add, where it is looked at or changed: the output projection twice, which is read whole for it,
/// the rows of the heads, and some copies of their results.
fn head_results(description: &Description, work: &Work<'_>) -> u64 {
    let copies = copies(work, Site::AttnResult, 3, 8);
    if copies == 0 {
        return 0;
    }
    let (inputs, d) = (product(description.heads, description.head_dim), description.d_model as u64);
    let results = product(description.heads, description.d_model).saturating_mul(work.tokens());
    4 * (2 * inputs * d + work.tokens() * inputs).saturating_add(copies * results)
}

/// Numbers of a routed layer outside its experts: the router's values, all answers and their sum, the shared expert.
fn routed_values(description: &Description, routed: &Routed, tokens: u64) -> u64 {
    let d = description.d_model as u64;
    let shared = routed.shared.map_or(0, |shared| 3 * shared.width as u64 + 2 * d);
    tokens * (4 * routed.experts as u64 + (routed.per_token as u64 + 2) * d + shared)
}

/// Bytes of the insides of all experts at once, in the layer where they are most.
fn at_once(description: &Description, work: &Work<'_>) -> u64 {
    let layer = |(layer, kind): (usize, &FeedForward)| {
        let chosen = kind.routed().map_or(0, |routed| routed.per_token as u64);
        description.expert_cost(layer).row * chosen * work.tokens()
    };
    description.feed_forward.iter().enumerate().map(layer).max().unwrap_or(0)
}

/// Bytes of the largest step that cannot be cut further: one expert with every token, some outputs of a matrix, or a weight that
/// is read whole.
fn smallest_step(
    description: &Description,
    layout: &Layout,
    tensors: &Tensors,
    sources: &[Source],
    work: &Work<'_>,
) -> u64 {
    let step = |(wanted, source): (&Specification, &Source)| {
        let scratch = scratch_bytes(tensors, source, wanted);
        let len = 4 * wanted.len();
        let smallest = match (wanted.shape.as_slice(), wanted.name.contains(".mlp.experts.")) {
            ([experts, ..], true) => len / *experts as u64,
            // A router of attention, and matrices of its experts, are read whole.
            ([outputs, inputs], false) if *outputs > OUTPUTS => {
                4 * OUTPUTS as u64 * (*inputs as u64 + work.tokens())
            }
            _ => len,
        };
        smallest.min(len) + scratch
    };
    let weights = layout.specifications.iter().zip(sources).map(step).max().unwrap_or(0);
    let rows = (0..description.layers()).map(|layer| description.expert_cost(layer).row).max().unwrap_or(0);
    weights + rows * work.tokens()
}

fn product(a: usize, b: usize) -> u64 {
    (a as u64).saturating_mul(b as u64)
}
