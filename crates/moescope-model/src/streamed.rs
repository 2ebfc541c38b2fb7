//! Products with weights that are read when they are needed, in parts where they do not fit at once.
//!
//! The bits are those of weights in memory: a part is cut where the engine would cut the whole, the products of an expert are its own,
//! and the sum over experts is taken at the end. So neither the room nor the way may be seen in a result.

use std::ops::Range;

use moescope_engine::{RoutePlan, Tape, Tensor, Var};

use crate::ModelError;
use crate::folder::Stock;
use crate::model::Model;

/// Outputs of a part are a multiple of this. The engine cuts products at multiples of a divisor of it, and so cuts parts as it would
/// have cut the whole: the bits are the same.
pub(crate) const OUTPUTS: usize = 4096;

/// What the experts of a layer take on the way, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpertCost {
    /// The largest matrix of one expert.
    pub(crate) matrix: u64,
    /// For each slot row: gate, linear branch, neurons and answer.
    pub(crate) row: u64,
    /// What reading holds besides.
    pub(crate) scratch: u64,
}

/// The experts in groups of neighbours, each of which fits into `room`; at least one expert with tokens in each. Experts without
/// tokens take nothing. Which group an expert is in decides no number.
pub(crate) fn parts(plan: &RoutePlan, cost: &ExpertCost, room: u64) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut first, mut held) = (0, 0);
    for (expert, rows) in plan.counts().iter().enumerate() {
        let needs = if *rows == 0 { 0 } else { cost.matrix + cost.row * *rows as u64 };
        if held > 0 && needs > 0 && held + needs + cost.scratch > room {
            parts.push(first..expert);
            (first, held) = (expert, 0);
        }
        held += needs;
    }
    parts.push(first..plan.experts());
    parts
}

impl Model {
    /// What the experts of a routed layer take.
    pub(crate) fn expert_cost(&self, stock: &Stock, layer: usize) -> ExpertCost {
        let (hidden, specifications) = (self.layout().blocks[layer].hidden, &self.layout().specifications);
        let places = [Some(hidden.gate), hidden.up, Some(hidden.down)].into_iter().flatten();
        let scratch = places.map(|linear| stock.scratch(linear.weight, &specifications[linear.weight])).max();
        let mut cost = self.description().expert_cost(layer);
        cost.scratch = scratch.unwrap_or(0);
        cost
    }

    /// A parameter on a tape, borrowed from memory or read for it.
    pub(crate) fn lend<'w>(&'w self, tape: &mut Tape<'w>, place: usize) -> Result<Var, ModelError> {
        Ok(match self.stock() {
            None => tape.frozen(&self.parameters()[place].tensor),
            Some(stock) => tape.constant(stock.read(place, &self.layout().specifications[place])?),
        })
    }

    /// `x[row, input]` times a matrix `[output, input]` that is not trained: `[row, output]`. A matrix that is read for it is freed
    /// after it, and read in parts if it does not fit at once.
    pub(crate) fn product<'w>(
        &'w self,
        tape: &mut Tape<'w>,
        x: Var,
        place: usize,
    ) -> Result<Var, ModelError> {
        let Some(stock) = self.stock() else {
            let weight = self.lend(tape, place)?;
            return Ok(tape.linear(x, weight)?);
        };
        let wanted = &self.layout().specifications[place];
        let [outputs, inputs] = wanted.shape[..] else { unreachable!("a matrix has two axes") };
        let together = outputs_at_once(stock, place, inputs, tape.value(x).rows(), wanted);
        if together >= outputs {
            let weight = tape.constant(stock.read(place, wanted)?);
            let product = tape.linear(x, weight)?;
            tape.discard(weight);
            return Ok(product);
        }
        let mut all = Tensor::zeros([tape.value(x).rows(), outputs]);
        for first in (0..outputs).step_by(together) {
            let (rows, mark) = (first..outputs.min(first + together), tape.mark());
            let weight = tape.constant(stock.outputs(place, wanted, rows.clone())?);
            let part = tape.linear(x, weight)?; // [row, output of the part]
            let lines = all.data_mut().chunks_exact_mut(outputs);
            for (line, part) in lines.zip(tape.value(part).data().chunks_exact(rows.len())) {
                line[rows.clone()].copy_from_slice(part);
            }
            tape.discard_since(mark, x);
        }
        Ok(tape.constant(all))
    }
}

/// Outputs of a matrix that are computed at a time: all where its weights fit, else as many multiples of [`OUTPUTS`] as fit into the room with their weights and with the results of a part.
fn outputs_at_once(
    stock: &Stock,
    place: usize,
    inputs: usize,
    rows: usize,
    wanted: &crate::parameters::Specification,
) -> usize {
    let room = stock.room.saturating_sub(stock.scratch(place, wanted));
    if wanted.len().saturating_mul(4) <= room {
        return wanted.shape[0];
    }
    let each = 4 * (inputs + rows) as u64;
    let fitting = usize::try_from(room / each.max(1)).unwrap_or(usize::MAX);
    (fitting / OUTPUTS * OUTPUTS).max(OUTPUTS)
}
