//! What each expert adds to the sum over the chosen ones, for whoever looks at it or changes it.

use moescope_base::Site;
use moescope_engine::{Mode, Tensor, Var};

use crate::ModelError;
use crate::forward::Run;
use crate::pass::LayerRoutes;

/// The weighted sum of the experts' answers `outputs[slot_row, model]`, `[token, model]`, past the site of its addends.
///
/// The pass computes the sum in one operation; the addends are worked out beside it where they are asked for, and only what an edit
/// changes of them is added. So listening changes no bit, and putting back what was there changes nothing.
///
/// - **Gradient:** that of an addend is the gradient of the sum at its token; weights and answers are behind it.
/// - **Memory:** where it is asked for, as many numbers once more as all chosen experts answer, and with gradients or edits twice more.
pub(super) fn weighted_sum(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    outputs: Var,
    chosen: &LayerRoutes,
) -> Result<Var, ModelError> {
    let (plan, site) = (&chosen.plan, Site::ExpertOutWeighted);
    let sum = run.tape.expert_combine(outputs, chosen.weights, plan)?;
    if !run.meets_experts(site, layer, plan.experts()) {
        return Ok(sum);
    }
    let weights = run.tape.slots_to_rows(chosen.weights, plan)?; // [slot_row, 1]
    let before = run.tape.scale_rows(outputs, weights)?;
    let experts = 0..plan.experts();
    if run.tape.mode() == Mode::Inference && !run.edits_experts(site, layer, plan.experts()) {
        run.at_experts(site, layer, before, plan, experts)?;
        run.forget(&[weights, before]);
        return Ok(sum);
    }
    // A value of its own, so that the gradient here is that of what follows alone.
    let after = run.tape.scale(before, 1.0)?;
    let after = run.at_experts(site, layer, after, plan, experts)?;
    let negative = run.tape.scale(before, -1.0)?;
    let change = run.tape.add(after, negative)?;
    let ones = run.tape.constant(Tensor::full([plan.tokens(), plan.per_token()], 1.0));
    let change_sum = run.tape.expert_combine(change, ones, plan)?;
    let changed = run.tape.add(sum, change_sum)?;
    run.forget(&[weights, before, after, negative, change, change_sum, sum]);
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use moescope_base::{Edit, HookPoint, Site, TokenSelection, ValueEdit};

    use crate::description::Router;
    use crate::testing::{self, run};

    #[test]
    fn addends_are_outputs_times_weights_and_sum_to_what_the_experts_add() {
        let description = testing::routed_description(Router::learned(true));
        let mut subject = testing::subject(&description);
        let points = description.subject_shape().hook_points();
        let seen = run(&mut subject, &points, &[]).values;
        let block = |site| &seen[&HookPoint::block(site, 1)];
        let (indices, weights) = (block(Site::RouterIndices), block(Site::RouterWeights).real().unwrap());
        let (slots, mut sum) = (indices.columns(), vec![0.0; 18 * 16]);
        for expert in 0..6 {
            let at = |site| &seen[&HookPoint::expert(site, 1, expert)];
            let (plain, weighted) = (at(Site::ExpertOut), at(Site::ExpertOutWeighted));
            assert_eq!(plain.rows(), weighted.rows());
            for (row, token) in weighted.rows().unwrap().iter().enumerate() {
                let token = *token as usize;
                let chosen = &indices.integer().unwrap()[token * slots..][..slots];
                let slot = chosen.iter().position(|e| *e == expert as i64).unwrap();
                for column in 0..16 {
                    let found = weighted.real().unwrap()[row * 16 + column];
                    assert_eq!(
                        found,
                        plain.real().unwrap()[row * 16 + column] * weights[token * slots + slot]
                    );
                    sum[token * 16 + column] += found;
                }
            }
        }
        let routed = block(Site::RoutedOut).real().unwrap();
        assert!(sum.iter().zip(routed).all(|(sum, routed)| (sum - routed).abs() < 1e-5));
    }

    #[test]
    fn without_its_addend_an_expert_is_as_without_its_output() {
        let mut subject = testing::subject(&testing::routed_description(Router::learned(true)));
        let without = |site| Edit::Value {
            at: HookPoint::expert(site, 1, 2),
            tokens: TokenSelection::All,
            change: ValueEdit::Zero,
        };
        let plain = testing::logits(&mut subject, &[]);
        let [output, addend] = [Site::ExpertOut, Site::ExpertOutWeighted]
            .map(|site| testing::logits(&mut subject, &[without(site)]));
        assert_ne!(testing::bits(&addend), testing::bits(&plain));
        assert!(output.iter().zip(&addend).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
