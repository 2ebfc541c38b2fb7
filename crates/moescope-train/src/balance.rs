//! Losses and rules that even the load of the experts, layer by layer.

use moescope_engine::{RoutePlan, Tape, Var};
use moescope_model::{Description, LayerRoutes, Model};

use crate::plan::router_learns;
use crate::{Balance, TrainError};

/// The loss to go back from, and what the routers add to it.
pub(crate) struct Objective {
    /// Cross-entropy with the routers' losses added.
    pub(crate) total: Var,
    /// Balance loss, mean over the layers that have router scores; 0 where there are none.
    pub(crate) balance: f64,
    /// Router z-loss, mean over the layers that have router logits; 0 where there are none.
    pub(crate) z: f64,
}

/// Adds the routers' losses to a cross-entropy.
///
/// Each layer's loss is taken over its own tokens. Concatenating layers first, as some implementations do, lets an expert
/// that is overloaded in one layer hide behind one that is idle in another.
pub(crate) fn objective(
    tape: &mut Tape<'_>,
    description: &Description,
    balance: &Balance,
    cross_entropy: Var,
    routes: &[LayerRoutes],
) -> Result<Objective, TrainError> {
    let mut total = cross_entropy;
    let (mut balances, mut zs) = (Vec::new(), Vec::new());
    for route in routes {
        let learns = router_learns(&description.feed_forward[route.layer]);
        if let Some(scores) = route.scores {
            let loss = tape.balance_loss(scores, &route.plan)?;
            balances.push(number(tape, loss));
            total = add(tape, total, loss, if learns { balance.loss } else { 0.0 })?;
        }
        if let Some(logits) = route.logits {
            let loss = tape.z_loss(logits)?;
            zs.push(number(tape, loss));
            total = add(tape, total, loss, if learns { balance.z_loss } else { 0.0 })?;
        }
    }
    Ok(Objective { total, balance: mean(&balances), z: mean(&zs) })
}

/// The value of a variable that holds one number.
pub(crate) fn number(tape: &Tape<'_>, var: Var) -> f64 {
    f64::from(tape.value(var).data()[0])
}

fn add(tape: &mut Tape<'_>, total: Var, loss: Var, coefficient: f32) -> Result<Var, TrainError> {
    if coefficient == 0.0 {
        return Ok(total);
    }
    Ok(tape.add_scaled(total, loss, coefficient)?)
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Moves the selection biases of all learned routers one step towards even load: up for an expert below the mean load,
/// down for one above.
pub(crate) fn even_loads(model: &mut Model, update: f32, loads: &[(usize, &RoutePlan)]) {
    for (layer, plan) in loads {
        if router_learns(&model.description().feed_forward[*layer]) {
            let zeros = vec![0.0; plan.experts()];
            let mut bias = model.selection_bias(*layer).map_or(zeros, <[f32]>::to_vec);
            shift(&mut bias, plan.counts(), update);
            model.set_selection_bias(*layer, bias);
        }
    }
}

fn shift(bias: &mut [f32], counts: &[usize], update: f32) {
    let total: usize = counts.iter().sum();
    for (bias, count) in bias.iter_mut().zip(counts) {
        // Compared as whole numbers, so that an exactly even load is seen as such.
        match (count * counts.len()).cmp(&total) {
            std::cmp::Ordering::Less => *bias += update,
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => *bias -= update,
        }
    }
}

/// By how much the most loaded expert of the worst layer exceeds the mean load.
///
/// - **Unit and range:** share of the mean load, from 0 (even) to `experts / slots - 1`; 0 without routed layers.
/// - **Source:** "MaxVio" of Wang et al. 2024, over the tokens of one batch.
pub(crate) fn max_violation(loads: &[(usize, &RoutePlan)]) -> f64 {
    let violation = |plan: &RoutePlan| {
        let mean = plan.rows() as f64 / plan.experts() as f64;
        let most = plan.counts().iter().copied().max().unwrap_or(0) as f64;
        (most - mean) / mean
    };
    loads.iter().map(|(_, plan)| violation(plan)).fold(0.0, f64::max)
}

/// Share of the experts of all layers that no token of the batch chose; 0 without routed layers.
pub(crate) fn dead_share(loads: &[(usize, &RoutePlan)]) -> f64 {
    let experts: usize = loads.iter().map(|(_, plan)| plan.experts()).sum();
    let dead: usize =
        loads.iter().map(|(_, plan)| plan.counts().iter().filter(|count| **count == 0).count()).sum();
    if experts == 0 { 0.0 } else { dead as f64 / experts as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_engine::{Mode, Tensor};
    use proptest::prelude::*;

    #[test]
    fn biases_follow_the_sign_of_the_missing_load() {
        let mut bias = [0.0, 0.5, 0.0, 0.0];
        shift(&mut bias, &[1, 4, 2, 1], 0.25); // mean 2
        assert_eq!(bias, [0.25, 0.25, 0.0, 0.25]);
    }

    #[test]
    fn loads_by_hand() {
        let skewed = RoutePlan::new(&[0, 0, 0, 1], 4, 1).unwrap(); // mean 1, most 3
        let even = RoutePlan::new(&[0, 1, 2, 3], 4, 1).unwrap();
        let loads = [(0, &even), (1, &skewed)];
        assert_eq!(max_violation(&loads), 2.0);
        assert_eq!(dead_share(&loads), 0.25);
        assert_eq!((max_violation(&[]), dead_share(&[])), (0.0, 0.0));
    }

    #[test]
    fn opposite_imbalances_of_two_layers_do_not_cancel() {
        let loss = |choice: u32| {
            let plan = std::sync::Arc::new(RoutePlan::new(&[choice; 4], 2, 1).unwrap());
            let mut tape = Tape::new(Mode::Inference);
            let mut scores = vec![0.0; 8];
            scores.iter_mut().skip(choice as usize).step_by(2).for_each(|score| *score = 1.0);
            let scores = tape.constant(Tensor::new([4, 2], scores).unwrap());
            let loss = tape.balance_loss(scores, &plan).unwrap();
            number(&tape, loss)
        };
        // Concatenated, the two layers would look perfectly even, with loss 1.
        assert_eq!((loss(0) + loss(1)) / 2.0, 2.0);
    }

    proptest! {
        #[test]
        fn an_update_never_widens_the_spread_of_wanted_load(counts in proptest::collection::vec(0usize..50, 2..9)) {
            let mut bias = vec![0.0; counts.len()];
            shift(&mut bias, &counts, 1.0);
            let by_load = |x: usize, y: usize| counts[x] < counts[y];
            for x in 0..counts.len() {
                for y in 0..counts.len() {
                    prop_assert!(!by_load(x, y) || bias[x] >= bias[y]);
                }
            }
        }
    }
}
