//! Memory that a command may take: the options, the plan, and the model opened in the way that fits.
//!
//! Where the weights fit beside what a pass holds they are read once and stay; where they do not, they are
//! read from their files in each pass. Both ways give the same results, and differ in time alone.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use moescope_analysis::wording::counted;
use moescope_host::{bytes_from_words, bytes_in_words, free_memory};
use moescope_model::{MemoryPlan, Model, Way, Work};
use moescope_weights::Weights;

use crate::commands::study::in_words;
use crate::context::Context;
use crate::failure::Failure;
use crate::say;

/// Share of the free memory that is taken where nothing else is asked for.
const SHARE: f64 = 0.7;
/// Memory where the system does not tell how much is free.
const UNKNOWN: u64 = 4 << 30;
/// Share of the rate of plain products that a forward pass usually reaches.
const EFFICIENCY: f64 = 0.7;

/// Sequences in one pass where all weights are in memory, at least.
const FEWEST: usize = 16;
/// Tokens in one pass where sequences are short. Each pass packs the weights anew and wakes all threads for each operation: too much for
/// a few hundred tokens, of which each expert gets a few dozen.
const TOKENS: usize = 4096;

/// Sequences of so many positions in one pass where all weights are in memory.
pub fn usual_sequences(positions: usize) -> usize {
    (TOKENS / positions.max(1)).max(FEWEST)
}

/// Options of the commands that run a model of any size.
#[derive(Clone, Debug, Args)]
pub struct MemoryArgs {
    /// Memory to take at most, such as 2GiB; weights that do not fit are read as they are needed, with the same results.
    /// Without it, 70 % of what is free.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Say what the work takes of memory, disk and time and which way it goes, and stop.
    #[arg(long)]
    dry_run: bool,
}

/// What a command is about to do.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// One pass.
    pub work: Work<'a>,
    /// Passes.
    pub passes: usize,
    /// Bytes that will be written.
    pub disk: u64,
}

/// A size on the command line.
fn size(text: &str) -> Result<u64, String> {
    bytes_from_words(text).ok_or_else(|| "wanted a size such as 2GiB, 800MiB or 1.5GB".into())
}

impl MemoryArgs {
    /// Whether the plan is all that is wanted.
    pub fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Bytes that may be taken.
    ///
    /// What the user named, or 70 % of what the system calls free at this moment; 4 GiB where it does not
    /// tell. It is asked anew at each call, so two calls may differ.
    pub fn bound(&self) -> u64 {
        let usual = || free_memory().map_or(UNKNOWN, |free| (free as f64 * SHARE) as u64);
        self.max_memory.unwrap_or_else(usual)
    }

    /// Opens a model in the way that fits, and says so where weights stay in their files.
    ///
    /// # Errors
    /// If the model cannot be opened, or not even one step of the work fits.
    pub fn open(&self, path: &Path, work: &Work<'_>, context: &Context) -> Result<Model, Failure> {
        let (model, plan) = Model::open_within(path, work, self.bound()).map_err(advised)?;
        moescope_engine::limit_spare_buffers(usize::try_from(plan.spare).unwrap_or(usize::MAX));
        if plan.way == Way::Streamed {
            let [weights, bound] = [plan.weights, plan.bound].map(|bytes| bytes_in_words(bytes as f64));
            context.progress().note(&format!(
                "{weights} of weights do not fit into {bound}: they are read as they are needed"
            ));
        }
        Ok(model)
    }

    /// Sequences in one pass: `usual`, or a few, where all weights fit into memory with so many, else as many as memory allows, up to all,
    /// because each pass reads all weights. From 16 on the number decides no result; with fewer, a few instruments of `analyze` draw otherwise what
    /// they draw within a pass.
    ///
    /// Where not all weights fit, the number is doubled as long as a plan fits, and passes are then made
    /// about equally large: 100 sequences of which 64 fit go as two passes of 50.
    ///
    /// # Errors
    /// If not even one sequence fits, or the files are no model.
    pub fn sequences<'a>(
        &self,
        path: &Path,
        all: usize,
        usual: usize,
        work: impl Fn(usize) -> Work<'a>,
    ) -> Result<usize, Failure> {
        let bound = self.bound();
        let plan = |sequences: usize| MemoryPlan::new(path, &work(sequences), bound);
        for sequences in [usual, FEWEST.min(usual)] {
            if plan(sequences.min(all)).is_ok_and(|plan| plan.way == Way::InMemory) {
                return Ok(sequences.min(all));
            }
        }
        plan(1).map_err(advised)?;
        let mut fitting = 1;
        while fitting < all && plan((2 * fitting).min(all)).is_ok() {
            fitting = (2 * fitting).min(all);
        }
        // Passes of about the same size.
        Ok(all.div_ceil(all.div_ceil(fitting)))
    }

    /// The way that weights take in passes of one sequence; none if not even that fits.
    pub fn way(&self, path: &Path, work: &Work<'_>) -> Option<Way> {
        MemoryPlan::new(path, work, self.bound()).ok().map(|plan| plan.way)
    }

    /// Prints the plan. The time is that of a short calibration, of products and of reading, on this machine.
    ///
    /// Nothing is written. Reading counts once where weights stay in memory, and once for each pass where
    /// they do not. The estimate takes seven tenths of the rate of plain products, so a model of very small
    /// experts may take longer than told.
    ///
    /// # Errors
    /// As [`open`](MemoryArgs::open).
    pub fn tell(&self, path: &Path, intent: &Intent<'_>, context: &Context) -> Result<(), Failure> {
        let plan = MemoryPlan::new(path, &intent.work, self.bound()).map_err(advised)?;
        let tokens = (intent.work.batch * intent.work.positions * intent.passes) as f64;
        let one_core = moescope_engine::measure::gemm_rate(512, 1024, 1024, 8).median * 1e9;
        let rate = one_core * context.threads() as f64 * EFFICIENCY;
        let computing = tokens * plan.flops_per_token as f64 / rate;
        let readings = if plan.way == Way::Streamed { intent.passes } else { 1 };
        let reading = readings as f64 * plan.stored as f64 / reading_rate(path, context.threads())?;
        if context.json() {
            context.print_json(&serde_json::json!({
                "plan": plan,
                "peak": peak(&plan, intent.passes),
                "passes": intent.passes,
                "sequences": intent.work.batch,
                "tokens": tokens,
                "disk": intent.disk,
                "seconds": computing + reading,
            }));
            return Ok(());
        }
        let words = |bytes: u64| bytes_in_words(bytes as f64);
        let way = match plan.way {
            Way::InMemory => "all weights in memory",
            Way::Streamed => "weights read as they are needed, in every pass",
        };
        let span = |seconds: f64| in_words(Duration::from_secs_f64(seconds.min(1e9)));
        say!("way     {way}");
        say!(
            "memory  at most {} of {} ({} of weights as f32)",
            words(peak(&plan, intent.passes)),
            words(plan.bound),
            words(plan.weights)
        );
        say!("disk    {} to write, {} to read", words(intent.disk), words(plan.stored * readings as u64));
        say!(
            "time    about {}: {} of computing, {} of reading where the files are in the system's cache",
            span(computing + reading),
            span(computing),
            span(reading)
        );
        say!(
            "work    {tokens} tokens in {} of {}",
            counted(intent.passes, "pass", "passes"),
            counted(intent.work.batch, "sequence", "sequences")
        );
        Ok(())
    }
}

/// The estimated peak of the way that was chosen: a streamed pass uses the room that it has, but no more than all weights take. Several passes
/// may have streams in common.
fn peak(plan: &MemoryPlan, passes: usize) -> u64 {
    match plan.way {
        Way::InMemory if passes > 1 => plan.in_memory + plan.streams,
        Way::InMemory => plan.in_memory,
        Way::Streamed => plan.bound.min(plan.in_memory),
    }
}

/// The next step at the command line, where the library can only say what does not fit.
fn advised(error: moescope_model::ModelError) -> Failure {
    let bound = matches!(error, moescope_model::ModelError::Bound { .. });
    let mut failure = Failure::from(error);
    if bound {
        failure.message += " (--max-memory SIZE; --dry-run says what the work takes)";
    }
    failure
}

/// Bytes of the files that are decoded in a second, by a sample of the largest tensor.
fn reading_rate(path: &Path, threads: usize) -> Result<f64, Failure> {
    const SAMPLE: usize = 8 << 20;
    let weights = Weights::open(path)?;
    let largest = weights.names().filter_map(|name| weights.get(name)).max_by_key(|tensor| tensor.len());
    let Some(tensor) = largest.filter(|tensor| !tensor.is_empty() && tensor.shape().len() > 1) else {
        return Ok(1e9);
    };
    let (rows, row) = (tensor.shape()[0], tensor.len() / tensor.shape()[0]);
    let sampled = (SAMPLE / row).clamp(1, rows);
    let mut numbers = vec![0.0; sampled * row];
    // Once to fetch the pages, once to see how fast they are decoded.
    let mut seconds = 0.0;
    for _ in 0..2 {
        let started = Instant::now();
        tensor.read_rows(0..sampled, &mut numbers)?;
        seconds = started.elapsed().as_secs_f64();
    }
    let bytes = tensor.bytes() as f64 * sampled as f64 / rows as f64;
    Ok(bytes * threads as f64 / seconds.max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_or_refused_with_an_example() {
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert!(size("much").unwrap_err().contains("2GiB"));
    }

    #[test]
    fn short_sequences_go_together() {
        assert_eq!([1, 64, 256, 1024, 4096].map(usual_sequences), [4096, 64, 16, 16, 16]);
    }

    #[test]
    fn without_an_option_a_share_of_what_is_free_is_taken() {
        let args = MemoryArgs { max_memory: None, dry_run: false };
        assert!(args.bound() > 1 << 20);
        assert_eq!(MemoryArgs { max_memory: Some(5), dry_run: false }.bound(), 5);
    }
}
