//! What each head of attention adds, for whoever looks at it or changes it.
//!
//! The output projection is linear, so it falls into one product for each head. They take as many numbers as heads times the stream,
//! which is why they are worked out only where they are asked for.

use std::sync::Arc;

use moescope_base::{HookPoint, Site};
use moescope_engine::{Mode, RoutePlan, Tensor, Var};

use crate::ModelError;
use crate::forward::Run;
use crate::pass::Heard;

/// Passes the site of the heads' results, and returns the output of attention after it.
///
/// `mixed[token, head * size]` went through the output projection at `weight` to `output[token, model]`. The pass computes that as
/// one product; the parts are worked out beside it, and only what an edit changes of them is added. So listening changes no bit, and
/// putting back what was there changes nothing.
pub(super) fn results(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    mixed: Var,
    weight: usize,
    output: Var,
) -> Result<Var, ModelError> {
    let point = HookPoint::block(Site::AttnResult, layer);
    if !run.meets(point) {
        return Ok(output);
    }
    let heads = run.model.description().heads;
    let before = parts(run, mixed, weight, heads)?; // [token * head, model]
    if run.tape.mode() == Mode::Inference && !run.edits.touches(point) {
        run.tell(point, Heard::Whole(before));
        run.forget(&[before]);
        return Ok(output);
    }
    // A value of its own, so that the gradient here is that of what follows alone.
    let after = run.tape.scale(before, 1.0)?;
    let after = run.at(point, after)?;
    let sum = change(run, before, after, heads)?;
    let changed = run.tape.add(output, sum)?;
    run.forget(&[before, after, sum, output]);
    Ok(changed)
}

/// Every token goes to every head: with this plan the kernels of experts compute heads.
fn everywhere(rows: usize, heads: usize) -> Result<Arc<RoutePlan>, ModelError> {
    let choices: Vec<u32> = (0..rows).flat_map(|_| 0..heads as u32).collect();
    Ok(Arc::new(RoutePlan::new(&choices, heads, heads)?))
}

/// The product of each head with its columns of the output projection, `[token * head, model]`.
///
/// The matrix is `[model, head * size]`: its columns are dealt out by the same permutation as the mixed values of the tokens.
fn parts(run: &mut Run<'_, '_, '_>, mixed: Var, weight: usize, heads: usize) -> Result<Var, ModelError> {
    let weight = run.weight(weight)?;
    let [tokens, inputs] = [run.tape.value(mixed).rows(), run.tape.value(mixed).columns()];
    let outputs = run.tape.value(weight).rows();
    let columns = run.tape.slots_to_rows(weight, &everywhere(outputs, heads)?)?; // [head * model, size]
    let matrices = run.tape.reshape(columns, [heads, outputs, inputs / heads])?;
    run.done_with(weight);
    let plan = everywhere(tokens, heads)?;
    let rows = run.tape.slots_to_rows(mixed, &plan)?; // [head * token, size]
    let products = run.tape.expert_linear(rows, matrices, &plan)?;
    run.forget(&[columns, matrices, rows]);
    let by_token = run.tape.rows_to_slots(products, &plan)?; // [token, head * model]
    let parts = run.tape.reshape(by_token, [tokens * heads, outputs])?;
    run.forget(&[products, by_token]);
    Ok(parts)
}

/// What an edit adds to the sum over heads: exactly zero where nothing was changed, `[token, model]`.
fn change(run: &mut Run<'_, '_, '_>, before: Var, after: Var, heads: usize) -> Result<Var, ModelError> {
    let [rows, outputs] = [run.tape.value(before).rows(), run.tape.value(before).columns()];
    let plan = everywhere(rows / heads, heads)?;
    let negative = run.tape.scale(before, -1.0)?;
    let change = run.tape.add(after, negative)?;
    let by_token = run.tape.reshape(change, [rows / heads, heads * outputs])?;
    let by_head = run.tape.slots_to_rows(by_token, &plan)?;
    let ones = run.tape.constant(Tensor::full([rows / heads, heads], 1.0));
    let sum = run.tape.expert_combine(by_head, ones, &plan)?;
    run.forget(&[negative, change, by_token, by_head]);
    Ok(sum)
}
