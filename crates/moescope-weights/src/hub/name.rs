use std::fmt;

/// Name of a model on the hub, with a revision: a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    organisation: String,
    name: String,
    revision: String,
}

impl ModelName {
    /// Reads `org/name` or `org/name@revision`; without one the revision is `main`. `None` for what cannot be such a name: a
    /// path, for one.
    pub fn parse(text: &str) -> Option<ModelName> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (organisation, name) = repository.split_once('/')?;
        let plain = |part: &str, also: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
            !part.is_empty()
                && part.len() <= 96
                && !part.starts_with(['.', '-'])
                && !part.contains("..")
                && part.chars().all(fits)
        };
        // The names of revisions may be paths of their own, such as `refs/pr/1`.
        let fits = plain(organisation, "-_.") && plain(name, "-_.") && plain(revision, "-_./");
        fits.then(|| ModelName {
            organisation: organisation.into(),
            name: name.into(),
            revision: revision.into(),
        })
    }

    /// `org/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether the revision is a whole commit, which never moves on.
    pub fn is_commit(&self) -> bool {
        self.revision.len() == 40 && self.revision.chars().all(|c| c.is_ascii_hexdigit())
    }

    /// Name of its folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}--{}", self.organisation, self.name)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.repository(), self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_two_parts_and_perhaps_a_revision() {
        let parsed = |text| ModelName::parse(text).map(|name| name.to_string());
        assert_eq!(parsed("allenai/OLMoE-1B-7B-0924").unwrap(), "allenai/OLMoE-1B-7B-0924@main");
        assert_eq!(parsed("a/b@refs/pr/1").unwrap(), "a/b@refs/pr/1");
        for path in [
            "model",
            "./a/b",
            "../b",
            "a/b/c",
            "/a/b",
            "a/",
            "a/b@",
            "a b/c",
            "a/..",
            "a/b@../../x",
            "runs/.hidden",
        ] {
            assert_eq!(parsed(path), None, "{path}");
        }
        assert!(ModelName::parse(&format!("a/b@{}", "0a".repeat(20))).unwrap().is_commit());
        assert_eq!(ModelName::parse("a/b").unwrap().folder(), "models--a--b");
    }
}
