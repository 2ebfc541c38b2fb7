//! How far an analysis is: which instrument is at work, how many forward passes it has made, and how long the rest may take.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moescope_analysis::instrument::{About, Instrument, Other};
use moescope_base::{Observation, Parameters, Request, Subject, SubjectError, SubjectShape};

use crate::progress::ProgressLine;

/// Time of instruments beside each other, on a small routed model; those that are not named take about one. Instruments differ by a factor of
/// a hundred, so that counting them would promise far too little time before the long ones and far too much after. For people who wait; no
/// result depends on it.
const TYPICAL: [(&str, f64); 16] = [
    ("dictionary", 100.0),
    ("path-patch", 20.0),
    ("tuned-lens", 20.0),
    ("neuron-profile", 15.0),
    ("superposition", 15.0),
    ("expert-representation", 10.0),
    ("attribution-patching", 10.0),
    ("quantised-experts", 10.0),
    ("expert-prune", 7.0),
    ("expert-merge", 6.0),
    ("activation-patch", 5.0),
    ("ablation", 5.0),
    ("jacobian-lens", 5.0),
    ("similarity", 4.0),
    ("sparse-probe", 3.0),
    ("expert-importance", 3.0),
];

/// Typical time of an instrument, in units of a short one.
fn typical(name: &str) -> f64 {
    TYPICAL.iter().find(|(long, _)| *long == name).map_or(1.0, |(_, time)| *time)
}

/// Watches instruments at work and moves the line of progress.
#[derive(Clone)]
pub(super) struct Watch(Arc<Mutex<State>>);

struct State {
    line: ProgressLine,
    names: Vec<&'static str>,
    /// Typical times of the instruments; 0 of those that the model does not allow.
    times: Vec<f64>,
    started: Instant,
    /// Time until the one at work began.
    spent: Duration,
    /// Instruments that have ended.
    ended: usize,
    /// Forward passes of the one at work.
    passes: usize,
}

impl Watch {
    /// Before the first of these instruments; those for routed layers take no time where there is none.
    pub(super) fn new(line: ProgressLine, instruments: &[&'static dyn Instrument], routed: bool) -> Watch {
        let abouts: Vec<About> = instruments.iter().map(|instrument| instrument.about()).collect();
        let names = abouts.iter().map(|about| about.name).collect();
        let times =
            abouts.iter().map(|about| if about.routed && !routed { 0.0 } else { typical(about.name) });
        Watch(Arc::new(Mutex::new(State::new(line, names, times.collect()))))
    }

    /// A subject whose forward passes are counted.
    pub(super) fn over<S: Subject>(&self, subject: S) -> Watched<S> {
        Watched { subject, watch: self.clone() }
    }

    /// The same for a model that the subject is compared with, whenever it is opened.
    pub(super) fn over_other<'a>(&self, other: Other<'a>) -> Other<'a> {
        let (watch, open) = (self.clone(), other.open);
        let opened = move || Ok(Box::new(watch.over(open()?)) as Box<dyn Subject + Send>);
        Other { open: Box::new(opened), name: other.name, step: other.step }
    }

    /// An instrument begins, after so many have ended.
    pub(super) fn begin(&self, ended: usize) {
        self.change(|state| (state.ended, state.passes, state.spent) = (ended, 0, state.started.elapsed()));
    }

    /// Removes the line.
    pub(super) fn clear(&self) {
        self.0.lock().expect("nobody panics with it").line.clear();
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock().expect("nobody panics with it");
        change(&mut state);
        let (share, left) = state.share_and_time_left(state.started.elapsed());
        state.line.advance(share, left, &state.in_words());
    }
}

impl State {
    fn new(line: ProgressLine, names: Vec<&'static str>, times: Vec<f64>) -> State {
        State { line, names, times, started: Instant::now(), spent: Duration::ZERO, ended: 0, passes: 0 }
    }

    /// Share of the work that has ended, and the time of the rest at the rate so far, less what the one at work has had of it; none
    /// before anything has ended.
    fn share_and_time_left(&self, elapsed: Duration) -> (f64, Option<Duration>) {
        let time = |times: &[f64]| times.iter().sum::<f64>();
        let share = time(&self.times[..self.ended]) / time(&self.times).max(f64::MIN_POSITIVE);
        let rest =
            || self.spent.mul_f64((1.0 - share) / share).saturating_sub(elapsed.saturating_sub(self.spent));
        (share, (share > 0.0).then(rest))
    }

    fn in_words(&self) -> String {
        let Some(name) = self.names.get(self.ended) else { return String::new() };
        let passes = match self.passes {
            0 => String::new(),
            1 => ", 1 forward pass".into(),
            passes => format!(", {passes} forward passes"),
        };
        format!("{name} ({} of {}){passes}", self.ended + 1, self.names.len())
    }
}

/// A subject that tells its watch of each forward pass.
pub(super) struct Watched<S> {
    subject: S,
    watch: Watch,
}

impl<S: Subject> Subject for Watched<S> {
    fn shape(&self) -> &SubjectShape {
        self.subject.shape()
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let seen = self.subject.run(request);
        self.watch.change(|state| state.passes += 1);
        seen
    }

    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
        self.subject.unembed(residual)
    }

    fn parameters(&mut self) -> Option<&mut dyn Parameters> {
        self.subject.parameters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_analysis::instrument::{CASE, named};

    fn state(names: &[&'static str], ended: usize, passes: usize) -> State {
        let times = names.iter().map(|name| typical(name)).collect();
        let state = State::new(ProgressLine::new(false), names.to_vec(), times);
        State { ended, passes, spent: Duration::from_secs(1), ..state }
    }

    #[test]
    fn long_instruments_weigh_more_than_short_ones() {
        let names = ["routing", "dictionary", "calibration"];
        let minute = Duration::from_secs(60);
        assert_eq!(state(&names, 0, 3).share_and_time_left(minute), (0.0, None));
        let (share, left) = state(&names, 1, 0).share_and_time_left(Duration::from_secs(1));
        assert!((share - 1.0 / 102.0).abs() < 1e-12);
        assert!((left.unwrap().as_secs_f64() - 101.0).abs() < 1e-6);
        // While the next one works, what is left gets less.
        let later = state(&names, 1, 9).share_and_time_left(Duration::from_secs(51)).1;
        assert!((later.unwrap().as_secs_f64() - 51.0).abs() < 1e-6);
        assert_eq!(state(&names, 3, 0).share_and_time_left(minute), (1.0, Some(Duration::ZERO)));
    }

    #[test]
    fn the_line_tells_the_instrument_its_place_and_its_passes() {
        let names = ["routing", "dictionary"];
        assert_eq!(state(&names, 0, 0).in_words(), "routing (1 of 2)");
        assert_eq!(state(&names, 0, 1).in_words(), "routing (1 of 2), 1 forward pass");
        assert_eq!(state(&names, 1, 57).in_words(), "dictionary (2 of 2), 57 forward passes");
        assert_eq!(state(&names, 2, 0).in_words(), "");
    }

    #[test]
    fn every_pass_is_counted_and_names_of_long_instruments_exist() {
        struct Still(SubjectShape);
        impl Subject for Still {
            fn shape(&self) -> &SubjectShape {
                &self.0
            }
            fn run(&mut self, _: &Request<'_>) -> Result<Observation, SubjectError> {
                Ok(Observation::default())
            }
            fn unembed(&mut self, _: &[f32]) -> Result<Vec<f32>, SubjectError> {
                Ok(Vec::new())
            }
        }
        let watch = Watch::new(ProgressLine::new(false), CASE, false);
        let shape = SubjectShape {
            d_model: 2,
            vocab: 2,
            heads: 1,
            head_dim: 2,
            feed_forward: Vec::new(),
            options: moescope_base::SiteOptions::default(),
        };
        let mut subject = watch.over(Still(shape));
        let tokens = moescope_base::Tokens::new(vec![0, 1], 1, 2).unwrap();
        (0..3).for_each(|_| drop(subject.run(&Request::of(&tokens)).unwrap()));
        assert_eq!(watch.0.lock().unwrap().passes, 3);
        watch.begin(1);
        assert_eq!(watch.0.lock().unwrap().passes, 0);
        let skipped = CASE.iter().filter(|instrument| instrument.about().routed).count();
        assert_eq!(watch.0.lock().unwrap().times.iter().filter(|time| **time == 0.0).count(), skipped);
        assert!(TYPICAL.iter().all(|(name, _)| named(name).is_some()));
    }
}
