use serde::{Deserialize, Serialize};

use crate::Machine;

/// What made a file: program and machine. It belongs beside results and never among them, for equal results come from many
/// machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Version of the program.
    pub version: String,
    /// Git commit that was checked out when the program was built; absent when it was built from no checkout. It does not
    /// show changes that were not committed.
    pub commit: Option<String>,
    /// Where it ran.
    pub machine: Machine,
}

impl Origin {
    /// A program on the machine that it runs on.
    pub fn here(version: &str, commit: Option<&str>) -> Origin {
        Origin { version: version.into(), commit: commit.map(str::to_owned), machine: Machine::here() }
    }
}
