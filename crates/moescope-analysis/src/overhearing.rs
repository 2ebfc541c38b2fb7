//! What comes along with a pass over a text that is made for something else.

use moescope_base::{HookPoint, Observation, Request, Subject, SubjectError, SubjectShape};

use crate::AnalysisError;

/// Something that wants to hear values of every pass over a text.
pub(crate) trait Ear {
    /// Where.
    fn points(&self) -> &[HookPoint];

    /// Takes note of what a batch shows there; the subject may be asked to unembed.
    ///
    /// # Errors
    /// If a value is missing, or what follows from it cannot be found.
    fn hear(
        &mut self,
        subject: &mut dyn Subject,
        batch: usize,
        seen: &Observation,
    ) -> Result<(), AnalysisError>;
}

/// A subject that lets others hear while it is asked for something else, batch after batch, so that one pass answers all.
///
/// What is asked for is answered as without them, or fails as without them: ears that cannot hear, or cannot make sense of it, go deaf.
pub(crate) struct Overheard<'s> {
    subject: &'s mut dyn Subject,
    ears: Vec<(&'s mut dyn Ear, bool)>,
    /// Batches that were run.
    run: usize,
}

impl<'s> Overheard<'s> {
    /// A subject that will be run on one batch of a text after the other.
    pub(crate) fn new(subject: &'s mut dyn Subject, ears: Vec<&'s mut dyn Ear>) -> Overheard<'s> {
        Overheard { subject, ears: ears.into_iter().map(|ear| (ear, true)).collect(), run: 0 }
    }

    /// Whether each ear heard all of so many batches.
    pub(crate) fn heard(&self, batches: usize) -> Vec<bool> {
        self.ears.iter().map(|(_, hears)| *hears && self.run == batches).collect()
    }
}

impl Subject for Overheard<'_> {
    fn shape(&self) -> &SubjectShape {
        self.subject.shape()
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let listening = self.ears.iter().filter(|(_, hears)| *hears);
        let extra: Vec<HookPoint> = listening.flat_map(|(ear, _)| ear.points()).copied().collect();
        let mut record = [request.record, &extra].concat();
        record.sort_unstable();
        record.dedup();
        let mut seen = match self.subject.run(&Request { record: &record, ..*request }) {
            Ok(seen) => seen,
            // What was asked for may be possible all the same.
            Err(_) if !extra.is_empty() => {
                self.ears.iter_mut().for_each(|(_, hears)| *hears = false);
                return self.subject.run(request);
            }
            Err(error) => return Err(error),
        };
        for (ear, hears) in self.ears.iter_mut().filter(|(_, hears)| *hears) {
            *hears = ear.hear(self.subject, self.run, &seen).is_ok();
        }
        self.run += 1;
        seen.values.retain(|point, _| request.record.contains(point));
        Ok(seen)
    }

    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
        self.subject.unembed(residual)
    }
}

#[cfg(test)]
mod tests {
    use moescope_base::{Site, Value};
    use moescope_model::ModelSubject;

    use super::*;
    use crate::planted_model::{model, own_text};

    /// Counts rows of a stream, and gives up after some batches.
    struct Counter {
        points: [HookPoint; 1],
        rows: usize,
        patience: usize,
    }

    impl Ear for Counter {
        fn points(&self) -> &[HookPoint] {
            &self.points
        }

        fn hear(
            &mut self,
            _: &mut dyn Subject,
            batch: usize,
            seen: &Observation,
        ) -> Result<(), AnalysisError> {
            crate::check::at_least("test", "batches", self.patience, batch + 1)?;
            let stream = seen.values.get(&self.points[0]).and_then(Value::real);
            self.rows += stream.ok_or(AnalysisError::NotRecorded { point: self.points[0] })?.len();
            Ok(())
        }
    }

    #[test]
    fn ears_hear_what_nobody_asked_for_and_the_answer_stays_the_same() {
        let planted = model(2, 3, |_, _| {});
        let samples = [own_text(&planted, 4, 1), own_text(&planted, 3, 2)];
        let mut subject = ModelSubject::new(planted);
        let width = subject.shape().d_model;
        let [first, last] = [0, 1].map(|layer| HookPoint::block(Site::ResidPost, layer));
        let alone: Vec<Observation> = samples
            .iter()
            .map(|sample| subject.run(&Request::recording(sample.tokens(), &[first])).unwrap())
            .collect();
        let ear = |point, patience| Counter { points: [point], rows: 0, patience };
        let [mut same, mut other] = [ear(first, 9), ear(last, 9)];
        let (mut bored, mut lost) = (ear(last, 1), ear(HookPoint::block(Site::ResidPost, 7), 9));
        let mut overheard = Overheard::new(&mut subject, vec![&mut same, &mut other, &mut bored]);
        for (sample, alone) in samples.iter().zip(&alone) {
            let seen = overheard.run(&Request::recording(sample.tokens(), &[first])).unwrap();
            assert_eq!(seen.values, alone.values);
        }
        assert_eq!(overheard.heard(2), [true, true, false]);
        assert_eq!(overheard.heard(3), [false; 3], "a batch was not run");
        let rows =
            |samples: &[crate::Sample]| samples.iter().map(|s| s.tokens().len() * width).sum::<usize>();
        assert_eq!(
            [same.rows, other.rows, bored.rows],
            [rows(&samples), rows(&samples), rows(&samples[..1])]
        );
        // A point that does not exist spoils nothing for who asked for another.
        let mut overheard = Overheard::new(&mut subject, vec![&mut lost]);
        let seen = overheard.run(&Request::recording(samples[0].tokens(), &[first])).unwrap();
        assert_eq!((seen.values == alone[0].values, overheard.heard(1)), (true, vec![false]));
    }
}
