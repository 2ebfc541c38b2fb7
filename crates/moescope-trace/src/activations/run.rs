//! Recording a corpus window by window, so that it can stop anywhere and go on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use moescope_base::{HookPoint, PassEnd, Request, Subject, Tokens};
use moescope_host::{FolderLock, sweep};

use super::manifest::{ActivationManifest, KIND, Kept, RecordedHook, SCHEMA};
use super::margins::{Seen, with_sources};
use super::part::Part;
use super::priority::Lots;
use super::reservoir::{ExpertSamples, Origin};
use super::resume;
use crate::{TraceError, token_hash};

/// The rows of single experts are saved no oftener than this, and no oftener than takes a twentieth of the time.
const SAVE_AFTER: Duration = Duration::from_secs(20);

/// Consecutive tokens of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusWindow {
    /// Number of the document.
    pub document: u32,
    /// Position of the first token in the document.
    pub start: u32,
    /// Token ids.
    pub ids: Vec<u32>,
}

/// What a document is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentLabel {
    /// Its domain.
    pub domain: String,
    /// Its name, unique in its domain.
    pub name: String,
}

/// What is to be recorded.
#[derive(Clone, Debug)]
pub struct ActivationJob {
    /// Sites.
    pub points: Vec<HookPoint>,
    /// Which rows are kept.
    pub kept: Kept,
    /// Windows of two tokens or more, all of one length, in the order of the text.
    pub windows: Vec<CorpusWindow>,
    /// Documents by number.
    pub documents: Vec<DocumentLabel>,
    /// Names of the domains, in order.
    pub domain_names: Vec<String>,
    /// Tokens that fill no window.
    pub tokens_left_out: usize,
    /// Windows in one part. It decides how the files are cut, and no number.
    pub part_windows: usize,
    /// The model as it was named, and a hash that tells it from others.
    pub model: (String, String),
    /// Version of the code.
    pub code_version: String,
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    /// The folder is whole.
    Done(Box<ActivationManifest>),
    /// It was asked to stop; the same job goes on from the folder.
    Interrupted {
        /// Windows that are done.
        windows: usize,
        /// Windows that go through the model.
        of: usize,
    },
}

/// Who watches: windows that are done, and windows in all.
pub type Watch<'w> = dyn FnMut(usize, usize) + 'w;

/// Records a corpus into a folder, `sequences` windows in a pass, until it is done or `stop` is set.
///
/// The bytes of every file depend on the job alone: not on the size of passes, nor on interruptions of whatever kind, nor on where
/// they were. With `resume` a folder that holds a part of the same job goes on; one of another job is refused, and so is any
/// without `resume`. Values are recorded without edits and gradients.
///
/// # Errors
/// If the job has no window or no site, the folder holds something else, the subject cannot answer, or something cannot be written. What
/// was written before stays, and can be taken up; without its manifest it does not look whole.
pub fn record_activations(
    subject: &mut dyn Subject,
    job: &ActivationJob,
    sequences: usize,
    folder: &Path,
    resume: bool,
    watch: &mut Watch<'_>,
    stop: &AtomicBool,
) -> Result<RecordOutcome, TraceError> {
    let work = Work::of(job)?;
    let manifest = job.manifest(work.order.len())?;
    resume::open(folder, &manifest, resume)?;
    let _held = FolderLock::take(folder)?;
    sweep(folder)?;
    if resume::is_whole(folder) {
        return Ok(RecordOutcome::Done(Box::new(manifest)));
    }
    resume::begin(folder, &manifest, &job.documents)?;
    let mut experts = work.expert_samples(job);
    let start = work.start(job, folder, &mut experts)?;
    let mut state =
        State { part: Part::default(), experts, done: start, saved: Instant::now(), cost: Duration::ZERO };
    while state.done < work.order.len() {
        watch(state.done, work.order.len());
        if stop.load(Ordering::Relaxed) {
            state.save(folder)?;
            return Ok(RecordOutcome::Interrupted { windows: state.done, of: work.order.len() });
        }
        let end = work.order.len().min(state.done + sequences.max(1));
        let seen = match pass(subject, job, &work.order[state.done..end]) {
            // A subject that heeds the flag itself gives up in the middle of a pass: the next turn saves what is done.
            Err(_) if stop.load(Ordering::Relaxed) => continue,
            seen => seen?,
        };
        state.take(job, &work, &seen, end, folder)?;
        if state.saved.elapsed() > SAVE_AFTER.max(20 * state.cost) {
            state.save(folder)?;
        }
    }
    watch(work.order.len(), work.order.len());
    if !state.experts.is_empty() {
        state.experts.write(&folder.join(resume::EXPERTS), None)?;
    }
    resume::finish(folder, &manifest)?;
    Ok(RecordOutcome::Done(Box::new(manifest)))
}

/// One forward pass over some windows.
fn pass(subject: &mut dyn Subject, job: &ActivationJob, order: &[usize]) -> Result<Seen, TraceError> {
    let ids: Vec<u32> = order.iter().flat_map(|window| &job.windows[*window].ids).copied().collect();
    let positions = ids.len() / order.len();
    let tokens = Tokens::new(ids, order.len(), positions)?;
    let record = job.recorded_points();
    // A sample keeps no losses.
    let end = match job.kept {
        Kept::Whole => PassEnd::Losses,
        Kept::Sample { .. } => PassEnd::Recorded,
    };
    let seen = subject.run(&Request { record: &record, end, ..Request::of(&tokens) })?;
    match record.iter().find(|point| !seen.values.contains_key(point)) {
        Some(point) => Err(TraceError::NotRecorded { name: point.to_string() }),
        None => Ok(Seen::of(seen, &job.points)),
    }
}

impl ActivationJob {
    /// What the folder will say about itself.
    fn manifest(&self, windows_run: usize) -> Result<ActivationManifest, TraceError> {
        let hook = |point: &HookPoint| RecordedHook {
            name: point.to_string(),
            axes: point.site().axes().iter().map(ToString::to_string).collect(),
        };
        let ids: Vec<u32> = self.windows.iter().flat_map(|window| &window.ids).copied().collect();
        Ok(ActivationManifest {
            schema: SCHEMA,
            kind: KIND.into(),
            model: self.model.0.clone(),
            model_hash: self.model.1.clone(),
            token_hash: token_hash(&ids),
            code_version: self.code_version.clone(),
            hooks: self.points.iter().map(hook).collect(),
            kept: self.kept,
            positions: self.windows.first().map_or(0, |window| window.ids.len()),
            windows: self.windows.len(),
            windows_run,
            part_windows: self.part_windows,
            tokens_left_out: self.tokens_left_out,
            documents: self.documents.len(),
            domain_names: self.domain_names.clone(),
        })
    }

    /// What each pass records: the sites of the job, and where a router's values are among them all that its margins need.
    pub fn recorded_points(&self) -> Vec<HookPoint> {
        with_sources(&self.points)
    }

    /// How many windows will go through the model.
    ///
    /// Of a sample without single experts only those with a drawn token: what is drawn is known before.
    ///
    /// # Errors
    /// As [`record_activations`], for a job that cannot begin.
    pub fn windows_run(&self) -> Result<usize, TraceError> {
        Ok(Work::of(self)?.order.len())
    }

    /// Refuses what cannot be recorded.
    fn check(&self) -> Result<(), TraceError> {
        let positions = self.windows.first().map_or(0, |window| window.ids.len());
        let bad = |what: &str, found: String, wanted: &str| {
            Err(TraceError::Inconsistent { what: what.into(), found, wanted: wanted.into() })
        };
        if self.points.is_empty() || self.windows.is_empty() {
            let found = format!("{} sites and {} windows", self.points.len(), self.windows.len());
            return bad("the recording", found, "one of each at least");
        }
        if positions < 2 || self.part_windows == 0 || matches!(self.kept, Kept::Sample { rows: 0, .. }) {
            let found = format!("windows of {positions} tokens and {} to a part", self.part_windows);
            return bad("the recording", found, "2 tokens, a window and a row at least");
        }
        let fits = |window: &CorpusWindow| {
            window.ids.len() == positions && (window.document as usize) < self.documents.len()
        };
        match self.windows.iter().position(|window| !fits(window)) {
            Some(index) => {
                bad("the recording", format!("another window {index}"), "one length, and known documents")
            }
            None => Ok(()),
        }
    }
}

/// What a job comes to: which windows are run, and what is kept of each.
struct Work {
    /// Indices of the windows that are run.
    order: Vec<usize>,
    /// The lots, and the drawn positions of each window of the job; none where all is kept.
    draw: Option<(Lots, Vec<Vec<u32>>)>,
    /// Whether values outside single experts are recorded, which go into parts.
    has_parts: bool,
}

impl Work {
    fn of(job: &ActivationJob) -> Result<Work, TraceError> {
        job.check()?;
        let in_experts = |point: &HookPoint| point.site().in_expert();
        let all = || (0..job.windows.len()).collect();
        let Kept::Sample { rows, seed } = job.kept else {
            return Ok(Work { order: all(), draw: None, has_parts: true });
        };
        let lots = Lots::new(seed, &job.documents);
        let has_parts = !job.points.iter().all(in_experts);
        let drawn = lots.drawn(&job.windows, if has_parts { rows } else { 0 });
        let order = match job.points.iter().any(in_experts) {
            true => all(),
            false => (0..job.windows.len()).filter(|window| !drawn[*window].is_empty()).collect(),
        };
        Ok(Work { order, draw: Some((lots, drawn)), has_parts })
    }

    /// Empty samples of the single experts.
    fn expert_samples(&self, job: &ActivationJob) -> ExpertSamples {
        let capacity = match job.kept {
            Kept::Whole => 0,
            Kept::Sample { rows, .. } => rows,
        };
        let sampled = self.draw.is_some();
        let points = job.points.iter().copied().filter(|point| sampled && point.site().in_expert());
        ExpertSamples::new(capacity, points)
    }

    /// The first window that is not done: after the parts that are there, and where experts were saved.
    fn start(
        &self,
        job: &ActivationJob,
        folder: &Path,
        experts: &mut ExpertSamples,
    ) -> Result<usize, TraceError> {
        let parts = self.order.len().div_ceil(job.part_windows);
        let whole = (0..parts).take_while(|part| folder.join(resume::part(*part)).exists()).count();
        let after_parts =
            if self.has_parts { (whole * job.part_windows).min(self.order.len()) } else { self.order.len() };
        if experts.is_empty() {
            return Ok(after_parts);
        }
        let path = folder.join(resume::STATE);
        let Some((lots, _)) = self.draw.as_ref().filter(|_| path.exists()) else { return Ok(0) };
        let windows = experts.read(&path, lots, job.documents.len())?.min(after_parts);
        // A part begins with its first window.
        Ok(if self.has_parts { windows / job.part_windows * job.part_windows } else { windows })
    }
}

/// What has been seen and is not on disk yet.
struct State {
    part: Part,
    experts: ExpertSamples,
    done: usize,
    saved: Instant,
    cost: Duration,
}

impl State {
    /// Puts in a pass over the windows up to `end`, and writes the parts that are full.
    fn take(
        &mut self,
        job: &ActivationJob,
        work: &Work,
        seen: &Seen,
        end: usize,
        folder: &Path,
    ) -> Result<(), TraceError> {
        let order = &work.order[self.done..end];
        if let Some((lots, _)) = work.draw.as_ref().filter(|_| !self.experts.is_empty()) {
            let origins: Vec<Origin> = order.iter().flat_map(|w| origins(&job.windows[*w], lots)).collect();
            self.experts.offer(&seen.kept.values, &origins);
        }
        for (index, number) in order.iter().enumerate() {
            let window = &job.windows[*number];
            match &work.draw {
                None => self.part.put_whole(window, index, seen),
                Some((_, drawn)) => self.part.put_drawn(window, index, &drawn[*number], seen),
            }
            self.done += 1;
            let full = self.part.windows() == job.part_windows || self.done == work.order.len();
            if full && work.has_parts {
                let path = folder.join(resume::part((self.done - 1) / job.part_windows));
                self.part.flush(&path, work.draw.is_none())?;
            }
        }
        if !work.has_parts {
            self.part = Part::default();
        }
        Ok(())
    }

    /// Saves the rows of single experts, so that the work can go on from here.
    fn save(&mut self, folder: &Path) -> Result<(), TraceError> {
        if !self.experts.is_empty() {
            let started = Instant::now();
            self.experts.write(&folder.join(resume::STATE), Some(self.done))?;
            self.cost = started.elapsed();
        }
        self.saved = Instant::now();
        Ok(())
    }
}

/// Where the rows of a window's tokens come from.
fn origins<'o>(window: &'o CorpusWindow, lots: &'o Lots) -> impl Iterator<Item = Origin> + 'o {
    window
        .ids
        .iter()
        .zip(window.start..)
        .map(|(id, position)| Origin { lot: lots.of(window.document, position), id: *id })
}
