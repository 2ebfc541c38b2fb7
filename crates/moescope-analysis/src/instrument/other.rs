//! Models that the subject is compared with.

use moescope_base::Subject;

use crate::AnalysisError;

/// Opens a model.
pub type Open<'a> = Box<dyn Fn() -> Result<Box<dyn Subject + Send>, AnalysisError> + Send + Sync + 'a>;

/// Another model of the same vocabulary, opened when it is looked at and closed after.
pub struct Other<'a> {
    /// Its name in tables.
    pub name: String,
    /// Steps of training after which it was kept, where that is known.
    pub step: Option<u64>,
    /// Opens it.
    pub open: Open<'a>,
}

impl Other<'_> {
    /// A name and, where it ends in `step-` and digits, the step.
    pub fn named<'a>(name: &str, open: Open<'a>) -> Other<'a> {
        let step = name.rsplit_once("step").map(|(_, step)| step.trim_start_matches(['-', '_']));
        Other { name: name.to_owned(), step: step.and_then(|step| step.parse().ok()), open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::SubjectError;

    #[test]
    fn steps_are_read_from_names() {
        let none = || -> Open<'static> {
            Box::new(|| Err(SubjectError::Input { reason: "nothing is opened here".into() }.into()))
        };
        let step = |name: &str| Other::named(name, none()).step;
        assert_eq!((step("step-000100"), step("step5000"), step("main")), (Some(100), Some(5000), None));
        assert!((Other::named("step-1", none()).open)().is_err());
    }
}
