//! What every command gets: threads, the form of its output, progress, and the wish to stop.
//!
//! It is the only way by which a command learns of the world outside its arguments, and so the place to look when a
//! result seems to depend on that world: nothing in it may decide a number.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

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
    /// Paths that the user has never seen, and what stands for each in messages.
    names: Mutex<Vec<(String, String)>>,
}

impl Context {
    /// The context of one call. `threads` of 0 means all cores that the process may use, 1 if the system does not
    /// tell. The progress line is drawn only where the error stream is a terminal.
    pub fn new(threads: usize, json: bool, no_progress: bool, interrupt: Interrupt) -> Context {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cores } else { threads };
        let show_progress = !no_progress && std::io::stderr().is_terminal();
        Context { threads, json, show_progress, interrupt, names: Mutex::default() }
    }

    /// Threads to use, 1 or more. Results never depend on it.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Whether output is one JSON document.
    pub fn json(&self) -> bool {
        self.json
    }

    /// The wish to stop, which long work looks at between its steps.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Says what to call a path in messages that the user would not know: that of a folder made for this call.
    ///
    /// Messages of libraries name the files that they read. Of a model that is not on this machine these are files of headers in a folder
    /// of temporary files, while the user has typed a name.
    pub fn name_path(&self, path: &Path, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.push((path.display().to_string(), name.to_owned()));
    }

    /// The failure with the names that the user knows in place of the paths that were [named](Context::name_path).
    pub fn in_known_names(&self, mut failure: Failure) -> Failure {
        for (path, name) in &*self.names.lock().unwrap_or_else(PoisonError::into_inner) {
            failure.message = failure.message.replace(path, name);
        }
        failure
    }

    /// A progress line on the error stream; silent but for notes where there is no terminal.
    pub fn progress(&self) -> ProgressLine {
        ProgressLine::new(self.show_progress)
    }

    /// A pool of as many threads, in which a command runs what computes.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn pool(&self) -> Result<rayon::ThreadPool, Failure> {
        Ok(rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?)
    }

    /// Prints the one JSON document of the command, indented, to the standard output. A command calls it at most
    /// once, so that the output as a whole can be parsed.
    pub fn print_json(&self, document: &impl Serialize) {
        let text = serde_json::to_string_pretty(document).expect("results are plain data");
        say!("{text}");
    }
}
