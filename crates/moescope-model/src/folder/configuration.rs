//! Reading `config.json`: typed, with every complaint naming the key.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ModelError;

/// The contents of a configuration file.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    path: PathBuf,
    keys: Map<String, Value>,
    /// Keys that somebody has asked for.
    #[cfg(test)]
    asked: std::sync::Arc<std::sync::Mutex<std::collections::BTreeSet<String>>>,
}

impl Configuration {
    /// Reads `config.json` of a model folder.
    pub(crate) fn read(folder: &Path) -> Result<Configuration, ModelError> {
        let path = folder.join("config.json");
        let text = moescope_host::read_text(&path)?;
        let keys =
            serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.clone(), source })?;
        Ok(Configuration::new(path, keys))
    }

    /// The keys that such a file would have, for a model that has none; `path` is what to name in messages.
    pub(crate) fn new(path: PathBuf, keys: Map<String, Value>) -> Configuration {
        Configuration {
            path,
            keys,
            #[cfg(test)]
            asked: Default::default(),
        }
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        #[cfg(test)]
        self.asked.lock().unwrap().insert(key.into());
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there at all, be it null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// The first of several spellings that is there.
    pub(crate) fn size_of(&self, spellings: &[&str]) -> Result<usize, ModelError> {
        let key = spellings.iter().find(|key| self.get(key).is_some()).unwrap_or(&spellings[0]);
        match self.size_if(key)? {
            Some(size) => Ok(size),
            None => Err(self.complain(key, if self.has(key) { "null" } else { "absent" }, "a whole number")),
        }
    }

    /// A whole number that must be there.
    pub(crate) fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.size_of(&[key])
    }

    /// A whole number, if the key is there; another type is an error, never a missing key.
    pub(crate) fn size_if(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.typed(key, "a whole number up to 2147483648", |value| value.as_u64().and_then(size))
    }

    /// A number, whole or not, if the key is there.
    pub(crate) fn number_if(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// True or false; false when the key is absent, as in the reference implementations.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, ModelError> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// A text, if the key is there.
    pub(crate) fn text_if(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.typed(key, "a text", Value::as_str)
    }

    /// A list of whole numbers; empty when the key is absent.
    pub(crate) fn sizes(&self, key: &str) -> Result<Vec<usize>, ModelError> {
        let list = |value: &Value| {
            value.as_array()?.iter().map(|n| n.as_u64().and_then(size)).collect::<Option<Vec<_>>>()
        };
        Ok(self.typed(key, "a list of whole numbers", list)?.unwrap_or_default())
    }

    /// The value of a key through `read`, which answers `None` for a wrong type.
    fn typed<'v, T>(
        &'v self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'v Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.complain(key, value, wanted)),
        }
    }

    /// The error about one key of this file.
    pub(crate) fn complain(&self, key: &str, found: impl ToString, wanted: impl Into<String>) -> ModelError {
        ModelError::Configuration {
            path: self.path.clone(),
            key: key.into(),
            found: found.to_string(),
            wanted: wanted.into(),
        }
    }
}

/// Sizes above this make no model; below it the product of two overflows nowhere.
const LARGEST: u64 = 1 << 31;

/// A size, if it is one.
fn size(number: u64) -> Option<usize> {
    (number <= LARGEST).then_some(number as usize)
}

#[cfg(test)]
impl Configuration {
    /// A configuration written in a test.
    pub(crate) fn of(keys: Value) -> Configuration {
        let Value::Object(keys) = keys else { panic!("a configuration is an object") };
        Configuration::new("config.json".into(), keys)
    }

    /// All keys with their values.
    pub(crate) fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }

    /// Keys that somebody has asked for.
    pub(crate) fn asked(&self) -> std::collections::BTreeSet<String> {
        self.asked.lock().unwrap().clone()
    }
}
