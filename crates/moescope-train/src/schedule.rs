use serde::{Deserialize, Serialize};

use crate::TrainError;

/// How the learning rate changes over a run, as a share of its peak.
///
/// Both kinds rise in a straight line over `warmup` steps: step `s` (from 0) of the warm-up has `(s + 1) / (warmup + 1)`.
/// No step has rate 0 unless a floor of 0 is reached at the very end of an infinitely long run, so no step is wasted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// After the warm-up half a cosine from the peak towards `floor` times the peak.
    Cosine {
        /// Steps of the warm-up.
        warmup: u64,
        /// Share of the peak towards which the rate falls, in `0..=1`.
        floor: f32,
    },
    /// After the warm-up constant, then a straight line towards 0 over the last `decay` steps.
    ///
    /// - **Source:** "warmup-stable-decay", Hu et al. 2024 (MiniCPM), with linear decay as in Hägele et al. 2024.
    Trapezoid {
        /// Steps of the warm-up.
        warmup: u64,
        /// Steps of the decay.
        decay: u64,
    },
}

impl Schedule {
    /// Share of the peak learning rate at `step` (from 0) of a run of `steps`.
    ///
    /// - **Unit and range:** share, above 0 (with a floor of 0 as well) and up to 1.
    pub fn share(&self, step: u64, steps: u64) -> f64 {
        match *self {
            Schedule::Cosine { warmup, floor } => {
                let progress = step.saturating_sub(warmup) as f64 / (steps - warmup).max(1) as f64;
                let fall = (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0;
                rise(step, warmup) * (f64::from(floor) + (1.0 - f64::from(floor)) * fall)
            }
            Schedule::Trapezoid { warmup, decay } => {
                let left = (steps - step) as f64 / (decay + 1) as f64;
                rise(step, warmup) * left.min(1.0)
            }
        }
    }

    /// Refuses a schedule that does not fit into a run of `steps`.
    ///
    /// # Errors
    /// [`TrainError::Plan`] for phases longer than the run, or a floor outside `0..=1`.
    pub fn check(&self, steps: u64) -> Result<(), TrainError> {
        let (phases, floor) = match *self {
            Schedule::Cosine { warmup, floor } => (Some(warmup), floor),
            Schedule::Trapezoid { warmup, decay } => (warmup.checked_add(decay), 0.0),
        };
        let problem = |found, wanted| Err(TrainError::Plan { field: "schedule", found, wanted });
        if phases.is_none_or(|phases| phases > steps) {
            return problem(
                format!("{self:?}"),
                format!("warm-up and decay within the {steps} steps of the run"),
            );
        }
        if !(0.0..=1.0).contains(&floor) {
            return problem(format!("a floor of {floor}"), "a floor from 0 to 1".into());
        }
        Ok(())
    }
}

fn rise(step: u64, warmup: u64) -> f64 {
    ((step + 1) as f64 / (warmup + 1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(schedule: Schedule, steps: u64) -> Vec<f64> {
        (0..steps).map(|step| schedule.share(step, steps)).collect()
    }

    #[test]
    fn a_trapezoid_by_hand() {
        let found = shares(Schedule::Trapezoid { warmup: 3, decay: 3 }, 8);
        assert_eq!(found, [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]);
        assert_eq!(shares(Schedule::Trapezoid { warmup: 0, decay: 0 }, 3), [1.0; 3]);
    }

    #[test]
    fn a_cosine_by_hand() {
        // Four steps after the warm-up lie at angles 0, 45, 90 and 135 degrees.
        let found = shares(Schedule::Cosine { warmup: 1, floor: 0.0 }, 5);
        let half_root = 0.5f64.sqrt();
        let wanted = [0.5, 1.0, (1.0 + half_root) / 2.0, 0.5, (1.0 - half_root) / 2.0];
        assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-12), "{found:?}");
        let raised = shares(Schedule::Cosine { warmup: 1, floor: 0.2 }, 5);
        assert!((raised[3] - 0.6).abs() < 1e-7);
    }

    #[test]
    fn a_schedule_longer_than_the_run_is_refused() {
        assert!(Schedule::Trapezoid { warmup: 5, decay: 5 }.check(10).is_ok());
        let error = Schedule::Trapezoid { warmup: 6, decay: 5 }.check(10).unwrap_err().to_string();
        assert!(error.contains("within the 10 steps"), "{error}");
        assert!(Schedule::Trapezoid { warmup: u64::MAX, decay: 5 }.check(10).is_err());
        assert!(Schedule::Cosine { warmup: 0, floor: 1.5 }.check(10).is_err());
    }

    proptest! {
        #[test]
        fn every_share_is_above_zero_and_at_most_one(warmup in 0u64..20, decay in 0u64..20, more in 1u64..20) {
            let steps = warmup + decay + more;
            for schedule in [Schedule::Trapezoid { warmup, decay }, Schedule::Cosine { warmup, floor: 0.0 }] {
                prop_assert!(schedule.check(steps).is_ok());
                prop_assert!(shares(schedule, steps).iter().all(|share| *share > 0.0 && *share <= 1.0));
            }
        }
    }
}
