//! How a command ends early: with a sentence for people and a code for scripts.
//!
//! Libraries have typed errors for those who handle them; at the command line all that is left to do is to tell. So
//! every error becomes a [`Failure`] by `?`, and only the exit code is a matter of choice.

use crate::exit::Exit;

/// Why a command ended without doing what was asked.
#[derive(Debug)]
pub struct Failure {
    /// What a person reads: what was found, what was wanted, the next step, and its causes on lines of their own.
    pub message: String,
    /// What a script reads; never [`Exit::Done`].
    pub exit: Exit,
}

impl Failure {
    /// Wrong usage or input.
    /// Its exit code is 2, and nothing has been changed.
    pub fn input(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), exit: Exit::Input }
    }

    /// An interruption after which the work can go on.
    /// The message says how to go on; the code tells who interrupted.
    pub fn interrupted(message: impl Into<String>, exit: Exit) -> Failure {
        Failure { message: message.into(), exit }
    }
}

/// Every error of the libraries is about input, unless a command says otherwise. Its causes are told in order, each
/// once: many messages already contain their cause.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message = format!("{message}\n  because: {text}");
            }
            cause = error.source();
        }
        Failure::input(message)
    }
}
