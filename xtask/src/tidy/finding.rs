use std::fmt;

/// Something to put right, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// File, relative to the root of the repository.
    pub(super) path: String,
    /// Line, counted from 1.
    pub(super) line: usize,
    /// What was found and what was wanted.
    pub(super) text: String,
}

impl Finding {
    pub(super) fn new(path: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// What one check says of the repository.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Name of the check.
    pub(super) check: &'static str,
    /// What was measured, in one line.
    pub(super) figures: String,
    /// What has to be put right.
    pub(super) findings: Vec<Finding>,
}
