//! The line on the error stream that says how far the work is and how long it will take.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::study::in_words;
use crate::output;

/// Parts into which the bar divides the whole.
const PARTS: u64 = 10_000;

/// A line on the error stream that says how far the work is. Where there is no terminal it prints notes only.
#[derive(Debug)]
pub struct ProgressLine {
    bar: Option<ProgressBar>,
}

impl ProgressLine {
    /// A line, drawn only if `visible`.
    pub fn new(visible: bool) -> ProgressLine {
        let bar = visible.then(|| {
            let style =
                ProgressStyle::with_template("{bar:12} {percent:>3} %  {elapsed} {prefix}  {wide_msg}")
                    .expect("the template is well formed");
            ProgressBar::with_draw_target(Some(PARTS), ProgressDrawTarget::stderr_with_hz(8))
                .with_style(style)
        });
        ProgressLine { bar }
    }

    /// Moves the line. `done` is a share from 0 to 1, `left` the time that the rest will take if it is known; without
    /// a terminal nothing is printed, since logs want results and not every step.
    pub fn advance(&self, done: f64, left: Option<Duration>, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position((done * PARTS as f64) as u64);
            bar.set_prefix(left.map_or_else(String::new, |left| format!("{} left", in_words(left))));
            bar.set_message(message.to_owned());
        }
    }

    /// Prints a line that stays, above the progress line, to the error stream: the standard output belongs to data.
    pub fn note(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.println(message),
            None => output::message(format_args!("{message}")),
        }
    }

    /// Removes the line, before a command prints what it found.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
