use std::fmt;
use std::path::{Path, PathBuf};

/// Where models of the hub come from and where they are kept.
#[derive(Clone)]
pub struct HubSettings {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
}

impl HubSettings {
    /// As the environment has it, in the variables of the hub's own tools: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, `XDG_CACHE_HOME`.
    pub fn from_environment() -> HubSettings {
        HubSettings::from_variables(|name| std::env::var(name).ok())
    }

    /// As these variables have it; an empty one counts as absent.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> HubSettings {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| variable(name).map(|path| expand(&path, variable));
        let home = path("HF_HOME").unwrap_or_else(|| {
            let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| expand("~/.cache", variable));
            caches.join("huggingface")
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| home.join("hub"));
        let token = variable("HF_TOKEN").or_else(|| {
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            std::fs::read_to_string(file).ok().filter(|token| !token.trim().is_empty())
        });
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let on = |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.trim().to_uppercase().as_str());
        HubSettings {
            endpoint: endpoint.trim().trim_end_matches('/').into(),
            cache,
            token: token.map(|token| token.trim().into()),
            offline: variable("HF_HUB_OFFLINE").is_some_and(on),
        }
    }

    /// Address of the hub, without a slash at the end.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Folder of all models.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Whether nothing may be fetched.
    pub fn offline(&self) -> bool {
        self.offline
    }

    /// The same, with nothing to be fetched.
    pub fn without_network(self) -> HubSettings {
        HubSettings { offline: true, ..self }
    }

    /// What opens models that are not public.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

impl fmt::Debug for HubSettings {
    /// Without the token.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HubSettings { endpoint, cache, token, offline } = self;
        let mut shown = formatter.debug_struct("HubSettings");
        shown.field("endpoint", endpoint).field("cache", cache).field("offline", offline);
        shown.field("has_token", &token.is_some()).finish()
    }
}

/// A path in which `~` stands for the user's folder.
fn expand(path: &str, variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let home = variable("HOME").or_else(|| variable("USERPROFILE")).unwrap_or_else(|| ".".into());
            Path::new(&home).join(rest.trim_start_matches('/'))
        }
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(|name| {
            pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned())
        })
    }

    #[test]
    fn variables_mean_what_they_mean_to_the_hubs_own_tools() {
        let plain = of(&[("HOME", "/u")]);
        assert_eq!(plain.cache(), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(
            (plain.endpoint(), plain.offline(), plain.token()),
            ("https://huggingface.co", false, None)
        );
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/u")]).cache(), Path::new("/x/huggingface/hub"));
        assert_eq!(of(&[("HF_HOME", "~/h"), ("HOME", "/u")]).cache(), Path::new("/u/h/hub"));
        assert_eq!(of(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]).cache(), Path::new("/c"));
        let set = of(&[("HF_TOKEN", " t\n"), ("HF_HUB_OFFLINE", "true"), ("HF_ENDPOINT", "http://mirror/")]);
        assert_eq!((set.endpoint(), set.offline(), set.token()), ("http://mirror", true, Some("t")));
        assert!(!of(&[("HF_HUB_OFFLINE", "0")]).offline() && !format!("{set:?}").contains("\"t\""));
    }

    #[test]
    fn the_token_is_read_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "first\n").unwrap();
        std::fs::write(folder.path().join("other"), "second").unwrap();
        let other = folder.path().join("other");
        assert_eq!(of(&[("HF_HOME", home)]).token(), Some("first"));
        assert_eq!(
            of(&[("HF_HOME", home), ("HF_TOKEN_PATH", other.to_str().unwrap())]).token(),
            Some("second")
        );
        assert_eq!(of(&[("HF_HOME", home), ("HF_TOKEN", "third")]).token(), Some("third"));
    }
}
