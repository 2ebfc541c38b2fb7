//! A small whole network: the properties that no single operation shows.

use std::sync::Arc;

use crate::testing::{check_bits, choices, numbers, outcome, positive};
use crate::{
    AttentionLayout, AttentionShape, EngineError, IGNORE, Mode, Rotary, RoutePlan, Tape, Tensor, Var,
};

const TOKENS: usize = 2 * 70;
const WIDTH: usize = 24;
const HIDDEN: usize = 40;

/// One block with attention, experts and all losses: table, norm, head norm, q, k, v, gate, up, down, router.
fn inputs() -> Vec<Tensor> {
    let shapes: [&[usize]; 7] = [
        &[WIDTH, WIDTH],
        &[12, WIDTH],
        &[12, WIDTH],
        &[6, 8, WIDTH],
        &[6, 8, WIDTH],
        &[6, WIDTH, 8],
        &[6, WIDTH],
    ];
    let mut all = vec![numbers(&[90, WIDTH], 1), positive(&[WIDTH], 2), positive(&[6], 3)];
    all.extend(shapes.iter().enumerate().map(|(index, shape)| numbers(shape, 10 + index as u64)));
    all
}

fn block(tape: &mut Tape<'_>, vars: &[Var]) -> Result<Var, EngineError> {
    let &[table, norm, head_norm, q, k, v, gate, up, down, router] = vars else {
        unreachable!("ten inputs");
    };
    let ids: Vec<u32> = (0..TOKENS as u32).map(|i| i * i % 90).collect();
    let x = tape.embedding(table, &ids)?;
    let normed = tape.rms_norm(x, norm, 1e-6)?;
    let attended = attend(tape, normed, [head_norm, q, k, v])?;
    let x = tape.add(x, attended)?;
    let plan = Arc::new(RoutePlan::new(&choices(TOKENS, 6, 2, 5), 6, 2)?);
    let router_logits = tape.linear(x, router)?;
    let scores = tape.softmax(router_logits)?;
    let chosen = tape.gather_columns(scores, plan.choices(), 2)?;
    let weights = tape.renormalise(chosen)?;
    let out = experts(tape, x, [gate, up, down], weights, &plan)?;
    let x = tape.add(x, out)?;
    let logits = tape.linear(x, table)?;
    let targets: Vec<u32> = ids.iter().map(|&id| if id == 4 { IGNORE } else { (id + 1) % 90 }).collect();
    let loss = tape.cross_entropy(logits, &targets)?;
    let balance = tape.balance_loss(scores, &plan)?;
    let large = tape.z_loss(router_logits)?;
    let loss = tape.add_scaled(loss, balance, 0.01)?;
    tape.add_scaled(loss, large, 0.001)
}

fn attend(tape: &mut Tape<'_>, x: Var, [head_norm, q, k, v]: [Var; 4]) -> Result<Var, EngineError> {
    let layout = AttentionLayout { batch: 2, positions: 70, heads: 4, key_value_heads: 2, head_dim: 6 };
    let rotary = Rotary::new(6, 10_000.0, 70);
    let (q, k, v) = (tape.linear(x, q)?, tape.linear(x, k)?, tape.linear(x, v)?);
    let q = tape.head_norm_rotary(q, Some(head_norm), 1e-6, &rotary, 4, 70)?;
    let k = tape.head_norm_rotary(k, Some(head_norm), 1e-6, &rotary, 2, 70)?;
    tape.attention(q, k, v, AttentionShape { layout, value_dim: 6 })
}

fn experts(
    tape: &mut Tape<'_>,
    x: Var,
    [gate, up, down]: [Var; 3],
    weights: Var,
    plan: &Arc<RoutePlan>,
) -> Result<Var, EngineError> {
    let gate = tape.expert_input(x, gate, plan)?;
    let up = tape.expert_input(x, up, plan)?;
    let hidden = tape.swiglu(gate, up)?;
    tape.expert_output(hidden, down, weights, plan)
}

fn dense(tape: &mut Tape<'_>, x: Var, [gate, up, down]: [Var; 3]) -> Result<Var, EngineError> {
    let (gate, up) = (tape.linear(x, gate)?, tape.linear(x, up)?);
    let hidden = tape.swiglu(gate, up)?;
    tape.linear(hidden, down)
}

#[test]
fn a_whole_block_has_the_same_bits_on_any_number_of_threads_and_in_both_modes() {
    check_bits(&inputs(), block);
}

#[test]
fn every_weight_of_a_whole_block_moves_the_loss_as_its_gradient_says() {
    let all = inputs();
    let mut tape = Tape::new(Mode::Gradient);
    let vars: Vec<Var> = all.iter().map(|input| tape.leaf(input.clone())).collect();
    vars.iter().for_each(|&var| tape.watch(var));
    let loss = block(&mut tape, &vars).unwrap();
    let gradients = tape.backward(loss).unwrap();
    for (which, &var) in vars.iter().enumerate() {
        let gradient = gradients.of(var).unwrap();
        let norm = gradient.data().iter().map(|x| x * x).sum::<f32>().sqrt();
        let along = |by: f32| {
            let mut moved = all.clone();
            let step = moved[which].data_mut().iter_mut().zip(gradient.data());
            step.for_each(|(x, slope)| *x += by * slope / norm);
            f64::from(outcome(&moved, &block).0.data()[0])
        };
        let slope = (along(5e-3) - along(-5e-3)) / 1e-2;
        assert!((slope / f64::from(norm) - 1.0).abs() < 2e-2, "input {which}: {slope} against {norm}");
    }
}

/// Stacks the rows of a wide layer into experts, or its columns when `columns`.
fn cut(wide: &Tensor, experts: usize, columns: bool) -> Tensor {
    let (rows, width) = (wide.rows(), wide.columns());
    let slice = if columns { width / experts } else { rows / experts };
    let mut data = Vec::new();
    for expert in 0..experts {
        if columns {
            wide.data().chunks(width).for_each(|row| data.extend(&row[expert * slice..][..slice]));
        } else {
            data.extend(&wide.data()[expert * slice * width..][..slice * width]);
        }
    }
    let shape = if columns { [experts, rows, slice] } else { [experts, slice, width] };
    Tensor::new(shape, data).unwrap()
}

/// Value and gradient for `x` of a wide layer and of the same layer cut into experts that all see every token.
fn wide_and_cut(experts_wanted: usize) -> [(Tensor, Tensor); 2] {
    let wide = [numbers(&[HIDDEN, WIDTH], 1), numbers(&[HIDDEN, WIDTH], 2), numbers(&[WIDTH, HIDDEN], 3)];
    let parts = [cut(&wide[0], experts_wanted, false), cut(&wide[1], experts_wanted, false)];
    let [gate, up] = parts;
    let apart = [gate, up, cut(&wide[2], experts_wanted, true)];
    let all: Vec<u32> = (0..TOKENS).flat_map(|_| 0..experts_wanted as u32).collect();
    let plan = Arc::new(RoutePlan::new(&all, experts_wanted, experts_wanted).unwrap());
    let x = [numbers(&[TOKENS, WIDTH], 4)];
    let dense_layer = |tape: &mut Tape<'_>, x: &[Var]| {
        let weights = wide.clone().map(|weight| tape.constant(weight));
        dense(tape, x[0], weights)
    };
    let expert_layer = |tape: &mut Tape<'_>, x: &[Var]| {
        let weights = apart.clone().map(|weight| tape.constant(weight));
        let ones = tape.constant(Tensor::full([TOKENS, experts_wanted], 1.0));
        experts(tape, x[0], weights, ones, &plan)
    };
    let first = |(value, mut gradients): (Tensor, Vec<Option<Tensor>>)| (value, gradients.remove(0).unwrap());
    [first(outcome(&x, &dense_layer)), first(outcome(&x, &expert_layer))]
}

#[test]
fn experts_that_all_see_every_token_are_one_wide_layer() {
    let [wide, apart] = wide_and_cut(8);
    for (wide, apart) in [(&wide.0, &apart.0), (&wide.1, &apart.1)] {
        let size = wide.data().iter().map(|x| x.abs()).fold(0.0, f32::max);
        let worst = wide.data().iter().zip(apart.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-6 * size, "{worst} of {size}");
    }
}

#[test]
fn one_expert_is_the_dense_layer_to_the_bit() {
    let [wide, apart] = wide_and_cut(1);
    assert_eq!(wide, apart);
}
