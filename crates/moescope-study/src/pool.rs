//! Several models at a time: a queue of jobs for single-threaded workers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::StudyError;

/// Works through jobs on several threads, each job on one thread of its own rayon pool.
///
/// Small models do not fill two cores, two small models do: one job per core wastes nothing on waiting. Results come
/// back in the order of the jobs and do not depend on the number of workers. The first error stops the rest; `stop`
/// lets the jobs in progress end and starts no others.
///
/// Jobs are taken in order, so an interrupted study has done its first ones. `run` must not depend on what other jobs
/// do: only then is the result the same for any number of workers.
///
/// # Errors
/// The error of the earliest job that failed, or [`StudyError::Interrupted`].
pub(crate) fn work<J: Sync, R: Send>(
    jobs: &[J],
    workers: usize,
    stop: &AtomicBool,
    run: impl Fn(&J) -> Result<R, StudyError> + Sync,
) -> Result<Vec<R>, StudyError> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results: Vec<Mutex<Option<Result<R, StudyError>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                let pool = single_threaded();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    if stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed) {
                        break;
                    }
                    let result = pool.install(|| {
                        let result = run(job);
                        // Buffers fit the sizes of this job; kept, they would add up over models of many sizes.
                        moescope_train::release_spare_buffers();
                        result
                    });
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    *results[index].lock().expect("no job panics while it holds its result") = Some(result);
                }
            });
        }
    });
    collect(results)
}

/// The results in order, or the error of the earliest failed job. Jobs that never started are an interruption, which
/// tells how many were done.
fn collect<R>(results: Vec<Mutex<Option<Result<R, StudyError>>>>) -> Result<Vec<R>, StudyError> {
    let all = results.len();
    let mut done = Vec::with_capacity(all);
    let mut missing = false;
    for result in results {
        match result.into_inner().expect("no job panics while it holds its result") {
            Some(Ok(value)) => done.push(value),
            // A job that was interrupted is not done; how many are, only this count knows.
            Some(Err(StudyError::Interrupted { .. })) | None => missing = true,
            Some(Err(error)) => return Err(error),
        }
    }
    if missing { Err(StudyError::Interrupted { done: done.len(), all }) } else { Ok(done) }
}

/// A pool of one thread, so that kernels inside a job do not spread over the cores of other jobs.
fn single_threaded() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one more thread can be started")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_for_any_number_of_workers() {
        let jobs: Vec<u64> = (0..50).collect();
        for workers in [1, 2, 7] {
            let squares = work(&jobs, workers, &AtomicBool::new(false), |j| Ok(j * j)).unwrap();
            assert_eq!(squares, jobs.iter().map(|j| j * j).collect::<Vec<_>>());
        }
    }

    #[test]
    fn stopping_keeps_what_is_done_and_says_how_much() {
        let stop = AtomicBool::new(false);
        let error = work(&[1, 2, 3], 1, &stop, |j| {
            stop.store(*j == 2, Ordering::Relaxed);
            Ok(*j)
        });
        assert!(matches!(error, Err(StudyError::Interrupted { done: 2, all: 3 })));
    }

    #[test]
    fn an_error_stops_the_rest() {
        let started = AtomicUsize::new(0);
        let result = work(&[0; 100], 1, &AtomicBool::new(false), |_| {
            started.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(StudyError::OneDomain { domain: "x".into() })
        });
        assert!(matches!(result, Err(StudyError::OneDomain { .. })));
        assert_eq!(started.into_inner(), 1);
    }
}
