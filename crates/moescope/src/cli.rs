//! The command line: which commands there are, and which options hold for all of them.
//!
//! Nothing is computed here. A command is one file under `commands`, with its options beside its code, and shares the
//! options of this file through [`Context`].

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// A microscope for Mixture-of-Experts transformers: it grows families of language models that differ in one thing only,
/// looks inside them and inside downloaded checkpoints, and answers questions with statistics.
///
/// Data goes to the standard output, progress and messages to the error stream. Exit codes: 0 done, 1 a threshold was not
/// met, 2 usage or input error, 75 interrupted but resumable, 130 Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "moescope", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Threads to use; 0 takes all cores. Results never depend on it.
    #[arg(long, global = true, value_name = "T", default_value_t = 0)]
    threads: usize,
    /// Print one JSON document to the standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Draw no progress line.
    #[arg(long, global = true)]
    no_progress: bool,
}

/// More threads than any machine has cores are a mistake, and starting them would only cost memory.
const MOST_THREADS: usize = 1024;

// What can be asked for. The help of each command is the documentation of its arguments, so that options and their
// description cannot part.
// No documentation comment: it would become the first lines of the help of the whole program.
#[derive(Debug, Subcommand)]
enum Command {
    Study(commands::study::StudyArgs),
    Train(commands::train::TrainArgs),
    Record(commands::record::RecordArgs),
    Routing(commands::routing::RoutingArgs),
    Analyze(commands::analyze::AnalyzeArgs),
    Knockout(commands::knockout::KnockoutArgs),
    Dictionary(commands::dictionary::DictionaryArgs),
    Validate(commands::validate::ValidateArgs),
    Inspect(commands::inspect::InspectArgs),
    Bench(commands::bench::BenchArgs),
    Export(commands::export::ExportArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Runs the command that was asked for.
    ///
    /// # Errors
    /// Whatever made it end early, with the exit code it calls for.
    pub fn run(&self) -> Result<(), Failure> {
        if self.threads > MOST_THREADS {
            return Err(Failure::input(format!("--threads {}; wanted at most {MOST_THREADS}", self.threads)));
        }
        // What works long ends in an orderly way; everything else simply ends at the first Ctrl-C.
        let interrupt = match &self.command {
            Command::Study(_) | Command::Train(_) => Interrupt::listen()?,
            Command::Routing(_) | Command::Knockout(_) | Command::Analyze(_) => Interrupt::listen()?,
            Command::Dictionary(_) => Interrupt::listen()?,
            Command::Record(args) if args.can_resume() => Interrupt::listen()?,
            _ => Interrupt::default(),
        };
        let context = Context::new(self.threads, self.json, self.no_progress, interrupt);
        let done = match &self.command {
            Command::Study(args) => commands::study::run(args, &context),
            Command::Train(args) => commands::train::run(args, &context),
            Command::Record(args) => commands::record::run(args, &context),
            Command::Routing(args) => commands::routing::run(args, &context),
            Command::Analyze(args) => commands::analyze::run(args, &context),
            Command::Knockout(args) => commands::knockout::run(args, &context),
            Command::Dictionary(args) => commands::dictionary::run(args, &context),
            Command::Validate(args) => commands::validate::run(args, &context),
            Command::Inspect(args) => commands::inspect::run(args, &context),
            Command::Bench(args) => commands::bench::run(args, &context),
            Command::Export(args) => commands::export::run(args, &context),
            Command::Completions { shell } => {
                clap_complete::generate(*shell, &mut Cli::command(), "moescope", &mut std::io::stdout());
                Ok(())
            }
        };
        done.map_err(|failure| context.in_known_names(failure))
    }
}
