//! How a configuration tells the rotary embedding: in `rope_parameters`, or in `rope_theta` and `rope_scaling`.

use serde_json::{Map, Value};

use crate::ModelError;
use crate::folder::Configuration;
use crate::scaling::Scaling;

/// Everything that a configuration says about the turn.
pub(crate) struct Rope {
    pub(crate) theta: f64,
    pub(crate) scaling: Scaling,
    /// Share of a head that turns.
    pub(crate) share: Option<f64>,
    /// Both of YaRN's factors for the length of scores are folded into the turn by most families; DeepSeek scales scores by the
    /// square of this one instead.
    pub(crate) score_magnitude: f64,
    /// How many positions the scaling allows for; none where there is no scaling.
    pub(crate) positions: Option<usize>,
}

/// Reads the turn.
///
/// `rope_scaling` goes before `rope_parameters` where both are there, as in the reference implementation.
///
/// # Errors
/// [`ModelError::Configuration`] for a part that is missing, mistyped, or not known.
pub(crate) fn read(configuration: &Configuration, default_theta: f64) -> Result<Rope, ModelError> {
    let mut parts = Map::new();
    let mut key = "rope_parameters";
    for name in ["rope_parameters", "rope_scaling"] {
        match configuration.get(name) {
            None => continue,
            Some(Value::Object(object)) if object.is_empty() => continue,
            Some(Value::Object(object)) => (parts, key) = (object.clone(), name),
            Some(other) => return Err(configuration.complain(name, other, "an object or null")),
        }
    }
    let parts = Parts { configuration, key, parts };
    let theta = match parts.number("rope_theta")? {
        Some(theta) => Some(theta),
        None => configuration.number_if("rope_theta")?,
    };
    let share = match parts.number("partial_rotary_factor")? {
        Some(share) => Some(share),
        None => configuration.number_if("partial_rotary_factor")?.or(configuration.number_if("rotary_pct")?),
    };
    let longest = configuration.size_if("max_position_embeddings")?.unwrap_or(0);
    let (scaling, positions) = parts.scaling(longest)?;
    let score_magnitude = match (&scaling, parts.number("mscale_all_dim")?) {
        (Scaling::None, _) | (_, None) => 1.0,
        (_, Some(weight)) => magnitude(parts.number("factor")?.unwrap_or(1.0), weight),
    };
    Ok(Rope { theta: theta.unwrap_or(default_theta), scaling, share, score_magnitude, positions })
}

/// By how much longer sequences lengthen scores (Peng et al. 2023); a weight of zero counts as one that is not there.
pub(super) fn magnitude(factor: f64, weight: f64) -> f64 {
    if factor <= 1.0 || weight == 0.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 }
}

/// The object that tells the turn, and where it stands.
struct Parts<'c> {
    configuration: &'c Configuration,
    key: &'static str,
    parts: Map<String, Value>,
}

impl Parts<'_> {
    /// The key as it stands in the file, its table included: what a person has to look for.
    fn named(&self, part: &str) -> String {
        format!("{}.{part}", self.key)
    }

    /// The value of a key, wherever the spelling of the file puts it.
    fn get(&self, part: &str) -> Option<&Value> {
        self.parts.get(part).filter(|value| !value.is_null())
    }

    /// An error that names the key, what was found there and what was wanted.
    fn complain(&self, part: &str, found: impl ToString, wanted: &str) -> ModelError {
        self.configuration.complain(&self.named(part), found, wanted)
    }

    /// A number, if the key is there; anything else under it is an error.
    fn number(&self, part: &str) -> Result<Option<f64>, ModelError> {
        let read = |value: &Value| value.as_f64().ok_or_else(|| self.complain(part, value, "a number"));
        self.get(part).map(read).transpose()
    }

    /// A number without which the scaling means nothing.
    fn need(&self, part: &str) -> Result<f64, ModelError> {
        self.number(part)?.ok_or_else(|| self.complain(part, "absent", "a number"))
    }

    /// A list of numbers, one for each pair of coordinates that turn together.
    fn numbers(&self, part: &str) -> Result<Vec<f64>, ModelError> {
        let list = self.get(part).and_then(Value::as_array);
        let list = list.and_then(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
        list.ok_or_else(|| self.complain(part, "absent or no list", "a list of numbers"))
    }

    /// Length of training: a key of the model, or a part of this object, or the longest sequence.
    fn original(&self, longest: usize) -> Result<usize, ModelError> {
        if let Some(original) = self.configuration.size_if("original_max_position_embeddings")? {
            return Ok(original);
        }
        Ok(self.number("original_max_position_embeddings")?.map_or(longest, |original| original as usize))
    }

    /// The scaling, and the positions that it allows for.
    fn scaling(&self, longest: usize) -> Result<(Scaling, Option<usize>), ModelError> {
        let kind = ["rope_type", "type"].into_iter().find_map(|name| Some((name, self.get(name)?)));
        let (name, kind) =
            kind.map_or(("rope_type", "default"), |(name, kind)| (name, kind.as_str().unwrap_or("")));
        let (known, scaling): (&[&str], Scaling) = match kind {
            "default" => (&[], Scaling::None),
            "linear" => (&["factor"], Scaling::Linear { factor: self.need("factor")? }),
            "dynamic" => (&["factor"], Scaling::Dynamic { factor: self.need("factor")?, original: longest }),
            "yarn" => (&YARN, self.yarn(longest)?),
            "llama3" => (&LLAMA3, self.llama3(longest)?),
            "longrope" => (&LONG, self.long(longest)?),
            _ => {
                let wanted = "`default`, `linear`, `dynamic`, `yarn`, `llama3` or `longrope`";
                return Err(self.complain(name, kind, wanted));
            }
        };
        let usual = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        let strange = |part: &&String| {
            !usual.contains(&part.as_str())
                && !known.contains(&part.as_str())
                // Written by several tools beside scalings that do not read it.
                && part.as_str() != "original_max_position_embeddings"
                && self.get(part).is_some()
        };
        if let Some(part) = self.parts.keys().find(strange) {
            return Err(self.complain(part, &self.parts[part], "absent: this effect is not reproduced"));
        }
        let factor = self.number("factor")?.unwrap_or(1.0).max(1.0);
        let original = if kind == "yarn" || kind == "llama3" { self.original(longest)? } else { longest };
        let positions = match kind {
            "linear" | "dynamic" | "yarn" | "llama3" => Some((original as f64 * factor) as usize),
            _ => None,
        };
        Ok((scaling, positions))
    }

    /// Source: Peng et al. 2023, "YaRN", section 3: low frequencies are stretched, high ones kept, and scores grow by a constant.
    fn yarn(&self, longest: usize) -> Result<Scaling, ModelError> {
        let original = self.original(longest)?;
        let factor = match self.number("factor")? {
            Some(factor) => factor,
            None => longest as f64 / original.max(1) as f64,
        };
        let weights = (self.number("mscale")?, self.number("mscale_all_dim")?);
        let magnitude = match (self.number("attention_factor")?, weights) {
            (Some(given), _) => given,
            (None, (Some(over), Some(under))) if over != 0.0 && under != 0.0 => {
                magnitude(factor, over) / magnitude(factor, under)
            }
            _ => magnitude(factor, 1.0),
        };
        let bound = |part: &str, usual: f64| {
            Ok::<f64, ModelError>(self.number(part)?.filter(|turns| *turns != 0.0).unwrap_or(usual))
        };
        let truncate = match self.get("truncate") {
            None => true,
            Some(value) => {
                value.as_bool().ok_or_else(|| self.complain("truncate", value, "true or false"))?
            }
        };
        Ok(Scaling::Yarn {
            factor,
            original,
            beta_fast: bound("beta_fast", 32.0)?,
            beta_slow: bound("beta_slow", 1.0)?,
            truncate,
            magnitude,
        })
    }

    /// Source: Grattafiori et al. 2024, "The Llama 3 Herd of Models": as YaRN without the constant, between two wavelengths.
    fn llama3(&self, longest: usize) -> Result<Scaling, ModelError> {
        Ok(Scaling::Llama3 {
            factor: self.need("factor")?,
            low: self.need("low_freq_factor")?,
            high: self.need("high_freq_factor")?,
            original: self.original(longest)?,
        })
    }

    /// Source: Ding et al. 2024, "LongRoPE": a factor of its own for each frequency, found by search.
    fn long(&self, longest: usize) -> Result<Scaling, ModelError> {
        let original = self.original(longest)?;
        let factor = match self.number("factor")? {
            Some(factor) => factor,
            None => longest as f64 / original.max(1) as f64,
        };
        let usual = match self.number("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
        };
        Ok(Scaling::Long {
            short: self.numbers("short_factor")?,
            long: self.numbers("long_factor")?,
            original,
            short_magnitude: self.number("short_mscale")?.unwrap_or(usual),
            long_magnitude: self.number("long_mscale")?.unwrap_or(usual),
        })
    }
}

const YARN: [&str; 7] =
    ["factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"];
const LLAMA3: [&str; 3] = ["factor", "low_freq_factor", "high_freq_factor"];
const LONG: [&str; 6] =
    ["factor", "attention_factor", "short_factor", "long_factor", "short_mscale", "long_mscale"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rope(keys: Value) -> Result<Rope, ModelError> {
        read(&Configuration::of(keys), 5.0)
    }

    #[test]
    fn theta_is_read_both_ways() {
        let theta = |keys| rope(keys).unwrap().theta;
        assert_eq!(theta(json!({})), 5.0);
        assert_eq!(theta(json!({"rope_theta": 7.0, "rope_scaling": null})), 7.0);
        assert_eq!(theta(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}})), 9.0);
        let both = json!({"rope_theta": 7.0, "rope_scaling": {"type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}});
        assert_eq!(theta(both.clone()), 7.0);
        assert_eq!(rope(both).unwrap().scaling, Scaling::Linear { factor: 2.0 });
    }

    #[test]
    fn yarn_knows_its_defaults_and_deepseek_its_two_magnitudes() {
        let yarn = json!({"max_position_embeddings": 64, "rope_scaling": {"type": "yarn", "factor": 4.0}});
        let found = rope(yarn).unwrap();
        let Scaling::Yarn { original: 64, beta_fast: 32.0, truncate: true, magnitude, .. } = found.scaling
        else {
            panic!("{:?}", found.scaling)
        };
        assert!((magnitude - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
        assert_eq!((found.positions, found.score_magnitude), (Some(256), 1.0));
        let deepseek = json!({"max_position_embeddings": 64, "rope_parameters":
            {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.7}});
        let found = rope(deepseek).unwrap();
        assert!(matches!(found.scaling, Scaling::Yarn { magnitude: 1.0, .. }));
        assert!((found.score_magnitude - (0.07 * 4f64.ln() + 1.0)).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_known_is_an_error_that_names_it() {
        let refused = |keys: Value, part: &str| {
            let error = rope(keys).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(json!({"rope_scaling": {"type": "mrope"}}), "rope_scaling.type");
        refused(json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor");
        let nested = json!({"rope_parameters": {"full_attention": {"rope_theta": 9.0}}});
        refused(nested, "rope_parameters.full_attention");
        refused(json!({"rope_scaling": {"type": "linear", "factor": 2, "twist": 1}}), "rope_scaling.twist");
    }
}
