//! How far a study is, for people who wait. The only place of the study, beside the plan, that looks at a clock.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What happens while a study runs. Events tell people how far it is; no result depends on them.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stage begins.
    Stage {
        /// In words.
        name: &'static str,
        /// Jobs in it.
        jobs: usize,
    },
    /// Work was done.
    Advance {
        /// Job.
        job: String,
        /// State of the job in a few words, such as step and loss.
        state: String,
        /// Share of the work of the whole study that is done, from 0 to 1, by FLOPs: comparisons and the report are
        /// not in it.
        done: f64,
        /// Time that the rest will take at the rate so far; none at the beginning, when there is no rate worth
        /// telling.
        left: Option<Duration>,
    },
    /// A job is finished.
    Finished {
        /// Job.
        job: String,
        /// Its result in a few words.
        state: String,
    },
}

/// Who hears the events.
type Listener<'a> = Box<dyn FnMut(&Event) + Send + 'a>;

/// Counts the work of all jobs and tells a listener. Workers share it; events of different jobs interleave.
pub(crate) struct Progress<'a> {
    listener: Mutex<Listener<'a>>,
    clock: Mutex<Clock>,
    total: f64,
}

/// Work counted so far, in the unit of the total.
struct Clock {
    /// When the first work was counted; what was done before a resume says nothing about the rate.
    started: Instant,
    done: f64,
    skipped: f64,
}

impl<'a> Progress<'a> {
    /// Progress towards `total` units of work. The unit is the caller's; here it is FLOPs.
    pub(crate) fn new(listener: &'a mut (dyn FnMut(&Event) + Send), total: f64) -> Progress<'a> {
        let clock = Clock { started: Instant::now(), done: 0.0, skipped: 0.0 };
        Progress {
            listener: Mutex::new(Box::new(listener)),
            clock: Mutex::new(clock),
            total: total.max(f64::MIN_POSITIVE),
        }
    }

    /// Tells that a stage of so many jobs begins.
    pub(crate) fn stage(&self, name: &'static str, jobs: usize) {
        self.tell(&Event::Stage { name, jobs });
    }

    /// Counts work that was found done. It moves the share and leaves the rate alone, so that a resumed study does
    /// not promise the speed of reading files.
    pub(crate) fn skip(&self, work: f64) {
        let mut clock = self.clock.lock().expect("no listener panics");
        clock.done += work;
        clock.skipped += work;
    }

    /// Counts work that was just done, and tells where the job stands.
    pub(crate) fn advance(&self, job: &str, state: String, work: f64) {
        let (done, left) = {
            let mut clock = self.clock.lock().expect("no listener panics");
            clock.done += work;
            (clock.done / self.total, clock.left(self.total))
        };
        self.tell(&Event::Advance { job: job.to_owned(), state, done: done.min(1.0), left });
    }

    /// Tells the result of a job; its work has been counted by then.
    pub(crate) fn finished(&self, job: &str, state: String) {
        self.tell(&Event::Finished { job: job.to_owned(), state });
    }

    fn tell(&self, event: &Event) {
        (self.listener.lock().expect("no listener panics"))(event);
    }
}

impl Clock {
    /// Time for the rest at the rate of the fresh work, if there is enough of it.
    fn left(&self, total: f64) -> Option<Duration> {
        let fresh = self.done - self.skipped;
        let spent = self.started.elapsed();
        // Too little work gives a rate that is mostly noise.
        (fresh > 0.01 * total && spent > Duration::from_secs(1))
            .then(|| spent.mul_f64(((total - self.done) / fresh).max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_skipped_and_fresh_work_add_up() {
        let mut shares = Vec::new();
        let mut listener = |event: &Event| {
            if let Event::Advance { done, .. } = event {
                shares.push(*done);
            }
        };
        let progress = Progress::new(&mut listener, 4.0);
        progress.skip(1.0);
        progress.advance("a", String::new(), 1.0);
        progress.advance("b", String::new(), 2.0);
        drop(progress);
        assert_eq!(shares, [0.5, 1.0]);
    }
}
