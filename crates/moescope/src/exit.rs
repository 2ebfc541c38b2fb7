//! Exit codes, which scripts depend on.
//!
//! 75 is `EX_TEMPFAIL`, which batch schedulers take as "try again"; 130 is what shells report for Ctrl-C. The two are
//! kept apart because only the first should start the same command again by itself.

use std::process::ExitCode;

/// Exit codes of the program. They are part of its contract: scripts depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A threshold that was asked for is not met.
    ThresholdNotMet = 1,
    /// Wrong usage or input; nothing was changed.
    Input = 2,
    /// Interrupted by the system (SIGTERM, as from a batch scheduler); the same command with `--resume` goes on.
    Resumable = 75,
    /// Interrupted by the user (Ctrl-C); likewise resumable where the command says so.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
