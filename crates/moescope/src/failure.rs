//! How a command ends early: with a sentence for people and a code for scripts.

use crate::exit::Exit;

/// Why a command ended without doing what was asked.
#[derive(Debug)]
pub struct Failure {
    /// What a person reads.
    pub message: String,
    /// What a script reads.
    pub exit: Exit,
}

impl Failure {
    /// Wrong usage or input.
    pub fn input(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), exit: Exit::Input }
    }

    /// An interruption after which the work can go on.
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
