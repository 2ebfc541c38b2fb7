//! Recording routes piece by piece, so that the work can stop and go on.
//!
//! A piece is a trace of some batches on end, in a folder of its own under `pieces`. The whole is their concatenation: a token's routes
//! do not depend on what it is run with, so where the pieces part decides no byte of it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use moescope_base::{Subject, Tokens};
use moescope_host::{FolderLock, make_folder, replace, sweep};

use crate::recorder::record_routing;
use crate::{RoutingTrace, TokenTable, TraceError, TraceFolder, write_trace};

/// The folder of the pieces.
const PIECES: &str = "pieces";
/// What is recorded; written first.
const JOB: &str = "job.txt";
/// A piece is saved no oftener than this.
const SAVE_AFTER: Duration = Duration::from_secs(10);

/// How a recording of routes ended.
#[derive(Clone, Debug, PartialEq)]
pub enum RoutingOutcome {
    /// All batches are through.
    Done(Box<RoutingTrace>),
    /// It was asked to stop; the same job goes on from the folder.
    Interrupted {
        /// Tokens that are done.
        tokens: usize,
    },
}

/// Where pieces are kept, and of what.
#[derive(Clone, Copy, Debug)]
pub struct PieceFolder<'a> {
    /// The folder of the finished work, in which the pieces have a folder of their own.
    pub folder: &'a Path,
    /// What tells this job from others: model, text, sizes, version. One line.
    pub job: &'a str,
    /// Whether pieces of an earlier call are taken up.
    pub resume: bool,
}

impl PieceFolder<'_> {
    /// Refuses pieces of another job, and any that are not to be taken up.
    ///
    /// # Errors
    /// [`TraceError::Pieces`], or [`TraceError::File`] where they cannot be read.
    pub fn check(&self) -> Result<(), TraceError> {
        let path = self.folder.join(PIECES).join(JOB);
        if !path.exists() {
            return Ok(());
        }
        let refused =
            |reason: &str| Err(TraceError::Pieces { folder: self.folder.into(), reason: reason.to_owned() });
        if !self.resume {
            return refused("go on with `--resume`, or choose another folder as --out");
        }
        let found = std::fs::read_to_string(&path).map_err(|source| TraceError::File {
            action: "read",
            path,
            source,
        })?;
        match found.trim_end() == self.job {
            true => Ok(()),
            false => refused(
                "of another model, text, length of windows or version; choose another folder as --out",
            ),
        }
    }

    /// Removes the pieces, once the whole is written.
    ///
    /// # Errors
    /// [`TraceError::File`].
    pub fn remove(&self) -> Result<(), TraceError> {
        let path = self.folder.join(PIECES);
        match path.exists() {
            true => std::fs::remove_dir_all(&path).map_err(|source| TraceError::File {
                action: "remove",
                path,
                source,
            }),
            false => Ok(()),
        }
    }

    fn piece(&self, number: usize) -> PathBuf {
        self.folder.join(PIECES).join(format!("{number:05}"))
    }

    /// The pieces that are whole, joined; a piece without a manifest was broken off.
    fn taken_up(&self) -> Result<Vec<RoutingTrace>, TraceError> {
        let whole = (0..).map(|number| self.piece(number)).take_while(|p| p.join("manifest.json").exists());
        whole.map(|folder| TraceFolder::open(&folder)?.routing()).collect()
    }
}

/// Records the routes of all batches until that is done or `stop` is set, as [`record_routing`] does, with the pieces in a folder.
///
/// The batches may be cut in another way in each call: those whose tokens are done are passed over, and one of which a part is done is
/// run again, all of it. The trace is the same to the bit, whatever the interruptions.
///
/// # Errors
/// As [`record_routing`] and [`PieceFolder::check`], or if a piece cannot be read or written.
pub fn record_routing_in_pieces(
    subject: &mut dyn Subject,
    batches: impl IntoIterator<Item = (Tokens, TokenTable)>,
    place: &PieceFolder<'_>,
    stop: &AtomicBool,
) -> Result<RoutingOutcome, TraceError> {
    place.check()?;
    let mut state = Unsaved { since: Instant::now(), batches: Vec::new(), number: 0, held: None };
    if place.folder.join(PIECES).exists() {
        state.begin(place)?;
    }
    let mut pieces = place.taken_up()?;
    state.number = pieces.len();
    let mut done: usize = pieces.iter().map(|piece| piece.tokens().len()).sum();
    let mut seen = 0;
    for (tokens, table) in batches {
        let here = seen..seen + table.len();
        seen = here.end;
        if here.end <= done {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            state.save(place, &mut pieces)?;
            return Ok(RoutingOutcome::Interrupted { tokens: done });
        }
        let trace = match record_routing(subject, [(tokens, table)]) {
            // A subject that heeds the flag itself gives up in the middle of a pass.
            Err(_) if stop.load(Ordering::Relaxed) => {
                state.save(place, &mut pieces)?;
                return Ok(RoutingOutcome::Interrupted { tokens: done });
            }
            trace => trace?,
        };
        state.batches.push(trace.without_first(done - here.start)?);
        done = here.end;
        if state.since.elapsed() > SAVE_AFTER {
            state.save(place, &mut pieces)?;
        }
    }
    // The analysis that follows may be broken off as well.
    state.save(place, &mut pieces)?;
    Ok(RoutingOutcome::Done(Box::new(joined(pieces)?)))
}

/// Batches that are in no piece yet.
struct Unsaved {
    since: Instant,
    batches: Vec<RoutingTrace>,
    number: usize,
    held: Option<FolderLock>,
}

impl Unsaved {
    /// Takes the folder and says of what it is, before anything else is written.
    fn begin(&mut self, place: &PieceFolder<'_>) -> Result<(), TraceError> {
        let folder = place.folder.join(PIECES);
        make_folder(&folder)?;
        self.held = Some(FolderLock::take(&folder)?);
        sweep(&folder)?;
        Ok(replace(&folder.join(JOB), |file| writeln!(file, "{}", place.job))?)
    }

    fn save(&mut self, place: &PieceFolder<'_>, pieces: &mut Vec<RoutingTrace>) -> Result<(), TraceError> {
        if self.batches.is_empty() {
            return Ok(());
        }
        if self.held.is_none() {
            self.begin(place)?;
        }
        let piece = joined(std::mem::take(&mut self.batches))?;
        write_trace(&place.piece(self.number), &piece, None, place.job, env!("CARGO_PKG_VERSION"))?;
        pieces.push(piece);
        self.number += 1;
        self.since = Instant::now();
        Ok(())
    }
}

/// One trace after the other.
fn joined(traces: Vec<RoutingTrace>) -> Result<RoutingTrace, TraceError> {
    let mut traces = traces.into_iter();
    let Some(first) = traces.next() else { return RoutingTrace::new(TokenTable::default(), Vec::new()) };
    let (mut tokens, mut layers) = first.into_parts();
    for trace in traces {
        let (more_tokens, more_layers) = trace.into_parts();
        tokens.extend(more_tokens)?;
        for (layer, more) in layers.iter_mut().zip(more_layers) {
            layer.choices.extend(more.choices);
            layer.weights.extend(more.weights);
            layer.entropy.extend(more.entropy);
            layer.margin.extend(more.margin);
            layer.relative_margin.extend(more.relative_margin);
        }
    }
    RoutingTrace::new(tokens, layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Planted, batch};

    /// Twelve windows of two tokens, some in each batch.
    fn batches(windows: usize) -> Vec<(Tokens, TokenTable)> {
        let ids: Vec<u32> = (0..24).map(|i| (i * i + i / 3) % 4).collect();
        let joined = |ids: &[u32]| {
            let mut table = TokenTable::default();
            for (place, window) in ids.chunks(2).map(|window| batch(window).1).enumerate() {
                match place {
                    0 => table = window,
                    _ => table.extend(window).unwrap(),
                }
            }
            (Tokens::new(ids.to_vec(), ids.len() / 2, 2).unwrap(), table)
        };
        ids.chunks(2 * windows).map(joined).collect()
    }

    /// As for a stop between two batches: the flag goes up while the batch of that number is asked for.
    fn record(
        folder: &Path,
        windows: usize,
        resume: bool,
        stop_before: usize,
        job: &str,
    ) -> Result<RoutingOutcome, TraceError> {
        let stop = AtomicBool::new(false);
        let watched = batches(windows).into_iter().enumerate().map(|(number, batch)| {
            stop.store(number >= stop_before, Ordering::Relaxed);
            batch
        });
        let place = PieceFolder { folder, job, resume };
        record_routing_in_pieces(&mut Planted::new(), watched, &place, &stop)
    }

    #[test]
    fn what_was_stopped_anywhere_goes_on_to_the_same_trace_also_in_other_batches() {
        let whole = record_routing(&mut Planted::new(), batches(2)).unwrap();
        for stop in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let first = record(folder.path(), 2, false, stop, "a").unwrap();
            assert_eq!(first, RoutingOutcome::Interrupted { tokens: 4 * stop });
            let second = record(folder.path(), 4, true, stop / 2 + 1, "a").unwrap();
            let third = record(folder.path(), 3, true, 99, "a").unwrap();
            let RoutingOutcome::Done(found) = third else { panic!("{second:?}") };
            assert_eq!(format!("{found:?}"), format!("{whole:?}"), "stopped before {stop}");
            PieceFolder { folder: folder.path(), job: "a", resume: true }.remove().unwrap();
            assert!(!folder.path().join(PIECES).exists());
        }
    }

    #[test]
    fn pieces_of_another_job_and_pieces_that_nobody_asked_for_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), 2, false, 2, "a").unwrap();
        let refused = |resume, job| record(folder.path(), 2, resume, 99, job).unwrap_err().to_string();
        assert!(refused(false, "a").contains("--resume"));
        assert!(refused(true, "b").contains("another model"));
    }

    #[test]
    fn a_piece_that_was_broken_off_is_recorded_again() {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), 2, false, 2, "a").unwrap();
        std::fs::remove_file(folder.path().join("pieces/00000/manifest.json")).unwrap();
        let RoutingOutcome::Done(found) = record(folder.path(), 2, true, 99, "a").unwrap() else {
            panic!("nothing stops it")
        };
        assert_eq!(found.tokens().len(), 24);
    }
}
