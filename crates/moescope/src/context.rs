//! What every command gets: threads, the form of its output, progress, and the wish to stop.

use std::io::IsTerminal;

use serde::Serialize;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::progress::ProgressLine;
use crate::say;

/// What every command shares: options that hold for all, and the terminal.
#[derive(Debug)]
pub struct Context {
    threads: usize,
    json: bool,
    show_progress: bool,
    interrupt: Interrupt,
}

impl Context {
    /// The context of one call. `threads` of 0 means all cores.
    pub fn new(threads: usize, json: bool, no_progress: bool, interrupt: Interrupt) -> Context {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cores } else { threads };
        Context { threads, json, show_progress: !no_progress && std::io::stderr().is_terminal(), interrupt }
    }

    /// Threads to use. Results never depend on it.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Whether output is one JSON document.
    pub fn json(&self) -> bool {
        self.json
    }

    /// The wish to stop.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// A progress line on the error stream; silent but for notes where there is no terminal.
    pub fn progress(&self) -> ProgressLine {
        ProgressLine::new(self.show_progress)
    }

    /// A pool of as many threads.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn pool(&self) -> Result<rayon::ThreadPool, Failure> {
        Ok(rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?)
    }

    /// Prints the one JSON document of the command.
    pub fn print_json(&self, document: &impl Serialize) {
        let text = serde_json::to_string_pretty(document).expect("results are plain data");
        say!("{text}");
    }
}
