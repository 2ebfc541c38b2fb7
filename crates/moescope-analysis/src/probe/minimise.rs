use std::collections::VecDeque;

use nalgebra::DVector;

/// Pairs of steps and changes of the gradient that shape the next direction.
const MEMORY: usize = 10;
const MOST_ITERATIONS: usize = 100;
/// Largest entry of the gradient at which a minimum counts as reached.
const FLAT: f64 = 1e-4;

/// Minimises a smooth convex function by L-BFGS with backtracking; deterministic.
///
/// `evaluate` gives value and gradient. The value never rises from step to step.
///
/// - **Source:** Nocedal and Wright 2006, algorithm 7.4.
pub(super) fn minimise(
    evaluate: impl Fn(&DVector<f64>) -> (f64, DVector<f64>),
    start: DVector<f64>,
) -> DVector<f64> {
    let mut point = start;
    let (mut value, mut gradient) = evaluate(&point);
    let mut history: VecDeque<Pair> = VecDeque::with_capacity(MEMORY + 1);
    for _ in 0..MOST_ITERATIONS {
        if gradient.amax() < FLAT {
            break;
        }
        let direction = direction(&gradient, &history);
        let slope = direction.dot(&gradient);
        let Some((next, next_value, next_gradient)) = backtrack(&evaluate, &point, value, &direction, slope)
        else {
            break;
        };
        let (step, change) = (&next - &point, &next_gradient - &gradient);
        let curvature = step.dot(&change);
        // Without positive curvature the pair would spoil the direction; convexity makes this a matter of rounding.
        if curvature > 1e-12 * change.norm_squared() {
            history.push_back(Pair { step, change, curvature });
        }
        if history.len() > MEMORY {
            history.pop_front();
        }
        (point, value, gradient) = (next, next_value, next_gradient);
    }
    point
}

struct Pair {
    step: DVector<f64>,
    change: DVector<f64>,
    curvature: f64,
}

/// The two-loop recursion: minus the gradient, bent by the curvature seen so far.
fn direction(gradient: &DVector<f64>, history: &VecDeque<Pair>) -> DVector<f64> {
    let mut bent = -gradient;
    let mut shares = Vec::with_capacity(history.len());
    for pair in history.iter().rev() {
        let share = pair.step.dot(&bent) / pair.curvature;
        bent.axpy(-share, &pair.change, 1.0);
        shares.push(share);
    }
    if let Some(last) = history.back() {
        bent *= last.curvature / last.change.norm_squared();
    }
    for (pair, share) in history.iter().zip(shares.into_iter().rev()) {
        let correction = pair.change.dot(&bent) / pair.curvature;
        bent.axpy(share - correction, &pair.step, 1.0);
    }
    bent
}

type Place = (DVector<f64>, f64, DVector<f64>);

/// Halves the step until the value falls by a share of what the slope promises; none if rounding stops all progress.
fn backtrack(
    evaluate: &impl Fn(&DVector<f64>) -> (f64, DVector<f64>),
    point: &DVector<f64>,
    value: f64,
    direction: &DVector<f64>,
    slope: f64,
) -> Option<Place> {
    let mut length = 1.0;
    for _ in 0..40 {
        let next = point + direction * length;
        let (next_value, gradient) = evaluate(&next);
        if next_value <= value + 1e-4 * length * slope {
            return Some((next, next_value, gradient));
        }
        length /= 2.0;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_bowl_is_minimised() {
        let bowl = |x: &DVector<f64>| {
            let scale = DVector::from_fn(x.len(), |i, _| 10.0_f64.powi(i as i32 - 2));
            let shifted = x.add_scalar(-1.0);
            (0.5 * shifted.component_mul(&shifted).dot(&scale), shifted.component_mul(&scale))
        };
        let found = minimise(bowl, DVector::zeros(5));
        assert!(bowl(&found).1.amax() < FLAT);
        assert!((found[4] - 1.0).abs() < 1e-5 && (found[0] - 1.0).abs() < 2e-2);
    }

    #[test]
    fn a_start_at_the_minimum_stays() {
        let start = DVector::from_element(3, 2.0);
        assert_eq!(minimise(|x| (0.0, x * 0.0), start.clone()), start);
    }
}
